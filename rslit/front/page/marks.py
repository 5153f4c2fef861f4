"""How a kind of point looks in the page's figures, and what a reader sees when pointing at one.

Figures are plotly's, as the plain dictionaries that its JavaScript reads. Colours are Okabe and Ito's, those of
`rslit.front.plots`; kinds differ by marker too.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rslit.front.numbers import ranged
from rslit.front.plots import BLACK, BLUE, VERMILLION
from rslit.front.plots import OTHERS as _OTHERS

__all__ = [
    "GRID",
    "KINDS",
    "LAYOUT",
    "OTHERS",
    "Trace",
    "bars",
    "error_bars",
    "estimates",
    "hover",
    "label",
    "of_kind",
    "small_layout",
]

Trace = dict[str, Any]
Point = Mapping[str, Any]

KINDS = {
    "soup": ("soups", BLUE, "circle"),
    "morl": ("MORL", VERMILLION, "triangle-up"),
    "initialisation": ("initialisation", BLACK, "diamond"),
}
"""Name, colour and plotly's marker of each kind of point."""

_SYMBOLS = {"*": "star", "p": "pentagon", "h": "hexagram", "v": "triangle-down", "X": "x"}
OTHERS = tuple((colour, _SYMBOLS[marker]) for colour, marker in _OTHERS)
"""Colour and marker of what is set beside the soup, in turn."""

GRID = {"showgrid": True, "gridcolor": "#EBEBEB", "zeroline": False, "automargin": True}
LAYOUT: dict[str, Any] = {
    "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
    "paper_bgcolor": "white",
    "plot_bgcolor": "white",
    "font": {"size": 13, "color": "#1d2733"},
    "legend": {"orientation": "h", "y": -0.18, "yanchor": "top"},
    "dragmode": False,
    "hovermode": "closest",
}


def of_kind(points: Sequence[Point], kind: str) -> list[Point]:
    """The points of one kind."""
    return [point for point in points if point["kind"] == kind]


def label(point: Point) -> str:
    """A point's name with spaces a line may break at."""
    return html.escape(str(point["point"]).replace(",", ", "))


def hover(points: Sequence[Point]) -> list[str]:
    """What each point says when pointed at: its name and every reward with its interval."""
    return [
        "<br>".join(
            [f"<b>{label(point)}</b>", *(f"{html.escape(k)}: {ranged(v)}" for k, v in point["scores"].items())]
            + ["dominated"] * (point["nondominated"] is False)
        )
        for point in points
    ]


def estimates(points: Sequence[Point], reward: str) -> list[float | None]:
    """The points' mean scores of a reward."""
    return [point["scores"][reward]["estimate"] for point in points]


def bars(points: Sequence[Point], reward: str) -> dict[str, Any]:
    """The points' intervals of a reward as plotly's error bars."""
    return error_bars([point["scores"][reward] for point in points])


def error_bars(numbers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Intervals around their estimates as plotly's error bars; hidden unless every one is known."""
    known = all(one["low"] is not None for one in numbers)
    return {
        "type": "data",
        "visible": known,
        "symmetric": False,
        "thickness": 1,
        "width": 0,
        # Rounding can leave an end a hair on the wrong side.
        "array": [max(one["high"] - one["estimate"], 0) for one in numbers] if known else [],
        "arrayminus": [max(one["estimate"] - one["low"], 0) for one in numbers] if known else [],
    }


def small_layout(title: str, across: str, up: str = "") -> dict[str, Any]:
    """The layout of one of several small figures side by side."""
    return {
        **LAYOUT,
        "height": 300,
        "showlegend": False,
        "title": {"text": html.escape(title), "font": {"size": 14}},
        "margin": {"l": 8, "r": 12, "t": 40, "b": 8},
        "xaxis": {**GRID, "title": {"text": html.escape(across)}},
        "yaxis": {**GRID, "title": {"text": html.escape(up)}},
    }
