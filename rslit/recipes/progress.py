"""What a person sees while a recipe runs."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rslit.recipes.state import Task

__all__ = ["Lines", "Outcome", "StatusTable", "duration", "shown_path", "tail"]

_STYLES = {
    "done": "green",
    "done before": "dim green",
    "failed": "bold red",
    "not run": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
    "waiting": "dim",
}
_OTHER_LINES = 2  # the header, and the line where the cursor stays
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]")


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        state: "not run" because a needed stage failed or the run was interrupted.
        seconds: Duration of the attempt, where there was one.
        note: Why, if it did not end well.
    """

    state: Literal["done", "done before", "failed", "not run", "interrupted"]
    seconds: float | None = None
    note: str = ""

    def __str__(self) -> str:
        took = f" in {duration(self.seconds)}" if self.state == "done" and self.seconds is not None else ""
        return f"{self.state}{took}{f' ({self.note})' if self.note else ''}"


class Lines:
    """One line for every beginning and end of a stage, and a table at the end.

    Args:
        console: Where to write.
        tasks: All stages of the recipe, in order.
        live: Whether the stages write to the same terminal.
    """

    def __init__(self, console: Console, tasks: Sequence[Task], live: bool = False) -> None:
        self.console = console
        self.tasks = tasks
        self._live_output = live
        self._numbers = {task.name: f"[{index}/{len(tasks)}]" for index, task in enumerate(tasks, start=1)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live_output:
            # A progress bar that was killed leaves the cursor hidden.
            self.console.show_cursor()

    def started(self, task: Task) -> None:
        """Says that a stage begins."""
        word = "running again from where it stopped" if task.action == "resume" else "running"
        self._say(task.name, word, "bold" if self._live_output else "")
        if self._live_output:
            self.console.print(Text(f"rslit {shlex.join(task.command)}", style="dim"), soft_wrap=True)

    def ended(self, name: str, outcome: Outcome) -> None:
        """Says how a stage ended."""
        if self._live_output:
            self.console.show_cursor()
            if outcome.state == "interrupted":
                self.console.print()
        self._say(name, str(outcome), _STYLES[outcome.state])

    def failure(self, name: str, log: Path | None) -> None:
        """Shows the end of a failed stage's log."""
        if log is not None and log.is_file():
            self.console.print(Text(f"the last lines of {shown_path(log)}:", style="bold"), soft_wrap=True)
            for line in tail(log, 20):
                self.console.print(Text(f"  {line}"), soft_wrap=True)

    def refresh(self, running: Mapping[str, float], outcomes: Mapping[str, Outcome]) -> None:
        """Brings the view up to date; lines need none.

        Args:
            running: When each running stage was started, by `time.monotonic`.
            outcomes: Of the stages that have ended.
        """

    def summary(self, outcomes: Mapping[str, Outcome]) -> None:
        """Prints every stage with its state and time."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("stage", no_wrap=True)
        table.add_column("state")
        table.add_column("time", justify="right", no_wrap=True)
        for task in self.tasks:
            outcome = outcomes[task.name]
            note = f" ({outcome.note})" if outcome.note else ""
            table.add_row(
                task.name, Text(f"{outcome.state}{note}", style=_STYLES[outcome.state]), duration(outcome.seconds)
            )
        self.console.print()
        self.console.print(table)

    def _say(self, name: str, what: str, style: str) -> None:
        self.console.print(Text.assemble(f"{self._numbers[name]} {name}: ", (what, style)), soft_wrap=True)


class StatusTable(Lines):
    """A table of all stages that is redrawn in place, for stages that run side by side on a terminal."""

    def __init__(self, console: Console, tasks: Sequence[Task]) -> None:
        super().__init__(console, tasks)
        self._screen = Live(console=console, auto_refresh=False, transient=True)
        self._spinners = {task.name: Spinner("dots") for task in tasks}

    def __enter__(self) -> Self:
        self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.stop()

    def started(self, task: Task) -> None:
        """The table shows it."""

    def ended(self, name: str, outcome: Outcome) -> None:
        """The table shows it, but a failure is worth a line that stays."""
        if outcome.state == "failed":
            super().ended(name, outcome)

    def refresh(self, running: Mapping[str, float], outcomes: Mapping[str, Outcome]) -> None:
        """Redraws the table."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        # Short of the full width, so that the ^C a terminal echoes does not wrap and shift what is redrawn.
        table.width = self.console.width - 3
        table.add_column(width=1)
        table.add_column("stage", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("last line of its log", no_wrap=True, overflow="ellipsis", ratio=1)
        shown, groups = self._fitting(running)
        for written, tasks in groups.items():
            table.add_row("", written, "", "", _counts(tasks, running, outcomes))
        for task in shown:
            if task.name in running:
                seconds = time.monotonic() - running[task.name]
                last = (tail(task.folder / "log.txt", 1) or [""])[0]
                mark: Spinner | str = self._spinners[task.name]
                cells = ("running", duration(seconds), "" if last.startswith("=== ") else last)
            elif task.name in outcomes:
                outcome = outcomes[task.name]
                mark = {"done": "✓", "done before": "✓", "failed": "✗"}.get(outcome.state, "-")
                cells = (outcome.state, duration(outcome.seconds), outcome.note)
            else:
                missing = [need for need in task.needs if need not in outcomes]
                mark, cells = "", ("waiting", "", f"for {', '.join(missing)}" if missing else "for a free job")
            table.add_row(
                mark, task.name, Text(cells[0], style=_STYLES[cells[0]]), cells[1], Text(cells[2], style="dim")
            )
        self._screen.update(table, refresh=True)

    def _fitting(self, running: Mapping[str, float]) -> tuple[Sequence[Task], dict[str, list[Task]]]:
        """The stages to show one by one and those to count, by their name in the recipe file.

        Where the screen is too low for all stages the running ones are shown below a count for each name, or below one
        count for all where the names would take more than half of it.
        """
        if len(self.tasks) <= self.console.height - _OTHER_LINES:
            return self.tasks, {}
        groups: dict[str, list[Task]] = {}
        for task in self.tasks:
            groups.setdefault(task.written, []).append(task)
        if len(groups) > self.console.height // 2:
            groups = {"all stages": list(self.tasks)}
        room = max(1, self.console.height - _OTHER_LINES - len(groups))
        return [task for task in self.tasks if task.name in running][:room], groups


def _counts(tasks: Sequence[Task], running: Mapping[str, float], outcomes: Mapping[str, Outcome]) -> Text:
    """How many stages are in each state, those without one left out."""
    states = Counter(
        "running" if task.name in running else outcomes[task.name].state if task.name in outcomes else "waiting"
        for task in tasks
    )
    parts = [(f"{states[state]} {state}", style) for state, style in _STYLES.items() if states[state]]
    return Text(", ").join(Text(*part) for part in parts)


def duration(seconds: float | None) -> str:
    """A duration as people say it; the empty text for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a log that are not blank, as a terminal would have left them.

    Args:
        path: The log; it may be missing.
        count: How many lines at most.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 65536))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = (_ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [line for line in lines if line.strip()][-count:]


def shown_path(path: Path) -> str:
    """A path as short as it can be from the working folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
