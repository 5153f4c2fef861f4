from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rslit.recipes import load_recipe
from rslit.recipes.runner import Runner

PROGRAM = (sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_rslit.py")))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recipe."""

    def write_recipe(text: str, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


@pytest.fixture
def pair() -> str:
    """A recipe of two stages side by side, of some two seconds each, and one that needs both."""
    return """
name: pair
stages:
  left: {run: "fit --folder {left} --ticks 20 --tick 0.1"}
  right: {run: "fit --folder {right} --ticks 20 --tick 0.1"}
  both: {needs: [left, right], run: "fit --folder {both}"}
"""


@pytest.fixture
def program() -> tuple[str, ...]:
    """What stands in for `rslit`."""
    return PROGRAM


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def start(root: Path) -> Callable[..., tuple[int, str]]:
    """Runs a recipe with the fake program and gives the exit code and what was printed."""

    def run(
        path: Path, *, redo: tuple[str, ...] = (), settings: tuple[str, ...] = (), **options: Any
    ) -> tuple[int, str]:
        output = io.StringIO()
        options.setdefault("program", PROGRAM)
        console = Console(file=output, width=200, markup=False)
        code = Runner(load_recipe(path).with_vars(settings), root, console=console, **options).run(redo)
        return code, output.getvalue()

    return run


@pytest.fixture
def spawn(root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a recipe in a process of its own; whatever is left of it is killed after the test."""
    processes = []

    def start_process(path: Path, *, stdout: Any = subprocess.PIPE, **options: Any) -> subprocess.Popen[str]:
        code = (
            "import sys; from pathlib import Path; from rslit.recipes import load_recipe; "
            "from rslit.recipes.runner import Runner; "
            f"sys.exit(Runner(load_recipe(Path({str(path)!r})), Path({str(root)!r}), program={PROGRAM!r}, "
            f"**{options!r}).run())"
        )
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        processes.append(process)
        return process

    yield start_process
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    return wait


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process runs; a zombie that nobody has collected does not."""

    def check(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    return check


@pytest.fixture
def kill_later() -> Iterator[list[int]]:
    """Process ids to kill after the test, should they still be there."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
