"""Tables as files, and a place for what `datasets` makes of them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Rows = Sequence[Mapping[str, Any]]


def write(path: Path, rows: Rows) -> Path:
    """Writes rows as the file's name says: .jsonl, .jsonl.gz, .json, .csv, .tsv or .parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".parquet":
        pd.DataFrame(list(rows)).to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            for row in rows:
                table.writerow({k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in row.items()})
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines)
    return path


def own_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` makes of a test's files goes with them."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    datasets.disable_progress_bars()
