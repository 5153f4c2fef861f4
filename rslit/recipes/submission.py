"""Hands stages over to Submitit: processes beside this one, or Slurm jobs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from rslit.errors import RslitError
from rslit.recipes.job import StageJob, now
from rslit.recipes.recipe import Recipe
from rslit.recipes.state import StageState, Task, write_json, write_state

__all__ = ["Job", "Submission"]

_FOREVER_MINUTES = 60 * 24 * 365  # Submitit ends a local job after two minutes unless told otherwise.
_STOP_SECONDS = 20.0


class Job(Protocol):
    """What the runner asks of a submitted stage; Submitit's jobs have more."""

    def done(self) -> bool:
        """Whether the attempt is over, for better or worse."""
        ...


class _Inline:
    """A stage that runs in this process, when first asked whether it is done.

    Submitit's own in-process executor would do the same, but opens a debugger when something is raised and leaves two
    log files open for every job.
    """

    def __init__(self, job: StageJob) -> None:
        self._job = job

    def done(self) -> bool:
        self._job()
        return True


class Submission:
    """Submits the stages of a recipe.

    With one local job at a time the command is started from this very process and can own the terminal. With several,
    each goes through Submitit's local executor, and on Slurm through its Slurm executor. Dependencies stay with the
    runner, which submits a stage once those it needs are done: an `afterok` in Slurm's queue would neither see a
    requeue nor leave the queue when a needed stage fails.

    Args:
        recipe: The recipe.
        root: Folder of the stages' folders; Submitit's own files go to `.submitit` in it.
        cluster: "local" or "slurm".
        jobs: How many run at a time.
        program: What the commands are given to.
        live: Whether a stage that runs in this process shares its output.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        cluster: Literal["local", "slurm"],
        jobs: int,
        program: Sequence[str],
        live: bool,
    ) -> None:
        self._recipe = recipe
        self._root = root
        self._folder = root / ".submitit"
        self._cluster = cluster
        self._program = list(program)
        self._live = live
        self._inline = cluster == "local" and jobs == 1
        self._environs = _local_environs(jobs) if cluster == "local" and jobs > 1 else [{}]

    def check(self, names: Iterable[str]) -> None:
        """Checks the Slurm parameters of stages.

        Raises:
            RslitError: There is no Slurm here, or a parameter is unknown or of the wrong type.
        """
        if self._cluster == "slurm":
            for name in names:
                self._slurm_executor(name)

    def submit(self, task: Task, slot: int) -> Job:
        """Submits a stage.

        Args:
            task: The stage.
            slot: Which of the parallel jobs it is, from 0: jobs of one slot never overlap.
        """
        task.folder.mkdir(parents=True, exist_ok=True)
        state = StageState("running", list(task.command), task.fingerprint, task.inputs, now())
        write_state(task.folder, state)
        if self._inline:
            return _Inline(StageJob(task.folder, self._program, state, live=self._live))
        if self._cluster == "slurm":
            slurm_job = self._slurm_executor(task.name).submit(StageJob(task.folder, self._program, state, "slurm"))
            write_json(self._folder / f"{task.name}.json", {"job": slurm_job.job_id})
            return cast(Job, slurm_job)
        import submitit

        executor = submitit.AutoExecutor(folder=self._folder, cluster="local")
        executor.update_parameters(name=task.name, timeout_min=_FOREVER_MINUTES)
        environ = self._environs[slot % len(self._environs)]
        stage_job = StageJob(task.folder, self._program, state, "local", runner=os.getpid(), environ=environ)
        with _ignoring_interrupts():
            return cast(Job, executor.submit(stage_job))

    def living(self, name: str) -> Any | None:
        """The Slurm job in which a killed runner left a stage, if it is still queued or running."""
        try:
            number = json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))["job"]
        except FileNotFoundError:
            return None
        if self._cluster != "slurm":
            raise RslitError(
                f"stage '{name}' in {self._root} was left to Slurm as job {number}; go on with --cluster slurm, or end "
                f"the job and delete {self._folder / f'{name}.json'}"
            )
        import submitit

        job = submitit.SlurmJob(folder=self._folder, job_id=number)
        return None if job.done(force_check=True) else job

    def ended(self, name: str) -> None:
        """Notes that a stage's job is over."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def stop(self, jobs: Collection[Any]) -> None:
        """Ends submitted jobs: Slurm's are cancelled, local ones are asked to end their command and waited for."""
        if self._cluster == "slurm":
            for job in jobs:
                job.cancel(check=False)
        elif not self._inline:
            deadline = time.monotonic() + _STOP_SECONDS
            while alive := [job for job in jobs if not job.done()]:
                number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
                for job in alive:
                    # Repeated, as a job that is just starting may miss it. A local job's id is its process's.
                    os.kill(int(job.job_id), number)
                time.sleep(0.2)

    def _slurm_executor(self, name: str) -> Any:
        import submitit

        parameters = {**self._recipe.slurm, **self._recipe.stages[name].slurm}
        # Submitit takes this one when the executor is made, and the others afterwards.
        limit = {key: parameters.pop(key) for key in ("slurm_max_num_timeout",) if key in parameters}
        try:
            if not all(isinstance(number, int) for number in limit.values()):
                raise TypeError("slurm_max_num_timeout must be a whole number")
            executor = submitit.AutoExecutor(folder=self._folder, cluster="slurm", **limit)
            executor.update_parameters(**{"name": f"{self._recipe.name}-{name}", **parameters})
        except RuntimeError as error:
            raise RslitError(f"--cluster slurm: {error}; run this where srun and sbatch are, or locally") from None
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise RslitError(
                f"recipe {self._recipe.path}: 'slurm' of stage '{name}': {str(error).splitlines()[0]:.400}; use "
                "Submitit's names, such as timeout_min, gpus_per_node or slurm_partition"
            ) from None
        return executor


def _local_environs(jobs: int) -> list[dict[str, str | None]]:
    """Variables for each of the jobs that share this machine.

    Submitit's local executor hides all GPUs. We give them back, one to each job in turn if there are several, and
    share out the processor cores unless the user did.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [word for word in visible.split(",") if word] if visible is not None else _gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    choices: list[str | None] = (
        [devices[slot % len(devices)] for slot in range(jobs)] if len(devices) > 1 else [visible]
    )
    return [{"CUDA_VISIBLE_DEVICES": choice, "OMP_NUM_THREADS": threads} for choice in choices]


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    return [str(index) for index, line in enumerate(listing.stdout.splitlines()) if line.startswith("GPU ")]


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """What is started meanwhile ignores Ctrl-C, which the terminal would send it beside us: we end it ourselves."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
