from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rslit.errors import RslitError
from rslit.recipes import job as job_module
from rslit.recipes.job import StageJob, hold_stage
from rslit.recipes.state import StageState, read_state

INPUTS: dict[str, Any] = {"command": [], "files": {}, "needs": {}}


@pytest.fixture
def make(tmp_path: Path, program: tuple[str, ...]) -> Callable[..., StageJob]:
    def make_job(*words: str, **options: Any) -> StageJob:
        state = StageState("running", ["fit", "--folder", str(tmp_path), *words], "f", INPUTS, "")
        return StageJob(tmp_path, list(program), state, **options)

    return make_job


def start_elsewhere(job: StageJob) -> subprocess.Popen[bytes]:
    """Makes the attempt in a process of its own, as Submitit does."""
    names = "from pathlib import PosixPath; from rslit.recipes.job import StageJob"
    code = f"{names}; from rslit.recipes.state import StageState; ({job!r})()"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(("words", "state", "code"), [((), "done", 0), (("--exit", "3"), "failed", 3)])
def test_exit_codes_are_recorded(
    make: Callable[..., StageJob], tmp_path: Path, words: tuple[str, ...], state: str, code: int
) -> None:
    make(*words)()
    found = read_state(tmp_path)
    assert found is not None
    assert (found.state, found.returncode, found.fingerprint) == (state, code, "f")
    assert found.seconds is not None
    assert 0 < found.seconds < 10
    assert found.finished is not None
    assert found.started <= found.finished


def test_a_signal_is_recorded_as_its_negative(make: Callable[..., StageJob], tmp_path: Path) -> None:
    make("--die", "9")()
    found = read_state(tmp_path)
    assert found is not None
    assert (found.state, found.returncode) == ("failed", -9)


def test_both_outputs_of_every_attempt_go_to_the_log(make: Callable[..., StageJob], tmp_path: Path) -> None:
    make("--say", "first error")()
    make("--say", "second error")()
    lines = [line for line in (tmp_path / "log.txt").read_text().splitlines() if not line.startswith("===")]
    assert lines == ["fit begins", "first error", "fit begins", "second error"]


def test_live_output_is_inherited(
    make: Callable[..., StageJob], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make("--say", "seen", live=True)()
    assert capfd.readouterr() == ("fit begins\n", "seen\n")
    assert not (tmp_path / "log.txt").exists()


def test_variables_are_set_and_removed(
    make: Callable[..., StageJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GONE", "1")
    make(environ={"GONE": None, "CUDA_VISIBLE_DEVICES": "3"})()
    environ = json.loads((tmp_path / "environ.json").read_text())
    assert "GONE" not in environ
    assert environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_further_ranks_run_but_do_not_record(
    make: Callable[..., StageJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "2")
    make(place="slurm")()
    assert "fit begins" in (tmp_path / "log.2.txt").read_text()
    assert read_state(tmp_path) is None
    assert not (tmp_path / "log.txt").exists()


def test_the_kernel_ends_the_command_when_its_parent_is_killed(
    make: Callable[..., StageJob], tmp_path: Path, wait_for: Callable[..., None], alive: Callable[[int], bool]
) -> None:
    parent = start_elsewhere(make("--ticks", "1000"))
    wait_for((tmp_path / "ticks").exists)
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(child), 2)
    state = read_state(tmp_path)
    assert state is not None
    assert state.state == "running"


def test_a_job_beside_the_runner_ends_with_it(
    make: Callable[..., StageJob], tmp_path: Path, wait_for: Callable[..., None], alive: Callable[[int], bool]
) -> None:
    runner = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
    parent = start_elsewhere(make("--ticks", "1000", place="local", runner=runner.pid))
    wait_for((tmp_path / "ticks").exists)
    child = int((tmp_path / "pid").read_text())
    runner.kill()  # and left a zombie, as by a parent that does not care
    assert parent.wait(5) == 0
    runner.wait()
    assert not alive(child)
    state = read_state(tmp_path)
    assert state is not None
    assert state.state == "running"


def test_a_job_whose_runner_is_already_gone_does_not_train(make: Callable[..., StageJob], tmp_path: Path) -> None:
    runner = subprocess.Popen(["true"])
    runner.wait()
    parent = start_elsewhere(make("--ticks", "1000", place="local", runner=runner.pid))
    assert parent.wait(5) == 0


@pytest.mark.parametrize("word", ["--ignore-term", "--fork"])
def test_stubborn_commands_and_their_children_are_killed(
    make: Callable[..., StageJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., None],
    alive: Callable[[int], bool],
    word: str,
) -> None:
    monkeypatch.setattr(job_module, "_GRACE_SECONDS", 0.3)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            make("--ticks", "1000", word)()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    group = int((tmp_path / "pid").read_text())
    members = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _group(path) == group]
    wait_for(lambda: not any(alive(pid) for pid in members), 2)


def _group(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_a_command_that_lives_on_keeps_the_stage_locked(
    make: Callable[..., StageJob], tmp_path: Path, wait_for: Callable[..., None], kill_later: list[int]
) -> None:
    parent = start_elsewhere(make("--ticks", "1000", "--ignore-term"))
    wait_for((tmp_path / "ticks").exists)
    child = int((tmp_path / "pid").read_text())
    kill_later.append(child)
    parent.kill()
    parent.wait()
    with pytest.raises(RslitError, match="a process of an earlier run still holds"), hold_stage(tmp_path, 0.3):
        pass
    os.kill(child, signal.SIGKILL)
    start = time.monotonic()
    with hold_stage(tmp_path, 5):
        assert time.monotonic() - start < 5


def test_two_attempts_at_once_wait_for_each_other(make: Callable[..., StageJob], tmp_path: Path) -> None:
    jobs = [start_elsewhere(make("--ticks", "10")) for _ in range(2)]
    assert [job.wait(20) for job in jobs] == [0, 0]
    assert not (tmp_path / "OVERLAP").exists()
    assert (tmp_path / "ticks").read_text().split() == [str(tick) for tick in range(10)]


def test_a_requeued_job_is_the_same_job(make: Callable[..., StageJob]) -> None:
    job = make(place="slurm")
    assert job.checkpoint().function is job
