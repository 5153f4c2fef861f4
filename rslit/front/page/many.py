"""Figures for more than two experts or rewards: triangles of λ, parallel coordinates, a spider."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rslit.front.page.figures import experts_of
from rslit.front.page.marks import GRID, KINDS, LAYOUT, OTHERS, Trace, estimates, hover, of_kind
from rslit.front.plots import BLUE

__all__ = ["parallel_figure", "spider_figure", "ternary_figures"]

Data = Mapping[str, Any]
Point = Mapping[str, Any]
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def ternary_figures(data: Data) -> list[dict[str, Any]]:
    """Of three experts, each reward over the triangle of λ; cividis is a scale the colour-blind can read."""
    if len(data["experts"]) != 3:
        return []
    soups = of_kind(data["points"], "soup")
    corners = {axis: [point["lam"][name] for point in soups] for axis, name in zip("abc", data["experts"], strict=True)}
    figures = []
    for reward in data["rewards"]:
        marker = {
            "size": 15, "color": estimates(soups, reward), "colorscale": "Cividis",
            "line": {"color": "white", "width": 1}, "colorbar": {"thickness": 12, "len": 0.8},
        }  # fmt: skip
        trace = {
            "type": "scatterternary", **corners, "mode": "markers", "marker": marker, "text": hover(soups),
            "cliponaxis": False, "hovertemplate": "%{text}<extra></extra>",
        }  # fmt: skip
        sides = {
            f"{axis}axis": {
                "title": {"text": html.escape(name), "font": {"size": 12}},
                "ticks": "",
                "showticklabels": False,
            }
            for axis, name in zip("abc", data["experts"], strict=True)
        }
        layout = {
            **LAYOUT, "height": 300, "title": {"text": html.escape(reward), "font": {"size": 14}},
            "ternary": {"sum": 1, "bgcolor": "white", **sides}, "margin": {"l": 60, "r": 12, "t": 64, "b": 36},
        }  # fmt: skip
        figures.append({"data": [trace], "layout": layout, "title": reward})
    return figures


def parallel_figure(data: Data) -> dict[str, Any] | None:
    """Points as lines over the rewards, each from its least (0) to its greatest (1); of two rewards none."""
    if len(data["rewards"]) < 3:
        return None
    rewards, series = [html.escape(reward) for reward in data["rewards"]], _series(data)
    named = {one.point["point"] for one in series}
    rest = [point for point in of_kind(data["points"], "soup") if point["point"] not in named]
    traces: list[Trace] = [
        {"type": "scatter", "x": rewards, "y": _shares(data, point), "mode": "lines", "name": "other soups",
         "legendgroup": "rest", "showlegend": number == 0, "line": {"color": BLUE, "width": 1}, "opacity": 0.35,
         "text": [text] * len(rewards), "hovertemplate": "%{text}<extra></extra>"}
        for number, (point, text) in enumerate(zip(rest, hover(rest), strict=True))
    ]  # fmt: skip
    for one in series:
        traces.append(
            {"type": "scatter", "x": rewards, "y": _shares(data, one.point), "mode": "lines+markers", **one.style(),
             "text": hover([one.point]) * len(rewards)}
        )  # fmt: skip
    layout = {
        **LAYOUT, "height": 420, "xaxis": {**GRID, "type": "category"},
        "yaxis": {**GRID, "title": {"text": "least to greatest"}, "range": [-0.05, 1.05]},
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def spider_figure(data: Data) -> dict[str, Any] | None:
    """Experts, the uniform soup, the initialisation and MORL over the rewards (paper, Figures 2(f) and 12)."""
    series = _series(data)
    if len(data["rewards"]) < 3 or len(series) < 2:
        return None
    rewards = [html.escape(reward) for reward in data["rewards"]]
    traces = []
    for one in series:
        shares = _shares(data, one.point)
        traces.append(
            {"type": "scatterpolar", "r": [*shares, shares[0]], "theta": [*rewards, rewards[0]],
             "mode": "lines+markers", **one.style(), "text": hover([one.point]) * (len(rewards) + 1)}
        )  # fmt: skip
    layout = {
        **LAYOUT, "height": 460, "margin": {"l": 40, "r": 40, "t": 40, "b": 20},
        # The least is not drawn at the centre, where lines could not be told apart.
        "polar": {"bgcolor": "white", "radialaxis": {"range": [-0.25, 1.05], "showticklabels": False}},
    }  # fmt: skip
    return {"data": traces, "layout": layout}


@dataclass(frozen=True)
class _Line:
    """A point that is drawn with a name and a look of its own."""

    name: str
    point: Point
    colour: str
    symbol: str
    dash: str = "solid"
    width: float = 1.8

    def style(self) -> Trace:
        """What plotly needs for it."""
        line = {"color": self.colour, "dash": self.dash, "width": self.width}
        return {
            "name": html.escape(self.name), "line": line, "marker": {"symbol": self.symbol, "size": 8},
            "hovertemplate": "%{text}<extra></extra>",
        }  # fmt: skip


def _series(data: Data) -> list[_Line]:
    """Experts, the uniform soup, the initialisation, and the MORL solution nearest to uniform."""
    even = 1 / len(data["experts"])
    found = [
        _Line(f"expert {name}", point, *OTHERS[k % len(OTHERS)], _DASHES[k % len(_DASHES)])
        for k, (name, point) in enumerate(zip(data["experts"], experts_of(data), strict=False))
    ]
    for kind, name in (("soup", "uniform soup"), ("initialisation", "initialisation"), ("morl", "MORL")):
        _, colour, symbol = KINDS[kind]
        own = of_kind(data["points"], kind)
        if kind == "soup":
            own = [point for point in own if all(abs(value - even) < 1e-6 for value in point["lam"].values())]
        elif kind == "morl" and own:
            own = [min(own, key=lambda point: max(point["mu"].values()))]
            name = f"MORL, {own[0]['point']}"
        width, dash = (3.2, "solid") if kind == "soup" else (1.8, "dot")
        found += [_Line(name, point, colour, symbol, dash, width) for point in own]
    return found


def _shares(data: Data, point: Point) -> list[float]:
    """Each reward of a point between the least and the greatest score on the page."""
    shares = []
    for reward in data["rewards"]:
        values = [v for v in estimates(data["points"], reward) if v is not None]
        low, high = min(values), max(values)
        value = point["scores"][reward]["estimate"]
        shares.append((value - low) / (high - low) if high > low else 0.5)
    return shares
