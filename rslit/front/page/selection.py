"""The page's section on choosing λ: the best λ by preference, and what λ = μ loses (paper, Figure 4(a))."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rslit.front.numbers import ranged
from rslit.front.page.marks import error_bars, small_layout
from rslit.front.page.tables import Cell, table
from rslit.front.plots import BLUE, GREY

__all__ = ["selection_figures", "selection_table"]

Data = Mapping[str, Any]


def selection_figures(data: Data) -> list[dict[str, Any]]:
    """Of two experts: the best λ over μ beside the line λ = μ, and what λ = μ loses."""
    found = data["selection"]
    if "skipped" in found or len(data["experts"]) != 2:
        return []
    rows, first = found["grid"], data["experts"][0]
    mu = [next(iter(row["mu"].values())) for row in rows]
    across = f"μ of {next(iter(rows[0]['mu']))}"
    text = [f"<b>{html.escape(row['best'])}</b><br>score {ranged(row['chosen'])}" for row in rows]
    marker = {"size": 10, "color": BLUE}
    best = {
        "type": "scatter", "x": mu, "y": [row["best_lam"][first] for row in rows], "mode": "markers", "marker": marker,
        "name": "best λ", "text": text, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    same = {
        "type": "scatter", "x": [0, 1], "y": [0, 1], "mode": "lines", "line": {"color": GREY, "dash": "dash"},
        "name": "λ = μ", "hoverinfo": "skip",
    }  # fmt: skip
    regret = [row["regret"] for row in rows]
    lost = {
        "type": "scatter", "x": mu, "y": [one["estimate"] for one in regret], "error_y": error_bars(regret),
        "mode": "markers", "marker": marker, "name": "chosen λ minus λ = μ", "text": [ranged(one) for one in regret],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    none = {**same, "y": [0, 0]}
    made = ((f"best λ of {first}", [same, best], "λ"), ("what λ = μ loses", [none, lost], ""))
    return [{"data": traces, "layout": small_layout(title, across, up), "title": title} for title, traces, up in made]


def selection_table(data: Data) -> str:
    """A row per preference: the best λ with its cross-validated score, λ = μ, and the difference."""
    found = data["selection"]
    if "skipped" in found:
        return ""
    rows = [_row(row, bold=True) for row in found["asked"]] + [_row(row, bold=False) for row in found["grid"]]
    # λ and μ as numbers in the order of the experts, to leave room for the scores.
    order = ", ".join(html.escape(name) for name in data["experts"])
    head = ["preference μ", f"best λ ({order})", "its score", "λ nearest to μ", "its score", "difference"]
    caption = f"Unit: {found['unit']}; the best λ's score on items it was not chosen on ({found['folds']} folds)"
    return table(head, rows, caption)


def _row(row: Mapping[str, Any], bold: bool) -> Sequence[Cell]:
    mu = ", ".join(f"{weight:.3g}" for weight in row["mu"].values())
    texts = [
        f"<b>{mu}</b>" if bold else mu,
        _numbers(row["best"]),
        ranged(row["chosen"]),
        _numbers(row["nearest"]),
        ranged(row["at_mu"]),
        ranged(row["regret"]),
    ]
    return [(text, None) for text in texts]


def _numbers(label: str) -> str:
    """The coefficients of a label such as `risky=2/5,cautious=3/5`."""
    return ", ".join(html.escape(part.rpartition("=")[2]) for part in label.split(","))
