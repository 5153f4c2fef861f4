"""What a person at a terminal sees of a recipe."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Spawn = Callable[..., "subprocess.Popen[str]"]


def read_terminal(spawn: Spawn, path: Path, **options: Any) -> str:
    """What a recipe writes to a terminal of 80 columns."""
    master, slave = pty.openpty()
    os.environ["COLUMNS"] = "80"
    try:
        runner = spawn(path, stdout=slave, **options)
    finally:
        del os.environ["COLUMNS"]
        os.close(slave)
    written = b""
    while True:
        select.select([master], [], [], 30)
        try:
            written += os.read(master, 65536)
        except OSError:  # the other side is closed
            break
    os.close(master)
    runner.wait()
    return written.decode().replace("\r\n", "\n")


def test_on_a_terminal_one_stage_at_a_time_is_seen_live(write: Callable[..., Path], root: Path, spawn: Spawn) -> None:
    text = read_terminal(spawn, write("name: a\nstages:\n  s: {run: 'fit --folder {s} --ticks 2 --say seen'}"))
    assert "fit begins\nseen\ntick 0\ntick 1\n" in text
    assert not (root / "s" / "log.txt").exists()
    assert text.index("running") < text.index("tick 1") < text.index("done in")


def test_on_a_terminal_parallel_stages_make_a_table(
    write: Callable[..., Path], pair: str, root: Path, spawn: Spawn
) -> None:
    text = read_terminal(spawn, write(pair), jobs=2)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"left +running +[\d.]+ s +tick \d+", plain)
    assert re.search(r"both +waiting +for left, right", plain)
    assert re.search(r"left +done +[\d.]+ s *\n", plain)
    assert "fit begins" in (root / "both" / "log.txt").read_text()
