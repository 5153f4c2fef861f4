"""Where the numbers of a report come from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rslit.front.scores import ScoreTable

__all__ = ["provenance"]


def provenance(path: Path, table: ScoreTable) -> dict[str, Any]:
    """A score table's path, SHA-256, and what it says of itself."""
    meta = table.meta
    return {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "kinds": table.kinds(),
        "space": meta.space,
        "initialisation": meta.initialisation,
        "version": meta.version,
        "extras": dict(meta.extras),
    }
