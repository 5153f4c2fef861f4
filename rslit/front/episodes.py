"""A link from the front's folder to the animated episodes that a sweep left beside its scores."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

from rslit.front.files import write_bytes

__all__ = ["link_episodes"]


def link_episodes(score_paths: Sequence[Path], out: Path) -> Path | None:
    """Writes ``<out>/episodes.html`` with a link to ``episodes/index.html`` beside each score table, if there is any.

    Args:
        score_paths: Score tables, as `write_front` took them.
        out: The front's folder.

    Returns:
        The page, or None if no sweep animated episodes.
    """
    pages = [path.parent / "episodes" / "index.html" for path in score_paths]
    found = [page for page in pages if page.is_file()]
    if not found:
        return None
    links = "\n".join(
        f'<li><a href="{html.escape(os.path.relpath(page, out))}">{html.escape(str(page.parent))}</a></li>'
        for page in found
    )
    text = f'<!doctype html>\n<meta charset="utf-8">\n<title>Episodes</title>\n<ul>\n{links}\n</ul>\n'
    path = out / "episodes.html"
    write_bytes(path, text.encode())
    return path
