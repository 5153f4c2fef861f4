"""The front as a plotly figure whose points can be clicked; colours and markers are those of `rslit.front.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rslit.demo.expected import Expected
from rslit.front import Front
from rslit.front.page.marks import KINDS
from rslit.front.plots import BLACK, BLUE, GREY

__all__ = ["axes_of", "clicked", "front_figure"]

# Reddish purple, another of Okabe and Ito's colours: where the visitor is.
_HERE = "#CC79A7"
_SOUPS, _HEIGHT = "soups", 430


def axes_of(front: Front) -> list[str]:
    """What an axis can show: every reward, and λ of the first expert, for a run of one reward."""
    return [*front.rewards, f"λ of {front.experts[0]}"]


def front_figure(
    soups: Front, beside: Mapping[str, Front], axes: Sequence[str], lam: Sequence[float], expected: Expected | None
) -> go.Figure:
    """Draws the soups of a sweep, what was scored beside them, and where the visitor is.

    Args:
        soups: The soups.
        beside: Fronts by kind: `initialisation`, `morl`.
        axes: Two of `axes_of`.
        lam: The visitor's λ (N,).
        expected: Expected rewards there; None draws no marker.
    """
    figure = go.Figure()
    places = _places(soups, axes, np.asarray(soups.lams))
    if len(soups.experts) == 2:
        order = np.argsort(-np.asarray(soups.lams)[:, 0], kind="stable")
        figure.add_scatter(**_xy(places[order]), mode="lines", line={"color": BLUE, "width": 1.5}, **_QUIET)
    kept = soups.nondominated()
    fills = [BLUE if keep else "white" for keep in kept]
    figure.add_scatter(
        **_xy(places), name=_SOUPS, mode="markers", text=list(soups.labels), hovertemplate=f"%{{text}}<br>{_HOVER}",
        customdata=list(range(len(soups))), marker={"size": 12, "color": fills, "line": {"color": BLUE, "width": 2}},
        # Plotly fades what was not clicked; the front is to stay as it is.
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
    )  # fmt: skip
    if soups.has_experts():
        style = {"size": 20, "symbol": "square-open", "color": BLUE, "line": {"width": 1.5}}
        at = places[soups.expert_points()]
        figure.add_scatter(
            **_xy(at), mode="markers+text", name="experts", text=list(soups.experts), textposition="top center",
            marker=style, hoverinfo="skip", cliponaxis=False,
        )  # fmt: skip
    for kind, (name, colour, symbol) in KINDS.items():
        if kind in beside and not any(axis not in beside[kind].rewards for axis in axes):
            at, labels = _places(beside[kind], axes, None), list(beside[kind].labels)
            style = {"size": 11, "color": colour, "symbol": symbol}
            figure.add_scatter(
                **_xy(at), name=name, mode="markers", text=labels, hovertemplate=f"%{{text}}<br>{_HOVER}", marker=style
            )
    if expected is not None:
        _draw_here(figure, soups, axes, lam, expected)
    figure.update_layout(
        template="simple_white", height=_HEIGHT, margin={"l": 8, "r": 8, "t": 24, "b": 8}, dragmode=False,
        xaxis={"title": axes[0], "showgrid": True, "gridcolor": "#EBEBEB", "automargin": True},
        yaxis={"title": axes[1], "showgrid": True, "gridcolor": "#EBEBEB", "automargin": True},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"}, font={"size": 14},
    )  # fmt: skip
    return figure


def clicked(points: Sequence[Mapping[str, Any]], figure_points: int) -> int | None:
    """Which soup was clicked, of what Streamlit says is selected; None if none was.

    Args:
        points: The selection's points.
        figure_points: Number of soups in the figure.
    """
    for point in points:
        index = point.get("customdata")
        index = index[0] if isinstance(index, list) else index
        if isinstance(index, int) and 0 <= index < figure_points:
            return index
    return None


_QUIET: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False}
_HOVER = "%{xaxis.title.text}: %{x:.4g}<br>%{yaxis.title.text}: %{y:.4g}<extra></extra>"


def _places(front: Front, axes: Sequence[str], lams: Any) -> Any:
    """Where the points of a front are drawn, (M, 2)."""
    columns = [
        front.scores[:, front.rewards.index(axis)] if axis in front.rewards else np.asarray(lams)[:, 0] for axis in axes
    ]
    return np.stack(columns, axis=1)


def _xy(places: Any) -> dict[str, list[float]]:
    return {"x": places[:, 0].tolist(), "y": places[:, 1].tolist()}


def _draw_here(figure: go.Figure, soups: Front, axes: Sequence[str], lam: Sequence[float], expected: Expected) -> None:
    """The visitor's λ as a cross with error bars."""
    bars: dict[str, Any] = {}
    values = []
    for side, axis in zip("xy", axes, strict=True):
        if axis not in soups.rewards:
            values.append(lam[0])
            continue
        k = soups.rewards.index(axis)
        values.append(float(expected.mean[k]))
        reach = {"array": [expected.high[k] - expected.mean[k]], "arrayminus": [expected.mean[k] - expected.low[k]]}
        bars[f"error_{side}"] = {"type": "data", "symmetric": False, "thickness": 1.5, "color": GREY, **reach}
    style = {"size": 17, "symbol": "x", "color": _HERE, "line": {"color": BLACK, "width": 1.5}}
    figure.add_scatter(
        x=values[:1], y=values[1:], name="you are here (expected)", mode="markers", marker=style, hoverinfo="skip",
        **bars,
    )  # fmt: skip
