"""Whole files or none: what `rslit.front` writes appears at once or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rslit.errors import RslitError

__all__ = ["write_bytes"]


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary sibling, fsync and `os.replace`.

    A reader, or a crash, sees the old file or the new one, never a half of either. Folders on the way are made.

    Raises:
        RslitError: The folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise RslitError(f"cannot write {path}: {error.strerror}; choose a folder that can be written to") from None
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private to the user; results are meant to be read like any other file.
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise RslitError(f"cannot write {path}: {error.strerror}; make room or choose another folder") from None
    finally:
        temporary.unlink(missing_ok=True)
