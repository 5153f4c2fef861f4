"""Contenders as processes that take turns: what the text benchmarks share. Standard library only.

A match starts every contender as a process of its own. It makes itself ready, reports, and sleeps until it is told to
go: one round, one report. So no two run at the same time, ratios hold even where the machine's pace changes, and the
peak memory of each is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_mb(pid: int | str = "self") -> float:
    """Largest resident memory of a process so far, MB, mapped files included.

    From /proc: `ru_maxrss` of a process begins at what the process that started it had.
    """
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


_cpu = 0.0


def report(**values: Any) -> None:
    """Print one line for the match, with peak memory and the CPU seconds since the last, and wait for one's turn."""
    global _cpu
    print("@" + json.dumps({"peak": peak_mb(), "cpu": sum(os.times()[:4]) - _cpu} | values), flush=True)
    if not sys.stdin.readline():
        sys.exit()
    _cpu = sum(os.times()[:4])  # those of children that have ended included


class Contender:
    """A process that takes turns.

    Args:
        command: Program and arguments.
        verbose: Show what it prints on stderr.

    Attributes:
        ready: What it reported before its first turn.
        rounds: What it reported after each turn.
    """

    def __init__(self, command: list[str], verbose: bool = False) -> None:
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.command = " ".join(command[1:3])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.DEVNULL,
            text=True,
            # How long torch's idle threads spin: as `rslit` sets it, for all alike.
            env=os.environ | offline | {"GOMP_SPINCOUNT": "30000"},
        )
        self.rounds: list[dict[str, Any]] = []
        self.ready = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                values: dict[str, Any] = json.loads(line[1:])
                return values
        raise SystemExit(f"{self.command} ended early: see why with --verbose")

    def turn(self) -> None:
        """Run one round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.rounds.append(self._read())

    def end(self) -> None:
        """Stop the process."""
        self.process.kill()
        self.process.wait()


def match(makers: dict[str, Callable[[], Contender]], rounds: int) -> dict[str, Contender]:
    """Start contenders one after the other, let them take turns round by round, and stop them."""
    contenders: dict[str, Contender] = {}
    try:
        for name, make in makers.items():
            contenders[name] = make()
        for _ in range(rounds):
            for contender in contenders.values():
                contender.turn()
    finally:
        for contender in contenders.values():
            contender.end()
    return contenders


def peer_python(folder: Path, packages: list[str], constraints: Path) -> Path:
    """The Python of a peer's virtual environment, built where there is none.

    Args:
        folder: The environment; a file `complete` in it says what it was built for.
        packages: What pip is asked for.
        constraints: Versions of what these need in turn.
    """
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists() or done.read_text() != "\n".join(packages):
        print(f"building {folder} with {', '.join(packages)}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", constraints, *packages], check=True)
        done.write_text("\n".join(packages))
    return python


def machine() -> str:
    """Cores and load, for the head of a table."""
    return f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
