"""A grid of twelve stages, of which one crashes and one is killed: the rest completes, the next call repairs it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rslit.recipes.progress import Outcome, StatusTable
from rslit.recipes.recipe import load_recipe
from rslit.recipes.state import plan, read_state

# 1 + 2 x 3 + 3 + 1 + 1 stages.
TWELVE = """
name: twelve
axes: {seed: [0, 1, 2], reward: [risky, cautious]}
stages:
  pretrain: {run: "fit --folder {pretrain} --ticks 2"}
  expert:
    over: [reward, seed]
    needs: [pretrain]
    run: "fit --folder {expert} --from {pretrain} --ticks 30"
  sweep: {over: [seed], needs: [expert], run: "validate --folder {sweep} --a {expert-risky} --b {expert-cautious}"}
  front: {needs: [sweep], run: "front {sweep*}/scores --folder {front}"}
  report: {needs: [front], run: "front {front}/x --folder {report}"}
"""
CRASHES, KILLED = "expert-risky-1", "expert-cautious-2"
LOST = {"sweep-1", "sweep-2", "front", "report"}

Start = Callable[..., tuple[int, str]]


def attempts(root: Path) -> dict[str, int]:
    logs = {path.parent.name: path.read_text() for path in root.glob("*/log.txt")}
    return {name: text.count("\n=== ") + text.startswith("=== ") for name, text in logs.items()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_twelve_stages(
    write: Callable[..., Path],
    root: Path,
    start: Start,
    wait_for: Callable[..., None],
    tmp_path: Path,
    jobs: int,
) -> None:
    path = write(TWELVE)
    names = list(load_recipe(path).stages)
    assert len(names) == 12
    # A fault of the machine, gone at the second call: the stand-in cannot write here.
    (root / CRASHES / "ticks").mkdir(parents=True)

    def kill() -> None:
        pid = root / KILLED / "pid"
        wait_for(lambda: pid.is_file() and pid.read_text() and (root / KILLED / "ticks").is_file(), 60)
        os.kill(int(pid.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    code, output = start(path, jobs=jobs)
    killer.join()
    assert code == 1
    states = {name: getattr(read_state(root / name), "state", None) for name in names}
    assert {name for name, state in states.items() if state == "failed"} == {CRASHES, KILLED}
    assert {name for name, state in states.items() if state is None} == LOST
    table = output[output.index("stage ") :]
    assert f"{CRASHES}" in table
    assert "failed (exit code 1)" in table
    assert "failed (killed by SIGKILL)" in table
    assert f"not run (needs {CRASHES})" in table
    first = attempts(root)
    assert first == {name: 1 for name in names if name not in LOST}

    (root / CRASHES / "ticks").rmdir()
    code, output = start(path, jobs=jobs)
    assert code == 0
    again = {CRASHES, KILLED}
    assert attempts(root) == {name: 1 + (name in again) for name in names}
    assert output.count(": done before") == 12 - len(LOST) - len(again)
    # The killed one went on from where it was: each tick was made once.
    ticks = (root / KILLED / "ticks").read_text().split()
    assert ticks == [str(tick) for tick in range(30)]
    assert not list(root.glob("*/OVERLAP"))
    code, output = start(path, jobs=jobs)
    assert code == 0
    assert output.count(": done before") == 12
    assert attempts(root) == {name: 1 + (name in again) for name in names}


def test_a_long_table_fits_the_terminal(write: Callable[..., Path], root: Path) -> None:
    """Forty stages on twelve lines: what runs, what failed, what is next, and how many there are besides."""
    path = write(
        "name: long\naxes: {seed: [" + ", ".join(map(str, range(40))) + "]}\n"
        "stages: {s: {over: [seed], run: 'fit --seed {seed}'}}"
    )
    tasks = plan(load_recipe(path), root)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, width=80, height=12, force_terminal=True, record=True)
        table = StatusTable(console, tasks)
        outcomes: dict[str, Outcome] = {f"s-{k}": Outcome("done", 1.0) for k in range(20)}
        outcomes["s-3"] = Outcome("failed", 1.0, "exit code 1")
        table.refresh({"s-21": 0.0, "s-30": 0.0}, outcomes)
        shown: Any = table._screen.renderable
        console.print(shown)
        lines = console.export_text().splitlines()
    assert len(lines) <= 12
    text = "\n".join(lines)
    assert all(name in text for name in ("s-3 ", "s-21", "s-30", "s-20"))
    assert "s-5 " not in text
    assert "… 19 of 40 done, 18 waiting" in text
