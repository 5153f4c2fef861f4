from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from rslit.recipes.progress import Lines, Outcome, StatusTable, duration, shown_path, tail
from rslit.recipes.recipe import load_recipe
from rslit.recipes.state import Task, plan


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (61.2, "61 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (725, "12 min 05 s"),
        (7199.6, "2 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_tail_is_what_a_terminal_would_show(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"one\n\x1b[32mtwo\x1b[0m  \r\n\n 10%\r 50%\r100%\n\xff \xce\xbc\n\n")
    assert tail(log, 3) == ["two", "100%", "� μ"]
    assert tail(log, 9)[0] == "one"
    assert tail(tmp_path / "none", 3) == []


def test_tail_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert tail(log, 2) == ["line 99998", "line 99999"]


def test_shown_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "runs" / "a") == "runs/a"
    assert shown_path(Path("/elsewhere/a")) == "/elsewhere/a"


@pytest.fixture
def tasks(write: Callable[..., Path], root: Path) -> list[Task]:
    stages = ("a: {run: fit}", "b: {run: fit}", "c: {needs: [a, b], run: fit}", "d: {needs: [a], run: fit}")
    text = "".join(f"  {stage}\n" for stage in stages)
    return plan(load_recipe(write(f"name: x\nstages:\n{text}")), root)


def test_the_table_shows_every_stage(tasks: list[Task]) -> None:
    output = io.StringIO()
    console = Console(file=output, width=63, force_terminal=True, color_system=None)
    tasks[1].folder.mkdir(parents=True)
    (tasks[1].folder / "log.txt").write_text(
        "=== header\n[bold] not markup, and much longer than the terminal is wide\n"
    )
    with StatusTable(console, tasks) as view:
        output.truncate(0)
        view.refresh({"b": time.monotonic() - 75}, {"a": Outcome("done", 3.0)})
        rows = [line.rstrip() for line in output.getvalue().split("\n")]
    assert [row[3:] for row in rows[-4:]] == [
        "a      done     3.0 s",
        "b      running   75 s  [bold] not markup, and much lon…",
        "c      waiting         for b",
        "d      waiting         for a free job",
    ]
    assert rows[-4].endswith("✓  a      done     3.0 s")


def test_a_failure_in_the_table_leaves_a_line(tasks: list[Task]) -> None:
    output = io.StringIO()
    with StatusTable(Console(file=output, width=80, force_terminal=True, color_system=None), tasks) as view:
        view.ended("a", Outcome("done", 1.0))
        assert "[1/4]" not in output.getvalue()
        view.ended("b", Outcome("failed", 1.0, "exit code 2"))
        assert "[2/4] b: failed (exit code 2)\n" in output.getvalue()


def test_a_failure_shows_twenty_lines(tasks: list[Task], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"[line] {number}\n" for number in range(30)))
    output = io.StringIO()
    Lines(Console(file=output, width=40), tasks).failure("a", log)
    lines = output.getvalue().splitlines()
    assert lines[0].endswith("log.txt:")
    assert lines[1:] == [f"  [line] {number}" for number in range(10, 30)]


def grid(write: Callable[..., Path], root: Path, tail: str = "") -> list[Task]:
    text = "name: x\naxes: {seed: [0, 1, 2, 3, 4], mu: [1, 2, 3, 4, 5, 6]}\nstages:\n"
    text += "  pretrain: {over: [seed], run: fit}\n  morl: {over: [mu, seed], needs: [pretrain], run: fit}\n"
    return plan(load_recipe(write(f"{text}  front: {{needs: [morl], run: front}}\n{tail}")), root)


def shown(tasks: list[Task], running: dict[str, float], outcomes: dict[str, Outcome]) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=80, height=24, force_terminal=True, color_system=None)
    with StatusTable(console, tasks) as view:
        output.truncate(0)
        output.seek(0)
        view.refresh(running, outcomes)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue().replace("\r", "")).split("\n")


def test_where_not_all_stages_fit_they_are_counted(write: Callable[..., Path], root: Path) -> None:
    tasks = grid(write, root)
    now = time.monotonic()
    outcomes = {f"pretrain-{seed}": Outcome("done", 1.0) for seed in range(5)}
    outcomes |= {"morl-1-0": Outcome("done before"), "morl-1-1": Outcome("failed"), "front": Outcome("not run")}
    rows = shown(tasks, {"morl-1-2": now - 5, "morl-1-3": now - 3}, outcomes)
    assert [" ".join(row[3:].split()) for row in rows[1:]] == [
        "pretrain 5 done",
        "morl 1 done before, 1 failed, 2 running, 26 waiting",
        "front 1 not run",
        "morl-1-2 running 5.0 s",
        "morl-1-3 running 3.0 s",
    ]


def test_the_table_never_is_higher_than_the_screen(write: Callable[..., Path], root: Path) -> None:
    tasks = grid(write, root)
    rows = shown(tasks, {task.name: time.monotonic() for task in tasks[:-1]}, {})
    assert len(rows) == 23
    assert all(len(row) <= 80 for row in rows)
    lone = "".join(f"  lone{k}: {{run: fit}}\n" for k in range(20))
    rows = shown(grid(write, root, lone), {"lone7": time.monotonic()}, {})
    assert [" ".join(row[3:].split()) for row in rows[1:]] == [
        "all stages 1 running, 55 waiting",
        "lone7 running 0.0 s",
    ]
