"""Figures of a front, made without pyplot: safe in threads, on machines without a display, and in a library.

Colours are from the Okabe-Ito palette and every kind has its own marker too, so that the figures survive colour
blindness and a black-and-white printer. Dominated points are hollow, never dropped.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import combinations, cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rslit.errors import RslitError
from rslit.front.front import Front
from rslit.front.labels import MOST_LABELS, name_points
from rslit.front.panels import draw_attained, draw_spider, draw_ternary
from rslit.front.paths import paths
from rslit.front.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_front", "new_axes", "plot_front", "render"]

BLUE, VERMILLION, BLACK, GREY, SKY = "#0072B2", "#D55E00", "#000000", "#7F7F7F", "#56B4E9"
_COLOURS, _MARKERS = ("#CC79A7", "#009E73", "#E69F00", SKY, GREY), ("*", "p", "h", "v", "X")
# Each colour comes with another marker the next time: 25 pairs.
OTHERS = tuple((colour, _MARKERS[(k + turn) % 5]) for turn in range(5) for k, colour in enumerate(_COLOURS))


def plot_front(
    soup: Front,
    *,
    morl: Front | None = None,
    initialisation: Front | None = None,
    intervals: Mapping[str, Interval] | None = None,
    attained: Mapping[str, Any] | None = None,
    trajectories: Front | None = None,
    beside: Mapping[str, Front] | None = None,
    rewards: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a soup, with MORL and the initialisation beside it if given.

    Two rewards: one panel, the soup in λ order. Three: a panel per pair, and above them, for three experts, the score
    of each reward over the λ triangle. More: a spider of the experts, the uniform soup and the initialisation.

    Args:
        soup: Front of the soup.
        morl: Front of MORL, same rewards.
        initialisation: Front of one point, same rewards.
        intervals: By kind (`"soup"`, `"morl"`, `"initialisation"`), intervals (M, K) drawn as error bars.
        attained: Corners of the soup's attainment surfaces by percentage; drawn when the front has two rewards.
        trajectories: Points of experts on their way (see `rslit.front.paths`), same rewards.
        beside: Fronts of other soups, same rewards, by name.
        rewards: Rewards to draw, two or more; all if left out.
        title: Heading.

    Returns:
        A figure that belongs to no window; `render` or its `savefig` writes it.

    Raises:
        RslitError: Fewer than two rewards, or one the front lacks.
    """
    from matplotlib.figure import Figure

    names = _chosen(soup, rewards)
    others: dict[str, Any] = {"morl": morl, "initialisation": initialisation, "intervals": intervals, "beside": beside}
    others["trajectories"] = trajectories
    if len(names) == 2:
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        ax = draw_front(figure.add_subplot(), soup, rewards=names, legend=False, **others)
        if len(soup.rewards) == 2 and attained and "skipped" not in attained:
            draw_attained(ax, attained, [soup.rewards.index(name) for name in names])
    elif len(names) == 3:
        triangle = len(soup.experts) == 3 and soup.has_experts()
        figure = Figure(figsize=(11.0, 7.2 if triangle else 3.9), layout="constrained")
        rows = 2 if triangle else 1
        if triangle:
            for number, name in enumerate(names):
                draw_ternary(figure.add_subplot(rows, 3, number + 1), soup, name)
        for number, pair in enumerate(combinations(names, 2)):
            ax = figure.add_subplot(rows, 3, 3 * (rows - 1) + number + 1)
            draw_front(ax, soup, rewards=pair, legend=False, **others)
    else:
        figure = Figure(figsize=(6.4, 6.2), layout="constrained")
        draw_spider(figure.add_subplot(projection="polar"), soup, names, initialisation)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def draw_front(
    ax: Axes,
    soup: Front,
    *,
    rewards: Sequence[str] | None = None,
    morl: Front | None = None,
    initialisation: Front | None = None,
    intervals: Mapping[str, Interval] | None = None,
    trajectories: Front | None = None,
    beside: Mapping[str, Front] | None = None,
    legend: bool = True,
) -> Axes:
    """Draw two rewards of a front on given axes; see `plot_front`.

    Domination is judged within the soup and within MORL, on all rewards of the front, not only the two drawn.

    Raises:
        RslitError: Not two rewards of the front.
    """
    names = _chosen(soup, soup.rewards[:2] if rewards is None else rewards)
    if len(names) != 2:
        raise RslitError(f"a panel draws two rewards, not {len(names)} ({', '.join(names)}); name two")
    bars = intervals or {}
    columns = [soup.rewards.index(name) for name in names]
    _draw_points(ax, soup, columns, bars.get("soup"), BLUE, "o", _soup_label(soup))
    _draw_soup(ax, soup, columns)
    if morl is not None:
        _draw_points(ax, morl, columns, bars.get("morl"), VERMILLION, "^", "MORL")
    if initialisation is not None:
        _draw_points(ax, initialisation, columns, bars.get("initialisation"), BLACK, "D", "initialisation")
    if trajectories is not None:
        _draw_trajectories(ax, trajectories, columns, initialisation)
    others = dict(beside or {})
    for (name, front), (colour, marker) in zip(others.items(), cycle(OTHERS)):
        _draw_points(ax, front, columns, None, colour, marker, name)
    if any(not front.nondominated().all() for front in (soup, morl, *others.values()) if front is not None):
        ax.scatter([], [], s=34, marker="o", facecolors="white", edgecolors=GREY, linewidths=1.3, label="dominated")
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    ax.margins(0.14)
    ax.grid(color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
    shown = [front for front in (soup, morl, initialisation, trajectories, *others.values()) if front is not None]
    _frame(ax, np.concatenate([front.scores[:, columns] for front in shown]))
    near = [front.scores[:, columns] for front in (morl, initialisation, *others.values()) if front is not None]
    name_points(ax, soup, columns, np.concatenate([np.empty((0, 2)), *near]))
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        ax.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)
    return ax


def new_axes() -> Axes:
    """Axes of a new figure that belongs to no window."""
    from matplotlib.figure import Figure

    axes: Axes = Figure(figsize=(5.6, 4.4), layout="constrained").add_subplot()
    return axes


def render(figure: Figure, form: str) -> bytes:
    """The figure as a file of format `"png"` (200 dpi) or `"svg"`, the same bytes each time."""
    import matplotlib

    buffer = io.BytesIO()
    # Without salt and date, two runs on the same scores would write different SVGs.
    with matplotlib.rc_context({"svg.hashsalt": "rslit"}):
        figure.savefig(buffer, format=form, dpi=200, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _chosen(front: Front, rewards: Sequence[str] | None) -> tuple[str, ...]:
    names = front.rewards if rewards is None else tuple(rewards)
    for name in names:
        if name not in front.rewards:
            raise RslitError(f"reward '{name}' is not in the front; its rewards are {', '.join(front.rewards)}")
    if len(set(names)) < 2:
        raise RslitError(f"a front is drawn over two or more rewards, not {', '.join(names)}; name another")
    return names


def _draw_points(
    ax: Axes, front: Front, columns: list[int], interval: Interval | None, colour: str, marker: str, label: str
) -> None:
    x, y = front.scores[:, columns].T
    if interval is not None and np.isfinite(interval.low).all():
        below, above = front.scores - interval.low, interval.high - front.scores
        # Rounding can leave an end a hair on the wrong side, which matplotlib refuses.
        reach = [np.clip([below[:, k], above[:, k]], 0, None) for k in columns]
        alpha = 0.35 if len(front) <= 2 * MOST_LABELS else 0.12
        ax.errorbar(
            x, y, xerr=reach[0], yerr=reach[1], fmt="none", ecolor=colour, alpha=alpha, elinewidth=0.9, zorder=2
        )
    kept = front.nondominated()
    style: dict[str, Any] = {"s": 34, "marker": marker, "edgecolors": colour, "linewidths": 1.3, "zorder": 4}
    ax.scatter(x[kept], y[kept], facecolors=colour, label=label, **style)
    if not kept.all():
        ax.scatter(x[~kept], y[~kept], facecolors="white", label=f"_{label}, dominated", **style)


def _frame(ax: Axes, points: NDArray[np.float64]) -> None:
    """Keeps the frame near the points (n, 2): bars that are far longer than the front is wide are cut."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, 0.5 * (high - low), np.inf)
    ax.autoscale_view()
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    ax.set_xlim(max(left, low[0] - span[0]), min(right, high[0] + span[0]))
    ax.set_ylim(max(bottom, low[1] - span[1]), min(top, high[1] + span[1]))


def _draw_trajectories(ax: Axes, front: Front, columns: list[int], start: Front | None) -> None:
    for number, indices in enumerate(paths(front.labels).values()):
        way = front.scores[indices][:, columns]
        if start is not None:
            way = np.concatenate([start.scores[:, columns], way])
        label = "trainings" if number == 0 else None
        ax.plot(*way.T, color=SKY, linewidth=1, marker=".", markersize=4, zorder=1.5, label=label)


def _soup_label(soup: Front) -> str:
    if soup.lams is None:
        return "points"
    return f"soup (numbers: λ of {soup.experts[0]})" if len(soup.experts) == 2 else "soup"


def _draw_soup(ax: Axes, soup: Front, columns: list[int]) -> None:
    """The curve, the chord and the names that make a soup's points readable."""
    if soup.lams is None:
        return
    points = soup.scores[:, columns]
    order = np.argsort(-soup.lams[:, 0], kind="stable")
    if len(soup.experts) == 2:
        ax.plot(*points[order].T, color=BLUE, linewidth=1.4, zorder=3)
    if not soup.has_experts():
        return
    experts = soup.expert_points()
    x, y = points[experts].T
    ax.scatter(x, y, s=110, marker="s", facecolors="none", edgecolors=BLUE, linewidths=1.2, zorder=5, label="experts")
    for number, pair in enumerate(combinations(experts, 2)):
        label = "interpolated scores" if number == 0 else None
        ax.plot(*points[list(pair)].T, color=GREY, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1, label=label)
