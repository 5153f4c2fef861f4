"""What lies beside a score table: pages of samples at every λ, and the configuration of the sweep."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CONFIGS", "configurations", "samples"]

_PAGES = {"samples": "Answers", "episodes": "Episodes"}  # what a sweep's callbacks write, by folder
CONFIGS = ("config.yaml", "config.validate.yaml", "config.test.yaml")
"""Where a run keeps its configuration: a second verb in one folder writes its own."""

_MOST_BYTES = 8 * 2**20


def samples(score_paths: Sequence[Path]) -> str:
    """The sweeps' own pages of samples, in frames; of several sweeps the first that has one.

    Pages need neither network nor other files, so a frame holds its page whole. One of more than 8 MiB is left out, and
    the text says where it is.
    """
    for path in score_paths:
        parts = []
        for folder, title in _PAGES.items():
            page = path.parent / folder / "index.html"
            if not page.is_file():
                continue
            if page.stat().st_size > _MOST_BYTES:
                parts.append(f"<p>{title} at every λ are too large to be included; see {html.escape(str(page))}.</p>")
                continue
            # Links to files beside that page lead nowhere from this one.
            whole = page.read_text(encoding="utf-8") + "<style>a { display: none; }</style>"
            parts.append(
                f"<iframe title='{title} at every λ' loading='lazy' sandbox='allow-scripts' "
                f'srcdoc="{html.escape(whole, quote=True)}"></iframe>'
            )
        if parts:
            others = f" The first of {len(score_paths)} sweeps." if len(score_paths) > 1 else ""
            return f"<p class='quiet'>From {html.escape(str(path.parent))}.{others}</p>{''.join(parts)}"
    return ""


def configurations(score_paths: Sequence[Path]) -> str:
    """The configuration of each sweep, folded."""
    parts = []
    for path in score_paths:
        config = next((path.parent / name for name in CONFIGS if (path.parent / name).is_file()), None)
        if config is not None:
            text = html.escape(config.read_text(encoding="utf-8", errors="replace"))
            parts.append(f"<details><summary>{html.escape(str(config))}</summary><pre>{text}</pre></details>")
    return "".join(parts)
