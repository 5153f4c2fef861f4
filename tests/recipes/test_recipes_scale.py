"""Twelve stages of a grid of which one crashes and one is killed: the rest is made, and nothing twice."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError

# Two seeds with a pretraining, two experts, MORL and a sweep each, one front and one table over both.
STUDY = """
name: study
axes: {seed: [0, 1], reward: [risky, cautious]}
stages:
  pretrain: {over: [seed], run: "fit --folder {pretrain} --ticks 4"}
  expert:
    over: [reward, seed]
    needs: [pretrain]
    run: fit --folder {expert} --ticks 6 --once-exit expert-risky-0 --once-die expert-cautious-1
  morl: {over: [seed], needs: [pretrain], run: "fit --folder {morl} --ticks 6"}
  sweep: {over: [seed], needs: [expert, morl], run: "validate --folder {sweep} --ticks 2"}
  front: {needs: [sweep], run: "front {sweep[*]}/scores.parquet --folder {front}"}
  table: {needs: [sweep], run: "front {sweep[*]}/scores.parquet --folder {table}"}
"""
TICKS = {"pretrain": 4, "expert": 6, "morl": 6, "sweep": 2, "front": 0, "table": 0}
STAGES = {
    *("pretrain-0", "pretrain-1", "morl-0", "morl-1", "sweep-0", "sweep-1", "front", "table"),
    *("expert-risky-0", "expert-risky-1", "expert-cautious-0", "expert-cautious-1"),
}
BAD = {"expert-risky-0", "expert-cautious-1"}
HELD_UP = {"sweep-0", "sweep-1", "front", "table"}

Start = Callable[..., tuple[int, str]]
Spawn = Callable[..., "subprocess.Popen[str]"]
Write = Callable[[str], Path]


def counts(root: Path, what: str) -> dict[str, int]:
    """How many lines each stage has in a file of its folder: attempts begun or completed, or ticks."""
    return {file.parent.name: file.read_text().count("\n") for file in root.glob(f"*/{what}")}


def done_stages(root: Path) -> set[str]:
    return {path.parent.name for path in root.glob("*/stage.json") if '"state": "done"' in path.read_text()}


def all_ticks_once(root: Path) -> bool:
    found = {name: (root / name / "ticks") for name in STAGES}
    return all(
        [int(line) for line in (path.read_text().split() if path.exists() else [])]
        == list(range(TICKS[name.partition("-")[0]]))
        for name, path in found.items()
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_rest_completes_and_the_next_call_repairs(write: Write, root: Path, start: Start, jobs: int) -> None:
    path = write(STUDY)
    code, output = start(path, jobs=jobs)
    assert code == 1
    assert counts(root, "attempts") == dict.fromkeys(STAGES - HELD_UP, 1)
    assert counts(root, "completed") == dict.fromkeys(STAGES - HELD_UP - BAD, 1)
    assert re.search(r"^expert-risky-0 +failed \(exit code 1\)", output, re.M)
    assert re.search(r"^expert-cautious-1 +failed \(killed by SIGKILL\)", output, re.M)
    assert re.search(r"^sweep-1 +not run \(needs expert-cautious-1\)", output, re.M)
    assert {*re.findall(r"^failed: (\S+), (\S+); the next call tries again$", output, re.M)[0]} == BAD

    code, output = start(path, jobs=jobs)
    assert code == 0
    assert counts(root, "attempts") == {**dict.fromkeys(STAGES, 1), **dict.fromkeys(BAD, 2)}
    assert counts(root, "completed") == dict.fromkeys(STAGES, 1)
    assert all_ticks_once(root)  # the killed one went on from where it was
    assert len(re.findall(r"\] \S+: running", output)) == len(BAD | HELD_UP)

    assert start(path, jobs=jobs)[0] == 0
    assert sum(counts(root, "attempts").values()) == 14


def test_retries_repair_within_one_call(write: Write, root: Path, start: Start) -> None:
    code, output = start(write(STUDY), jobs=2, retries=1)
    assert code == 0
    assert counts(root, "attempts") == {**dict.fromkeys(STAGES, 1), **dict.fromkeys(BAD, 2)}
    assert counts(root, "completed") == dict.fromkeys(STAGES, 1)
    assert "expert-risky-0: failed (exit code 1)\n" in output
    assert "expert-risky-0: running again from where it stopped\n" in output


@pytest.mark.parametrize("jobs", [1, 2])
def test_retries_are_as_many_as_asked_for(write: Write, root: Path, start: Start, jobs: int) -> None:
    path = write("name: a\nstages:\n  s: {run: 'fit --folder {s} --exit 4'}\n  t: {needs: [s], run: fit}")
    assert start(path, jobs=jobs, retries=2)[0] == 1
    assert counts(root, "attempts") == {"s": 3}


def test_a_killed_runner_is_called_again(
    write: Write, root: Path, start: Start, spawn: Spawn, wait_for: Callable[..., None]
) -> None:
    path = write(STUDY.replace(" --once-exit expert-risky-0 --once-die expert-cautious-1", ""))
    runner = spawn(path, jobs=2, stdout=subprocess.DEVNULL)
    wait_for(lambda: any(name.startswith("expert") for name in done_stages(root)))
    runner.kill()
    runner.wait()
    done = done_stages(root)
    assert 3 <= len(done) < 12
    # The two that ran are told to end, and go on; the ticks of those that were through show that none was made twice.
    assert start(path, jobs=2)[0] == 0
    attempts = counts(root, "attempts")
    assert {*attempts} == STAGES
    assert {name: attempts[name] for name in done} == dict.fromkeys(done, 1)
    assert sum(attempts.values()) <= 12 + 2
    assert all_ticks_once(root)
    assert not list(root.glob("*/OVERLAP"))


def test_another_seed_adds_its_stages_and_the_front_is_made_anew(write: Write, root: Path, start: Start) -> None:
    path = write(STUDY.replace(" --once-exit expert-risky-0 --once-die expert-cautious-1", ""))
    assert start(path, settings=("seed=0",))[0] == 0
    assert {*counts(root, "attempts")} == {name for name in STAGES if not name.endswith("-1")}
    with pytest.raises(RslitError, match=r"stage 'front' in .* make it and all that need it anew with --redo front"):
        start(path)
    assert start(path, redo=("front", "table"))[0] == 0
    assert counts(root, "completed") == dict.fromkeys(STAGES, 1)
