from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import submitit

from rslit.errors import RslitError
from rslit.recipes.state import read_state

RECIPE = """
name: exp
slurm: {timeout_min: 60, slurm_partition: gpu, gpus_per_node: 1}
stages:
  one:
    run: fit --folder {one} --ticks 20
    slurm: {timeout_min: 600, mem_gb: 32, tasks_per_node: 1, slurm_max_num_timeout: 9}
  bad: {run: "fit --exit 3"}
  two: {needs: [one], run: "fit --folder {two}"}
  lost: {needs: [bad], run: "fit --folder {lost}"}
"""

Start = Callable[..., tuple[int, str]]


class FakeExecutor:
    """Takes what a Slurm executor takes and runs a job when asked for the second time whether it is done."""

    made: ClassVar[list[FakeExecutor]] = []
    submitted: ClassVar[list[tuple[str, list[str]]]] = []

    def __init__(self, folder: Path, cluster: str, slurm_max_num_timeout: int = 3) -> None:
        self.folder, self.cluster, self.timeouts = folder, cluster, slurm_max_num_timeout
        self.parameters: dict[str, Any] = {}
        self.folder.mkdir(exist_ok=True)
        self.made.append(self)

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters |= parameters

    def submit(self, function: Callable[[], None]) -> FakeJob:
        root = self.folder.parent
        states = {path.parent.name: read_state(path.parent) for path in root.glob("*/stage.json")}
        done = sorted(name for name, state in states.items() if state is not None and state.state == "done")
        self.submitted.append((self.parameters["name"], done))
        return FakeJob(function)


class FakeJob:
    job_id = "77"

    def __init__(self, function: Callable[[], None]) -> None:
        self._function, self._asked = function, 0

    def done(self) -> bool:
        self._asked += 1
        if self._asked == 2:
            self._function()
        return self._asked >= 2


def test_slurm_gets_the_parameters_and_a_stage_only_after_its_needs(
    write: Callable[..., Path], root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit, "AutoExecutor", FakeExecutor)
    monkeypatch.setattr(FakeExecutor, "made", [])
    monkeypatch.setattr(FakeExecutor, "submitted", [])
    code, output = start(write(RECIPE), cluster="slurm")
    assert code == 1
    assert FakeExecutor.submitted == [("exp-one", []), ("exp-bad", []), ("exp-two", ["one"])]
    assert all(executor.cluster == "slurm" and executor.folder == root / ".submitit" for executor in FakeExecutor.made)
    parameters = {executor.parameters["name"]: executor.parameters for executor in FakeExecutor.made}
    assert {executor.timeouts for executor in FakeExecutor.made if executor.parameters["name"] == "exp-one"} == {9}
    common = {"slurm_partition": "gpu", "gpus_per_node": 1}
    assert parameters["exp-one"] == common | {"name": "exp-one", "timeout_min": 600, "mem_gb": 32, "tasks_per_node": 1}
    assert parameters["exp-two"] == common | {"name": "exp-two", "timeout_min": 60}
    assert "lost   not run (needs bad)" in output
    assert not list((root / ".submitit").glob("*.json"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for Slurm's commands: a queue of one machine. Gives the folder of its jobs."""
    tools, queue = tmp_path / "bin", tmp_path / "queue"
    tools.mkdir()
    queue.mkdir()
    scripts = {
        "sbatch": """
            number=$(( $(ls $QUEUE | grep -c '[.]sh$') + 1 ))
            cp "$1" $QUEUE/$number.sh
            export SLURM_JOB_ID=$number SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0
            SLURM_LOCALID=0 setsid bash $QUEUE/$number.sh > $QUEUE/$number.out 2>&1 < /dev/null &
            echo $! > $QUEUE/$number.pid
            echo "Submitted batch job $number"
        """,
        "srun": """
            shift; shift 2; shift 2  # --unbuffered --output X --error Y
            exec "$@"
        """,
        "sacct": """
            echo 'JobID|State|NodeList'
            for pid in $QUEUE/*.pid; do
                number=$(basename $pid .pid)
                state=FAILED
                if kill -0 $(cat $pid) 2> /dev/null; then state=RUNNING; fi
                if [ -e $QUEUE/$number.requeued ]; then state=REQUEUED; fi
                echo "$number|$state|here"
            done
        """,
        # Slurm takes the job off its node, and starts it again when it is gone.
        "scontrol": """
            touch $QUEUE/$2.requeued
            setsid bash -c "
                while kill -0 $(cat $QUEUE/$2.pid); do sleep 0.1; done
                SLURM_LOCALID=0 bash $QUEUE/$2.sh > $QUEUE/$2.out 2>&1 & echo \\$! > $QUEUE/$2.pid
                rm $QUEUE/$2.requeued; wait
            " > /dev/null 2>&1 < /dev/null &
        """,
        "scancel": "kill -- -$(cat $QUEUE/$1.pid); sleep 1; kill -KILL -- -$(cat $QUEUE/$1.pid)",
    }
    for name, body in scripts.items():
        (tools / name).write_text(f"#!/bin/bash\nQUEUE={queue}\n{body}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return queue


@pytest.mark.slow
def test_through_submitits_own_slurm_executor(
    write: Callable[..., Path], root: Path, start: Start, slurm: Path
) -> None:
    code, output = start(write(RECIPE), cluster="slurm")
    assert code == 1
    script = (slurm / "1.sh").read_text()
    for line in ("--job-name=exp-one", "--time=600", "--partition=gpu", "--mem=32GB", "--gpus-per-node=1"):
        assert f"#SBATCH {line}\n" in script
    assert len(list(slurm.glob("*.sh"))) == 3
    assert (root / "one" / "ticks").read_text().count("\n") == 20
    assert "tick 19" in (root / "one" / "log.txt").read_text()
    assert {path.parent.name: json.loads(path.read_text())["state"] for path in root.glob("*/stage.json")} == {
        "one": "done",
        "bad": "failed",
        "two": "done",
    }
    assert "bad: failed (exit code 3)" in output


@pytest.fixture
def ticking(
    write: Callable[..., Path],
    root: Path,
    slurm: Path,
    spawn: Callable[..., subprocess.Popen[str]],
    wait_for: Callable[..., None],
) -> tuple[Path, subprocess.Popen[str]]:
    """A recipe of one stage of some five seconds on the fake Slurm, and its runner; the stage is under way."""
    path = write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 100 --tick 0.05'}")
    runner = spawn(path, cluster="slurm")
    wait_for((root / "s" / "ticks").exists)
    return path, runner


@pytest.mark.slow
def test_a_killed_runner_finds_its_slurm_jobs_again(
    root: Path,
    start: Start,
    slurm: Path,
    ticking: tuple[Path, subprocess.Popen[str]],
    wait_for: Callable[..., None],
) -> None:
    path, runner = ticking
    wait_for((root / ".submitit" / "s.json").exists)
    runner.kill()
    runner.wait()
    with pytest.raises(RslitError, match=r"stage 's' in .* was left to Slurm as job 1; go on with --cluster slurm"):
        start(path)
    with pytest.raises(RslitError, match="stage 's' is still job 1 on Slurm; scancel it before --redo"):
        start(path, cluster="slurm", redo=("s",))
    assert start(path, cluster="slurm")[0] == 0
    assert len(list(slurm.glob("*.sh"))) == 1
    assert not (root / "s" / "OVERLAP").exists()


@pytest.mark.slow
def test_a_preempted_stage_is_requeued_and_goes_on(
    root: Path, slurm: Path, ticking: tuple[Path, subprocess.Popen[str]]
) -> None:
    _, runner = ticking
    child = int((root / "s" / "pid").read_text())
    job = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(job, signal.SIGUSR2)  # what Submitit asks Slurm to send before it takes a job away
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 0, output
    assert (root / "s" / "attempts").read_text().count("\n") == 2
    assert (root / "s" / "ticks").read_text().split() == [str(tick) for tick in range(100)]
    assert not (root / "s" / "OVERLAP").exists()
    assert len(list(slurm.glob("*.sh"))) == 1


@pytest.mark.slow
def test_an_interrupt_cancels_slurm_jobs(
    write: Callable[..., Path],
    root: Path,
    slurm: Path,
    spawn: Callable[..., subprocess.Popen[str]],
    wait_for: Callable[..., None],
    alive: Callable[[int], bool],
) -> None:
    runner = spawn(write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 1000'}"), cluster="slurm")
    wait_for((root / "s" / "ticks").exists)
    wait_for((root / ".submitit" / "s.json").exists)
    child = int((root / "s" / "pid").read_text())
    runner.send_signal(signal.SIGINT)
    assert runner.wait(20) == 130
    wait_for(lambda: not alive(child))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("slurm_partitoin: gpu", "'slurm' of stage 's': Unknown argument 'partitoin' for executor 'slurm'"),
        ("timeout: 3", "'slurm' of stage 's': Parameter 'timeout' need to be prefixed by an executor name"),
        ("timeout_min: long", "'slurm' of stage 's': Parameter \"timeout_min\" expected type"),
        ("slurm_max_num_timeout: many", "'slurm' of stage 's': slurm_max_num_timeout must be a whole number"),
    ],
)
def test_bad_slurm_parameters(
    write: Callable[..., Path], root: Path, start: Start, slurm: Path, parameters: str, message: str
) -> None:
    path = write(f"name: a\nslurm: {{{parameters}}}\nstages:\n  s: {{run: 'fit --folder {{s}}'}}")
    with pytest.raises(RslitError) as caught:
        start(path, cluster="slurm")
    assert message in str(caught.value)
    assert not (root / "s").exists()


def test_no_slurm_here(write: Callable[..., Path], start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RslitError, match='--cluster slurm: Could not detect "srun"'):
        start(write("name: a\nstages:\n  s: {run: fit}"), cluster="slurm")


def test_the_default_run_does_not_import_submitit(write: Callable[..., Path], root: Path) -> None:
    path = write("name: a\nstages:\n  s: {run: fit}")
    code = (
        "import sys; from pathlib import Path; from rslit.recipes import load_recipe; "
        "from rslit.recipes.runner import Runner; "
        f"Runner(load_recipe(Path({str(path)!r})), Path({str(root)!r}), program=['true']).run(); "
        "assert 'submitit' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
