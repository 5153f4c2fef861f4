"""Puts `front.html` together: one file with everything in it, plotly's script included; no request leaves it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rslit.front.page.figures import front_figure, lam_figures, slack_figures
from rslit.front.page.many import parallel_figure, spider_figure, ternary_figures
from rslit.front.page.runs import configurations, samples
from rslit.front.page.selection import selection_figures, selection_table
from rslit.front.page.tables import (
    beside_table,
    cost_table,
    gain_table,
    hypervolume_table,
    points_table,
    preference_table,
)
from rslit.front.page.words import sentences

__all__ = ["front_page"]

Data = Mapping[str, Any]
Figure = Mapping[str, Any]
_HERE = Path(__file__).parent


def front_page(data: Data, score_paths: Sequence[Path] = ()) -> str:
    """The page of a front.

    Args:
        data: What `front.json` holds.
        score_paths: The score tables; samples and configurations are looked for beside them.
    """
    from plotly.offline import get_plotlyjs

    figures: dict[str, Figure] = {}
    body = "".join(_section(title, part(data, figures)) for title, part in _SECTIONS)
    body += _section("Samples at every λ", samples(score_paths))
    body += _section("Where this comes from", _provenance(data, score_paths))
    parts = {
        "title": html.escape(f"{data['task']}: {', '.join(data['experts'])}"),
        "words": "".join(f"<li>{sentence}</li>" for sentence in sentences(data)),
        "body": body,
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "script": (_HERE / "page.js").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        # A name could end the script early, or with `<!--<script>` keep it from ending.
        "figures": json.dumps(figures, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    }
    page = (_HERE / "page.html").read_text(encoding="utf-8")
    # In one pass: a part may hold such braces itself.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)


def _front(data: Data, figures: dict[str, Figure]) -> str:
    figure = front_figure(data)
    choice = ""
    if figure["axes"]:
        options = "".join(f"<option value='{k}'>{axis['name']}</option>" for k, axis in enumerate(figure["axes"]))
        across, up = (options.replace(f"value='{k}'>", f"value='{k}' selected>") for k in figure["shown"])
        choice = (
            f"<p class='axes'><label>across <select data-figure='front' data-axis='x'>{across}</select></label> "
            f"<label>up <select data-figure='front' data-axis='y'>{up}</select></label></p>"
        )
    hollow = "Hollow points are dominated. Bars are intervals, cut where they leave the frame. Point at one to read it."
    return choice + _place(figures, "front", figure, "The front") + f"<p class='quiet'>{hollow}</p>"


def _along(data: Data, figures: dict[str, Figure]) -> str:
    found = [*lam_figures(data), *ternary_figures(data)]
    return _grid(figures, "lam", found)


def _many(data: Data, figures: dict[str, Figure]) -> str:
    named = [
        ("parallel", parallel_figure(data), "All points over the rewards"),
        ("spider", spider_figure(data), "Spider"),
    ]
    return "".join(_place(figures, name, figure, title) for name, figure, title in named if figure is not None)


def _slack(data: Data, figures: dict[str, Figure]) -> str:
    found = slack_figures(data)
    if not found:
        return ""
    text = (
        "What each soup scores beyond the interpolated scores of the experts, with a band that holds for all points "
        "and rewards at once. <i>Holds</i>: the whole band is above the dashed margin. <i>Violated</i>: some point's "
        "is below."
    )
    return f"<p class='quiet'>{text}</p>{_grid(figures, 'slack', found)}"


def _selection(data: Data, figures: dict[str, Figure]) -> str:
    return _grid(figures, "selection", selection_figures(data)) + selection_table(data)


def _tables(data: Data, figures: dict[str, Figure]) -> str:
    made = (hypervolume_table, preference_table, cost_table, gain_table, beside_table)
    return points_table(data) + "".join(make(data) for make in made)


def _notes(data: Data, figures: dict[str, Figure]) -> str:
    return "".join(f"<p>{html.escape(note)}</p>" for note in data["notes"])


_SECTIONS: tuple[tuple[str, Callable[[Data, dict[str, Figure]], str]], ...] = (
    ("The front", _front),
    ("Each reward over λ", _along),
    ("All rewards together", _many),
    ("Linear mode connectivity", _slack),
    ("Which λ for whom", _selection),
    ("Numbers", _tables),
    ("Notes", _notes),
)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>" if content else ""


def _grid(figures: dict[str, Figure], prefix: str, found: Sequence[Figure]) -> str:
    placed = "".join(_place(figures, f"{prefix}{k}", figure, figure["title"]) for k, figure in enumerate(found))
    return f"<div class='grid'>{placed}</div>" if placed else ""


def _place(figures: dict[str, Figure], name: str, figure: Figure, title: str) -> str:
    figures[name] = {key: figure[key] for key in ("data", "layout", "axes") if key in figure}
    return f"<div class='figure' id='figure-{name}' role='img' aria-label='{html.escape(title, quote=True)}'></div>"


def _provenance(data: Data, score_paths: Sequence[Path]) -> str:
    lines = [
        f"<li><code>{html.escape(str(file['path']))}</code> sha256 <code>{file['sha256'][:16]}…</code>, rslit "
        f"{html.escape(str(file['version']))}, initialisation "
        f"<code>{html.escape(str(file['initialisation'])[:23])}…</code></li>"
        for file in data["provenance"]["files"]
    ]
    intervals = data["intervals"]
    how = (
        f"rslit {html.escape(data['provenance']['version'])}; intervals: {html.escape(intervals['method'])}, "
        f"{intervals['replicates']} replicates, seed {intervals['seed']}. All numbers are in front.json beside this "
        "page."
    )
    return f"<p>{how}</p><ul>{''.join(lines)}</ul>{configurations(score_paths)}"
