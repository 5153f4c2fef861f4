"""`benchmarks/statistics_coverage.py` at a tiny size: it runs, and its tables have their rows."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "statistics_coverage.py"


def test_tiny_simulation_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "coverage.md"
    words = ["--runs", "2", "--replicates", "20", "--seeds", "3", "--items", "10", "--out", str(out)]
    runpy.run_path(str(SCRIPT))["main"](words)
    text = out.read_text()
    assert f"`OMP_NUM_THREADS=1 python benchmarks/statistics_coverage.py {' '.join(words)}`" in text
    assert capsys.readouterr().out in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [9] * 10 + [5] * 3
    # Coverages of two runs are 0, 1/2 or 1.
    assert {cell for row in rows[1:10] for cell in row[2:6]} <= {"0.000", "0.500", "1.000"}
