from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.recipes.state import read_state

CHAIN = """
name: chain
stages:
  one: {run: "fit --folder {one} --ticks 3"}
  two: {needs: [one], run: "validate --folder {two} --from {one}"}
  front: {needs: [two], run: "front {two}/scores.parquet --folder {front} --out {front}/out"}
"""

Start = Callable[..., tuple[int, str]]
Spawn = Callable[..., "subprocess.Popen[str]"]


def times(root: Path, stage: str) -> list[float]:
    found = json.loads((root / stage / "times.json").read_text())
    assert isinstance(found, list)
    return found


def states(root: Path) -> dict[str, str]:
    found = {folder.name: read_state(folder) for folder in root.iterdir() if (folder / "stage.json").exists()}
    return {name: state.state for name, state in found.items() if state is not None}


def test_stages_run_in_order_with_their_folders(write: Callable[..., Path], root: Path, start: Start) -> None:
    code, output = start(write(CHAIN))
    assert code == 0
    assert times(root, "one")[1] <= times(root, "two")[0]
    assert times(root, "two")[1] <= times(root, "front")[0]
    argv = json.loads((root / "two" / "argv.json").read_text())
    assert argv == ["validate", "--folder", f"{root}/two", "--from", f"{root}/one"]
    lines = [re.sub(r"[\d.]+ s\b", "T s", line).rstrip() for line in output.splitlines()]
    assert lines == [
        "[1/3] one: running",
        "[1/3] one: done in T s",
        "[2/3] two: running",
        "[2/3] two: done in T s",
        "[3/3] front: running",
        "[3/3] front: done in T s",
        "",
        "stage  state   time",
        "one    done   T s",
        "two    done   T s",
        "front  done   T s",
        "",
        f"front: {root}/front/out/front.html",
    ]


def test_what_is_done_is_skipped(write: Callable[..., Path], root: Path, start: Start) -> None:
    path = write(CHAIN)
    start(path)
    before = times(root, "one")
    code, output = start(path)
    assert code == 0
    assert times(root, "one") == before
    assert "[1/3] one: done before\n" in output
    assert "running" not in output
    assert f"front: {root}/front/out/front.html" in output


def test_blanks_in_paths(
    write: Callable[..., Path], tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my recipes").mkdir()
    write("a: 1", "my recipes/my config.yaml")
    text = "name: a\nstages:\n  s: {run: 'fit --config \"{recipe}/my config.yaml\" --folder {s}'}"
    assert start(write(text, "my recipes/recipe.yaml"))[0] == 0
    argv = json.loads((tmp_path / "runs" / "s" / "argv.json").read_text())
    assert argv[:3] == ["fit", "--config", f"{tmp_path}/my recipes/my config.yaml"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_stops_only_its_dependants(write: Callable[..., Path], root: Path, start: Start, jobs: int) -> None:
    path = write("""
name: a
stages:
  bad: {run: "fit --folder {bad} --exit 4 --say 'no such reward'"}
  after: {needs: [bad], run: "fit --folder {after}"}
  later: {needs: [after], run: "fit --folder {later}"}
  good: {run: "fit --folder {good}"}
""")
    code, output = start(path, jobs=jobs)
    assert code == 1
    assert states(root) == {"bad": "failed", "good": "done"}
    assert f"[1/4] bad: failed (exit code 4)\nthe last lines of {root}/bad/log.txt:\n" in output
    assert "  no such reward\n" in output
    assert re.search(r"^after +not run \(needs bad\)", output, re.M)
    assert re.search(r"^later +not run \(needs after\)", output, re.M)
    assert re.search(r"^good +done", output, re.M)
    code, output = start(path, jobs=jobs)
    assert code == 1
    assert "bad: running again" in output
    assert "good: done before" in output


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_command_killed_by_a_signal_is_a_failure(
    write: Callable[..., Path], root: Path, start: Start, jobs: int
) -> None:
    code, output = start(write("name: a\nstages:\n  s: {run: 'fit --die 9'}"), jobs=jobs)
    assert code == 1
    assert "s: failed (killed by SIGKILL)" in output


def test_parallel_stages_overlap_and_their_dependant_waits(
    write: Callable[..., Path], pair: str, root: Path, start: Start
) -> None:
    begun = time.monotonic()
    code, output = start(write(pair), jobs=2)
    assert code == 0, output
    assert time.monotonic() - begun < 20
    left, right, both = times(root, "left"), times(root, "right"), times(root, "both")
    assert min(left[1], right[1]) - max(left[0], right[0]) > 0.5
    assert both[0] >= max(left[1], right[1])
    assert "tick 19" in (root / "left" / "log.txt").read_text()


def test_no_more_jobs_than_asked_for(write: Callable[..., Path], root: Path, start: Start) -> None:
    stages = "".join(f"  s{k}: {{run: 'fit --folder {{s{k}}} --ticks 5 --tick 0.1'}}\n" for k in range(4))
    assert start(write(f"name: a\nstages:\n{stages}"), jobs=2)[0] == 0
    spans = [times(root, f"s{k}") for k in range(4)]
    assert max(sum(a <= begin < b for a, b in spans) for begin, _ in spans) == 2


def test_a_changed_command_is_refused_and_redo_makes_it_anew(
    write: Callable[..., Path], root: Path, start: Start
) -> None:
    path = write(CHAIN)
    start(path)
    before = times(root, "one")
    write(CHAIN.replace("--from {one}", "--from {one} --new"))
    with pytest.raises(RslitError, match=r"stage 'two' in .* was started with another command"):
        start(path)
    code, output = start(path, redo=("two",))
    assert code == 0
    assert times(root, "one") == before
    assert f"--redo: moved {root}/front to {root}/.redone/front.1\n--redo: moved {root}/two to" in output
    assert "--new" in json.loads((root / "two" / "argv.json").read_text())
    assert start(path)[1].count("done before") == 6  # each in a line and in the table


def test_a_bad_recipe_leaves_no_root(write: Callable[..., Path], root: Path, start: Start) -> None:
    with pytest.raises(RslitError, match="no config file"):
        start(write("name: a\nstages:\n  s: {run: 'fit --config none.yaml'}"))
    assert not root.exists()


def test_a_second_runner_is_refused(
    write: Callable[..., Path], root: Path, start: Start, spawn: Spawn, wait_for: Callable[..., None]
) -> None:
    path = write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 1000'}")
    other = spawn(path)
    wait_for((root / "s" / "ticks").exists)
    with pytest.raises(RslitError, match=rf"{root} is in use by process {other.pid} on \S+, since \S+; wait for it"):
        start(path)


@pytest.mark.parametrize(
    ("jobs", "number"),
    [(1, signal.SIGINT), (1, signal.SIGTERM), (1, signal.SIGHUP), (2, signal.SIGINT), (2, signal.SIGTERM)],
)
def test_signals_end_the_stages_and_leave_them_to_resume(
    write: Callable[..., Path],
    root: Path,
    start: Start,
    spawn: Spawn,
    wait_for: Callable[..., None],
    alive: Callable[[int], bool],
    jobs: int,
    number: signal.Signals,
) -> None:
    path = write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 40'}\n  t: {needs: [s], run: 'fit'}")
    runner = spawn(path, jobs=jobs)
    wait_for((root / "s" / "ticks").exists)
    child = int((root / "s" / "pid").read_text())
    runner.send_signal(number)
    output, _ = runner.communicate(timeout=15)
    assert runner.returncode == 130, output
    assert not alive(child)
    assert "[1/2] s: interrupted\n" in output
    assert output.endswith("interrupted; the same command goes on from here\n")
    assert states(root) == {"s": "running"}
    code, output = start(path)
    assert code == 0
    assert "[1/2] s: running again from where it stopped\n" in output
    assert (root / "s" / "ticks").read_text().split() == [str(tick) for tick in range(40)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_stages_have_time_to_end_in_peace(
    write: Callable[..., Path], root: Path, spawn: Spawn, wait_for: Callable[..., None], jobs: int
) -> None:
    runner = spawn(write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 1000 --slow-term 1.8'}"), jobs=jobs)
    wait_for((root / "s" / "ticks").exists)
    os.killpg(runner.pid, signal.SIGINT)  # as a terminal does on Ctrl-C: Submitit's processes get it too
    assert runner.wait(15) == 130
    assert (root / "s" / "left-in-peace").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_kills_at_random_moments_are_resumed(
    write: Callable[..., Path], root: Path, start: Start, spawn: Spawn, jobs: int
) -> None:
    path = write("""
name: a
stages:
  one: {run: "fit --folder {one} --ticks 30"}
  two: {run: "fit --folder {two} --ticks 30"}
  end: {needs: [one, two], run: "fit --folder {end} --ticks 10"}
""")
    chance = random.Random(jobs)
    for _ in range(5):
        runner = spawn(path, jobs=jobs, stdout=subprocess.DEVNULL)
        try:
            runner.wait(chance.uniform(0.3, 1.5))
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()
    # At once: what was left running must not train beside this run.
    assert start(path, jobs=jobs)[0] == 0
    assert states(root) == {"one": "done", "two": "done", "end": "done"}
    for stage, count in (("one", 30), ("two", 30), ("end", 10)):
        assert (root / stage / "ticks").read_text().split() == [str(tick) for tick in range(count)]
    assert not list(root.glob("*/OVERLAP"))


def test_a_job_that_vanishes_is_a_failure_that_can_go_on(
    write: Callable[..., Path],
    root: Path,
    start: Start,
    spawn: Spawn,
    wait_for: Callable[..., None],
    alive: Callable[[int], bool],
) -> None:
    path = write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 100'}\n  t: {run: 'fit --folder {t}'}")
    runner = spawn(path, jobs=2)
    wait_for((root / "s" / "ticks").exists)
    child = int((root / "s" / "pid").read_text())
    parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)  # as when memory runs out
    output, _ = runner.communicate(timeout=20)
    assert runner.returncode == 1
    assert "s: failed (its job was killed)" in output
    assert not alive(child)
    assert states(root) == {"s": "failed", "t": "done"}
    assert start(path)[0] == 0


def test_a_stage_that_an_earlier_run_left_running_is_waited_for(
    write: Callable[..., Path],
    root: Path,
    start: Start,
    spawn: Spawn,
    wait_for: Callable[..., None],
    kill_later: list[int],
) -> None:
    path = write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 100 --ignore-term'}")
    runner = spawn(path)
    wait_for((root / "s" / "ticks").exists)
    kill_later.append(int((root / "s" / "pid").read_text()))
    runner.kill()
    runner.wait()
    code, output = start(path)
    assert code == 0
    assert output.startswith(f"waiting for what an earlier run left running in {root}/s\n")
    assert not (root / "s" / "OVERLAP").exists()
    assert (root / "s" / "ticks").read_text().split() == [str(tick) for tick in range(100)]
