"""The page's figures of the front and of every reward along λ; see `rslit.front.page.marks`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from rslit.front.page.marks import (
    GRID,
    KINDS,
    LAYOUT,
    OTHERS,
    Trace,
    bars,
    error_bars,
    estimates,
    hover,
    label,
    of_kind,
    small_layout,
)
from rslit.front.paths import paths
from rslit.front.plots import BLUE, GREY, SKY

__all__ = ["experts_of", "front_figure", "lam_figures", "slack_figures"]

Data = Mapping[str, Any]
Point = Mapping[str, Any]


class _Group(NamedTuple):
    """A trace, the points that it draws, and whether with their intervals."""

    trace: Trace
    points: list[Point]
    bars: bool = False


def experts_of(data: Data) -> list[Point]:
    """The soup's points with λ = 1 of one expert, in the experts' order; empty unless all were scored."""
    soups = of_kind(data["points"], "soup")
    found = [next((p for p in soups if p["lam"][name] == 1), None) for name in data["experts"]]
    return [point for point in found if point is not None] if None not in found else []


def front_figure(data: Data) -> dict[str, Any]:
    """The front over two rewards, the first of those to draw, with what each other would draw on an axis.

    Returns:
        `data` and `layout` for plotly; `axes`, per reward its `name` in HTML and, per trace, its `values` and its error
        `bars`; `shown`, which of them are across and up.
    """
    soups, experts = of_kind(data["points"], "soup"), experts_of(data)
    names = list(data["rewards"])
    groups: list[_Group] = []
    if experts:
        style = {"mode": "lines", "line": {"color": GREY, "dash": "dash", "width": 1.2}, **_QUIET}
        for number, pair in enumerate(combinations(experts, 2)):
            legend = {"name": "interpolated scores", "showlegend": number == 0, "legendgroup": "chord"}
            groups.append(_Group({**style, **legend}, list(pair)))
    if len(data["experts"]) == 2:
        line = {"mode": "lines", "line": {"color": BLUE, "width": 1.6}, "showlegend": False, **_QUIET}
        groups.append(_Group(line, _by_first(data, soups)))
    groups += _trajectories(data)
    for kind, (name, colour, symbol) in KINDS.items():
        own = of_kind(data["points"], kind)
        if own:
            groups.append(_Group(_markers(name, colour, symbol, own), own, bars=True))
    if experts:
        marker = {"size": 19, "symbol": "square-open", "color": BLUE, "line": {"width": 1.6}}
        texts = [html.escape(name) for name in data["experts"]]
        groups.append(
            _Group(
                {"mode": "markers+text", "name": "experts", "text": texts, "textposition": "top center",
                 "marker": marker, "cliponaxis": False, **_QUIET},
                experts,
            )
        )  # fmt: skip
    for number, (name, other) in enumerate(data.get("beside", {}).items()):
        colour, symbol = OTHERS[number % len(OTHERS)]
        # Their bars would crowd the front's; whoever points at one reads its interval.
        groups.append(_Group(_markers(html.escape(name), colour, symbol, other["points"]), other["points"]))
    axes = [
        {
            "name": html.escape(name),
            "values": [estimates(group.points, name) for group in groups],
            "bars": [bars(group.points, name) if group.bars else None for group in groups],
            "range": _range(groups, name),
        }
        for name in names
    ]
    shown = [names.index(name) for name in data["drawn"]][:2]
    across, up = (axes[k] for k in shown)
    traces = [
        {"type": "scatter", **group.trace, "x": x, "y": y, **_coloured(group.trace, left, right)}
        for group, x, y, left, right in zip(
            groups, across["values"], up["values"], across["bars"], up["bars"], strict=True
        )
    ]
    surfaces = _attained(data) if len(names) == 2 else []
    layout = {
        **LAYOUT,
        "height": 480,
        "xaxis": {**GRID, "title": {"text": across["name"]}, "range": across["range"]},
        "yaxis": {**GRID, "title": {"text": up["name"]}, "range": up["range"]},
    }
    return {"data": [*traces, *surfaces], "layout": layout, "axes": axes if len(names) > 2 else [], "shown": shown}


def lam_figures(data: Data) -> list[dict[str, Any]]:
    """Of two experts, each reward along λ, with its interval and the interpolated scores (paper, Figure 4(b))."""
    if len(data["experts"]) != 2:
        return []
    soups = _by_first(data, of_kind(data["points"], "soup"))
    first = data["experts"][0]
    lams = [point["lam"][first] for point in soups]
    figures = []
    for reward in data["rewards"]:
        traces = [*_band(lams, [point["scores"][reward] for point in soups])]
        experts = experts_of(data)
        if experts:
            ends = estimates(experts, reward)
            dash = {"color": GREY, "dash": "dash", "width": 1.2}
            traces.append(
                {
                    "type": "scatter",
                    "x": [1, 0],
                    "y": ends,
                    "mode": "lines",
                    "line": dash,
                    "name": "interpolated",
                    **_QUIET,
                }
            )
        for start in of_kind(data["points"], "initialisation"):
            value = start["scores"][reward]["estimate"]
            dots = {"color": "black", "dash": "dot", "width": 1.2}
            traces.append(
                {"type": "scatter", "x": [min(lams), max(lams)], "y": [value, value], "mode": "lines", "line": dots,
                 "name": "initialisation", **_QUIET}
            )  # fmt: skip
        traces.append(_along(lams, soups, reward))
        figures.append({"data": traces, "layout": small_layout(reward, f"λ of {first}"), "title": reward})
    return figures


def slack_figures(data: Data) -> list[dict[str, Any]]:
    """What soups score beyond the interpolated scores, with the simultaneous band and the margin of the verdict."""
    lmc = data["lmc"]
    if "skipped" in lmc:
        return []
    figures, rows = [], lmc["points"]
    place = {point["point"]: point for point in of_kind(data["points"], "soup")}
    two, first = len(data["experts"]) == 2, data["experts"][0]
    x = [place[row["point"]]["lam"][first] if two else number + 1 for number, row in enumerate(rows)]
    for reward in data["rewards"]:
        slack = [row["slack"][reward] for row in rows]
        margin = lmc["margin"][reward]
        ends = [min(x), max(x)]
        grey = {"color": GREY, "width": 1.2}
        traces: list[Trace] = [
            {"type": "scatter", "x": ends, "y": [0, 0], "mode": "lines", "line": grey, **_QUIET},
            {"type": "scatter", "x": ends, "y": [-margin, -margin], "mode": "lines", "line": {**grey, "dash": "dash"},
             **_QUIET},
            {"type": "scatter", "x": x, "y": [one["estimate"] for one in slack], "error_y": error_bars(slack),
             "mode": "markers", "marker": {"size": 9, "color": BLUE}, "name": "soups",
             "text": [f"<b>{label(row)}</b><br>{one['estimate']:+.3g}" for row, one in zip(rows, slack, strict=True)],
             "hovertemplate": "%{text}<extra></extra>"},
        ]  # fmt: skip
        title = f"{reward}: {lmc['verdicts'][reward]}"
        layout = small_layout(title, f"λ of {first}" if two else "soup, in the order of the table")
        if not two:
            layout["xaxis"] = {**layout["xaxis"], "dtick": max(1, len(rows) // 8)}
        figures.append({"data": traces, "layout": layout, "title": title})
    return figures


_QUIET: dict[str, Any] = {"hoverinfo": "skip"}


def _trajectories(data: Data) -> list[_Group]:
    """The way of each expert from the initialisation."""
    points = of_kind(data["points"], "trajectory")
    groups = []
    for number, indices in enumerate(paths([point["point"] for point in points]).values()):
        way = [*of_kind(data["points"], "initialisation"), *(points[index] for index in indices)]
        trace = {
            "mode": "lines+markers", "name": "trainings", "legendgroup": "trainings", "showlegend": number == 0,
            "line": {"color": SKY, "width": 1.2}, "marker": {"size": 5, "color": SKY}, "text": hover(way),
            "hovertemplate": "%{text}<extra></extra>",
        }  # fmt: skip
        groups.append(_Group(trace, way))
    return groups


def _markers(name: str, colour: str, symbol: str, points: Sequence[Point]) -> Trace:
    fills = ["white" if point["nondominated"] is False else colour for point in points]
    return {
        "mode": "markers", "name": name, "text": hover(points), "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 11, "symbol": symbol, "color": fills, "line": {"color": colour, "width": 2}},
    }  # fmt: skip


def _coloured(trace: Trace, across: Any, up: Any) -> Trace:
    """The bars of a trace, if it has any, in its colour."""
    if across is None:
        return {}
    colour = {"color": trace["marker"]["line"]["color"] + "80"}
    return {"error_x": {**across, **colour}, "error_y": {**up, **colour}}


def _range(groups: Sequence[_Group], reward: str) -> list[float]:
    """An axis that holds all points, and their intervals unless these are far longer than the front is wide."""
    scores = [point["scores"][reward] for group in groups for point in group.points]
    low, high = (end(score["estimate"] for score in scores) for end in (min, max))
    span = high - low or abs(high) or 1.0
    below = min((score["low"] for score in scores if score["low"] is not None), default=low)
    above = max((score["high"] for score in scores if score["high"] is not None), default=high)
    reach = 0.5 * span
    return [max(min(below, low), low - reach) - 0.06 * span, min(max(above, high), high + reach) + 0.06 * span]


def _by_first(data: Data, soups: Sequence[Point]) -> list[Point]:
    return sorted(soups, key=lambda point: -point["lam"][data["experts"][0]])


def _band(lams: Sequence[float], scores: Sequence[Mapping[str, Any]]) -> list[Trace]:
    if any(score["low"] is None for score in scores):
        return []
    ends = [score["low"] for score in scores] + [score["high"] for score in reversed(scores)]
    return [
        {"type": "scatter", "x": [*lams, *reversed(lams)], "y": ends, "fill": "toself", "fillcolor": BLUE + "22",
         "mode": "none", "name": "interval", **_QUIET}
    ]  # fmt: skip


def _along(lams: Sequence[float], soups: Sequence[Point], reward: str) -> Trace:
    return {
        "type": "scatter", "x": list(lams), "y": estimates(soups, reward), "mode": "lines+markers", "name": "soups",
        "line": {"color": BLUE, "width": 1.6}, "marker": {"size": 8, "color": BLUE},
        "text": hover(soups), "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _attained(data: Data) -> list[Trace]:
    surfaces = data["attainment"].get("soup", {"skipped": ""})
    if "skipped" in surfaces:
        return []
    traces = []
    for (percentage, corners), dash in zip(surfaces.items(), ("dot", "solid", "dash"), strict=False):
        x, y = zip(*sorted(corners), strict=True)
        traces.append(
            # A surface is level up to a corner and drops there.
            {"type": "scatter", "x": list(x), "y": list(y), "mode": "lines",
             "name": f"attained by {percentage} % of seeds",
             "line": {"shape": "vh", "color": "#A6A6A6", "dash": dash, "width": 1}, **_QUIET}
        )  # fmt: skip
    return traces
