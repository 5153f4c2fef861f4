"""One attempt at a stage: the function that runs in this process, in a Submitit job or on a Slurm node."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import fcntl
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rslit.errors import RslitError
from rslit.recipes.state import StageState, write_state

__all__ = ["StageJob", "hold_stage", "now"]

_GRACE_SECONDS = 10.0
_LOCK_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class StageJob:
    """Runs a stage's command as a process group of its own and records how it went.

    The process never outlives those who wait for it: when the recipe's runner is gone the group is ended, and when
    this very process is killed the kernel sends the command SIGTERM (Linux). Until then the stage's lock is held, also
    by the command itself, so a later run waits for what an earlier one left behind.

    Attributes:
        folder: The stage's folder.
        program: What `command` is given to.
        state: What `stage.json` says while the stage runs, but for the time.
        place: "inline" in the runner's process, "local" in a Submitit process beside it, "slurm" on a node.
        live: Whether the command shares this process's output; if not it is added to `log.txt`.
        runner: Process id of the recipe's runner, watched where the place is "local".
        environ: Variables set for the command; None removes one.
    """

    folder: Path
    program: list[str]
    state: StageState
    place: Literal["inline", "local", "slurm"] = "inline"
    live: bool = False
    runner: int = 0
    environ: dict[str, str | None] = field(default_factory=dict)

    def __call__(self) -> None:
        """Makes the attempt.

        Raises:
            RslitError: An earlier attempt is still alive.
        """
        if self.place == "local":
            # Submitit ignores SIGTERM, which its local controller hands on and Slurm sends before a requeue.
            signal.signal(signal.SIGTERM, _interrupt_once)
        if self.place == "slurm" and os.environ.get("SLURM_PROCID", "0") != "0":
            # Lightning wants one process per device; the first one speaks for all.
            with self._output(f"log.{os.environ['SLURM_PROCID']}.txt") as output:
                self._run(output, ())
            return
        with hold_stage(self.folder) as lock, self._output("log.txt") as output:
            state = replace(self.state, started=now())
            write_state(self.folder, state)
            start = time.monotonic()
            returncode = self._run(output, (lock,))
            if returncode is not None:
                write_state(
                    self.folder,
                    replace(
                        state,
                        state="failed" if returncode else "done",
                        finished=now(),
                        seconds=round(time.monotonic() - start, 3),
                        returncode=returncode,
                    ),
                )

    def checkpoint(self) -> Any:
        """Tells Submitit to requeue this very job when Slurm pre-empts it or its time is up."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _run(self, output: int | None, inherited: tuple[int, ...]) -> int | None:
        """Exit code of the command, or None if it was ended because the runner is gone."""
        unbuffered = {} if self.live else {"PYTHONUNBUFFERED": "1"}
        environ = {**os.environ, **unbuffered, **self.environ}
        process = subprocess.Popen(
            [*self.program, *self.state.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env={name: value for name, value in environ.items() if value is not None},
            pass_fds=inherited,
            process_group=0,
            preexec_fn=_child_setup(os.getpid()),
        )
        try:
            if self.place == "local" and _runner_ends_first(process.pid, self.runner):
                _end_group(process)
                return None
            returncode = process.wait()
        except BaseException:
            _end_group(process)
            raise
        if returncode:
            _kill_group(process.pid)
        return returncode

    @contextlib.contextmanager
    def _output(self, name: str) -> Iterator[int | None]:
        if self.live:
            yield None
            return
        with (self.folder / name).open("ab") as log:
            log.write(f"=== {now()} {shlex.join(self.state.command)}\n".encode())
            log.flush()
            yield log.fileno()


@contextlib.contextmanager
def hold_stage(folder: Path, patience: float = _LOCK_SECONDS) -> Iterator[int]:
    """Holds a stage's lock, waiting for what an earlier, killed run may have left running.

    Args:
        folder: The stage's folder.
        patience: How long to wait, in seconds.

    Yields:
        The lock's file descriptor: a process that inherits it holds the lock too.

    Raises:
        RslitError: The lock was not released in time.
    """
    with (folder / ".lock").open("a") as file:
        deadline = time.monotonic() + patience
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise RslitError(
                    f"stage '{folder.name}': a process of an earlier run still holds {folder / '.lock'}; "
                    f"find it with 'fuser {folder / '.lock'}' and end it, then run again"
                )
            time.sleep(0.1)
        yield file.fileno()


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _interrupt_once(number: int, frame: object) -> None:
    # The runner repeats the signal in case we missed it; a repetition must not cut the command's grace short.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _child_setup(parent: int) -> Callable[[], None]:
    def setup() -> None:
        # The runner shields its Submitit processes from Ctrl-C; Submitit's time-out signal and the terminal's
        # wish to stop writers in the background are not for the command.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    return setup


def _runner_ends_first(child: int, runner: int) -> bool:
    """Waits for the child or the runner to end, whichever is first (Linux; elsewhere the runner is not watched)."""
    if sys.platform != "linux":
        return False
    try:
        runner_handle = os.pidfd_open(runner)
    except ProcessLookupError:
        return True
    child_handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(runner_handle, select.POLLIN)
        poll.register(child_handle, select.POLLIN)
        ended = {handle for handle, _ in poll.poll()}
        return child_handle not in ended
    finally:
        os.close(runner_handle)
        os.close(child_handle)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Asks the command to end, waits a while, then kills what is left of its group; a second Ctrl-C kills at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(_GRACE_SECONDS)
    finally:
        _kill_group(process.pid)
        process.wait()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
