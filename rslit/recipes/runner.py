"""Runs the stages of a recipe: what is done is skipped, what was interrupted goes on, the rest waits for its needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from rslit.errors import RslitError
from rslit.recipes.job import hold_stage, now
from rslit.recipes.progress import Lines, Outcome, StatusTable, shown_path
from rslit.recipes.recipe import Recipe
from rslit.recipes.state import Task, plan, read_state, set_aside, write_state
from rslit.recipes.submission import Job, Submission

__all__ = ["PROGRAM", "Runner"]

PROGRAM = (sys.executable, "-m", "rslit")

_INTERRUPTED = 130  # what shells report for a program ended by Ctrl-C
_SLURM_LAG_SECONDS = 15.0


class Runner:
    """Runs a recipe.

    Args:
        recipe: The recipe with its variables set.
        root: Folder of the stages' folders.
        jobs: How many stages may run at a time; by default one locally, and all that can on Slurm.
        cluster: "local" or "slurm".
        retries: How often a stage that failed is tried again before its failure counts.
        program: What the stages' commands are given to.
        console: Where to write; the terminal by default.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        *,
        jobs: int | None = None,
        cluster: Literal["local", "slurm"] = "local",
        retries: int = 0,
        program: Sequence[str] = PROGRAM,
        console: Console | None = None,
    ) -> None:
        self.recipe = recipe
        self.root = root.absolute()
        self.jobs = jobs or (1 if cluster == "local" else len(recipe.stages))
        self.cluster = cluster
        self.retries = retries
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        # Not is_terminal: FORCE_COLOR makes that true of a file.
        self._terminal = self.console.file.isatty()
        self._live = self.jobs == 1 and cluster == "local" and self._terminal
        self._submission = Submission(recipe, self.root, cluster, self.jobs, program, self._live)

    def run(self, redo: Collection[str] = ()) -> int:
        """Runs what is to be run.

        Args:
            redo: Stages to make anew, with all that need them; their folders are moved aside.

        Returns:
            0 if every stage is done, 1 if one failed, 130 if interrupted.

        Raises:
            RslitError: Something is wrong with the recipe, the root or the cluster; nothing was run.
        """
        plan(self.recipe, self.root, redo)  # before anything is written
        self.root.mkdir(parents=True, exist_ok=True)
        with _root_lock(self.root), _terminations_as_interrupts():
            tasks = self._prepare(redo)
            view = self._view(tasks)
            outcomes, interrupted = self._run_all(tasks, view)
            view.summary(outcomes)
            self._point_to_front(tasks[-1], outcomes)
        if interrupted:
            self.console.print("interrupted; the same command goes on from here")
            return _INTERRUPTED
        if failed := [name for name, outcome in outcomes.items() if outcome.state == "failed"]:
            self.console.print(f"failed: {', '.join(failed)}; the next call tries again", soft_wrap=True)
        return int(bool(failed))

    def _prepare(self, redo: Collection[str]) -> list[Task]:
        tasks = plan(self.recipe, self.root, redo)
        self._submission.check(task.name for task in tasks if task.action != "skip")
        for task in tasks:
            if (job := self._submission.living(task.name)) is not None and task.action == "run":
                raise RslitError(f"stage '{task.name}' is still job {job.job_id} on Slurm; scancel it before --redo")
            if self.cluster == "local" and task.folder.is_dir():
                self._await_orphans(task.folder)
        for name, place in set_aside(self.recipe, self.root, redo):
            self.console.print(f"--redo: moved {shown_path(self.root / name)} to {shown_path(place)}", soft_wrap=True)
        return tasks

    def _await_orphans(self, folder: Path) -> None:
        try:
            with hold_stage(folder, patience=1.0):
                return
        except RslitError:
            self.console.print(f"waiting for what an earlier run left running in {shown_path(folder)}", soft_wrap=True)
        with hold_stage(folder):
            pass

    def _view(self, tasks: Sequence[Task]) -> Lines:
        if self._terminal and not self._live:
            return StatusTable(self.console, tasks)
        return Lines(self.console, tasks, self._live)

    def _run_all(self, tasks: Sequence[Task], view: Lines) -> tuple[dict[str, Outcome], bool]:
        waiting = {task.name: task for task in tasks}
        running: dict[str, tuple[Task, Job, int, float]] = {}
        outcomes: dict[str, Outcome] = {}
        retries = dict.fromkeys(waiting, self.retries)
        with view:
            try:
                while waiting or running:
                    self._advance(waiting, running, outcomes, view)
                    view.refresh({name: entry[3] for name, entry in running.items()}, outcomes)
                    for name, (task, job, _, _) in list(running.items()):
                        if job.done():
                            outcome = self._collect(task, job, view)
                            del running[name]
                            self._submission.ended(name)
                            if outcome.state == "failed" and retries[name]:
                                retries[name] -= 1
                                waiting[name] = replace(task, action="resume")
                            else:
                                outcomes[name] = outcome
                    if running:
                        time.sleep(0.1)
                view.refresh({}, outcomes)
            except KeyboardInterrupt:
                with contextlib.suppress(KeyboardInterrupt):  # a second one: do not wait
                    self._submission.stop([entry[1] for entry in running.values()])
                for name in running:
                    self._submission.ended(name)
                    outcomes[name] = Outcome("interrupted")
                    view.ended(name, outcomes[name])
                outcomes |= {name: Outcome("not run") for name in waiting}
                return outcomes, True
            except BaseException:
                self._submission.stop([entry[1] for entry in running.values()])
                raise
        return outcomes, False

    def _advance(
        self,
        waiting: dict[str, Task],
        running: dict[str, tuple[Task, Job, int, float]],
        outcomes: dict[str, Outcome],
        view: Lines,
    ) -> None:
        """Settles every waiting stage whose fate is known, then starts those that can be."""
        for name, task in list(waiting.items()):
            lost = [need for need in task.needs if need in outcomes and not outcomes[need].state.startswith("done")]
            if task.action == "skip":
                outcomes[name] = Outcome("done before", task.seconds)
            elif lost:
                outcomes[name] = Outcome("not run", note=f"needs {', '.join(lost)}")
            else:
                continue
            del waiting[name]
            view.ended(name, outcomes[name])
        for name, task in list(waiting.items()):
            if len(running) < self.jobs and all(need in outcomes for need in task.needs):
                slot = min(set(range(self.jobs)) - {entry[2] for entry in running.values()})
                view.started(task)
                begun = time.monotonic()
                job = self._submission.living(name) or self._submission.submit(task, slot)
                del waiting[name]
                running[name] = (task, job, slot, begun)

    def _collect(self, task: Task, job: Any, view: Lines) -> Outcome:
        """How the attempt ended, as it wrote into `stage.json` itself."""
        deadline = time.monotonic() + (_SLURM_LAG_SECONDS if self.cluster == "slurm" else 0)
        while (state := read_state(task.folder)) is not None and state.state == "running":
            if time.monotonic() >= deadline:
                break
            time.sleep(0.5)
        log = task.folder / "log.txt"
        if state is None or state.state == "running":
            # Killed before it could say so; what Submitit caught of it is all there is.
            if state is not None:
                write_state(task.folder, replace(state, state="failed", finished=now()))
            outcome = Outcome("failed", note="its job was killed")
            log = job.paths.stderr if job.paths.stderr.is_file() and not log.is_file() else log
        elif state.state == "failed":
            outcome = Outcome("failed", state.seconds, _reason(state.returncode))
        else:
            outcome = Outcome("done", state.seconds)
        view.ended(task.name, outcome)
        if outcome.state == "failed":
            view.failure(task.name, None if self._live else log)
        return outcome

    def _point_to_front(self, task: Task, outcomes: dict[str, Outcome]) -> None:
        if task.command[0] == "front" and outcomes[task.name].state.startswith("done"):
            words = [word for part in task.command for word in part.split("=", 1)]
            out = Path(words[words.index("--out") + 1]) if "--out" in words[:-1] else task.folder
            page = out.absolute() / "front.html"
            if page.is_file():
                self.console.print(f"\nfront: {shown_path(page)}", soft_wrap=True)


def _reason(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"


@contextlib.contextmanager
def _root_lock(root: Path) -> Iterator[None]:
    """Keeps other runners off this root; the kernel frees the lock however we end."""
    with (root / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another rslit recipe"
            raise RslitError(f"{root} is in use by {owner}; wait for it or use another --root") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def _terminations_as_interrupts() -> Iterator[None]:
    """SIGTERM and a closed terminal end the run as Ctrl-C does, unless they are being ignored (nohup)."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
