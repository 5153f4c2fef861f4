"""Figures: what is drawn and said, not pixels."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from rslit.errors import RslitError
from rslit.front import Front, plot_front
from rslit.front.panels import uniform_point
from rslit.front.plots import OTHERS, render
from rslit.front.statistics import point_intervals

WHITE = to_rgba("white")


def two(points: int = 5) -> Front:
    a = np.linspace(1, 0, points)
    scores = np.stack([a + a * (1 - a), 1 - a + a * (1 - a)], axis=1)
    scores[1] = [0.1, 0.1]  # dominated
    return Front(scores, np.stack([a, 1 - a], axis=1), rewards=["speed", "calm"], experts=["risky", "cautious"])


def simplex(rewards: int, parts: int = 3) -> Front:
    lams = np.array([(i, j, parts - i - j) for i in range(parts + 1) for j in range(parts + 1 - i)]) / parts
    scores = lams @ np.random.default_rng(0).random((3, rewards))
    return Front(scores, lams, rewards=[f"r{k}" for k in range(rewards)], experts=["a", "b", "c"])


def filled(ax: object, hollow: bool) -> list[np.ndarray]:
    """Positions of each group of markers, hollow ones or filled ones."""
    groups = [group for group in ax.collections if isinstance(group, PathCollection)]  # type: ignore[attr-defined]
    kept = [
        group.get_offsets().data
        for group in groups
        if len(group.get_facecolors()) and (tuple(group.get_facecolors()[0]) == WHITE) == hollow
    ]
    return [offsets for offsets in kept if len(offsets)]


def texts(ax: object) -> set[str]:
    return {text.get_text() for text in ax.texts}  # type: ignore[attr-defined]


def test_two_rewards_show_every_point_name_and_line() -> None:
    front = two()
    morl = Front([[0.5, 1.0], [1.0, 0.5], [0.4, 0.4]], rewards=front.rewards)
    start = Front([[0.0, 0.05]], rewards=front.rewards)
    figure = plot_front(front, morl=morl, initialisation=start, title="demo")
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("speed", "calm")
    soup, triangles, diamond = filled(ax, hollow=False)
    assert (len(soup), len(triangles), len(diamond)) == (4, 2, 1)
    hollow = filled(ax, hollow=True)
    np.testing.assert_allclose(hollow[0], [[0.1, 0.1]])
    np.testing.assert_allclose(hollow[1], [[0.4, 0.4]])
    assert texts(ax) == {"risky", "cautious", "0.75", "0.5", "0.25"}
    curve, chord = sorted(ax.lines, key=lambda line: -len(line.get_xdata()))
    np.testing.assert_allclose(curve.get_xydata(), front.scores)
    np.testing.assert_allclose(chord.get_xydata(), front.scores[[0, 4]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "soup (numbers: λ of risky)", "experts", "interpolated scores", "MORL", "initialisation", "dominated",
    ]  # fmt: skip


def test_curve_follows_lambda_whatever_the_order_of_points() -> None:
    front = two()
    order = [3, 0, 4, 1, 2]
    shuffled = Front(front.scores[order], front.lams[order], front.rewards, front.experts)  # type: ignore[index]
    (ax,) = plot_front(shuffled).axes
    curve = max(ax.lines, key=lambda line: len(line.get_xdata()))
    np.testing.assert_allclose(curve.get_xydata(), front.scores)


def test_error_bars_reach_the_interval() -> None:
    front = two()
    x = front.scores + np.random.default_rng(0).normal(0, 0.1, (3, 20, 5, 2))
    interval = point_intervals(x, replicates=200)
    (ax,) = plot_front(
        Front(interval.estimate, front.lams, front.rewards, front.experts), intervals={"soup": interval}
    ).axes
    (bars,) = ax.containers
    horizontal, vertical = bars.lines[2]
    np.testing.assert_allclose([s[:, 0] for s in horizontal.get_segments()], np.c_[interval.low, interval.high][:, ::2])
    np.testing.assert_allclose([s[:, 1] for s in vertical.get_segments()], np.c_[interval.low, interval.high][:, 1::2])


def test_many_fronts_beside_one_look_different() -> None:
    lams = np.stack([np.linspace(1, 0, 3), np.linspace(0, 1, 3)], axis=1)
    names = [f"pair {n}" for n in range(12)]
    beside = {name: Front(lams + n / 10) for n, name in enumerate(names)}
    (ax,) = plot_front(Front(lams, lams), beside=beside).axes
    marks = {}
    for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
        if name in names:
            marks[name] = (handle.get_edgecolor().tobytes(), handle.get_paths()[0].vertices.tobytes())
    assert set(marks) == set(names)
    assert len(set(marks.values())) == len(set(OTHERS[:12])) == 12


def test_a_label_makes_room_for_a_point_of_morl() -> None:
    a = np.linspace(1, 0, 5)
    lams = np.stack([a, 1 - a], axis=1)
    front = Front(lams + (2 * a * (1 - a))[:, None], lams)
    beside = Front(front.scores[[2]] + 0.04)
    free, crowded = (
        {text.get_text(): text.xyann for text in plot_front(front, morl=morl).axes[0].texts} for morl in (None, beside)
    )
    assert free["0.5"] == (6, 6)
    assert crowded["0.5"] == (-6, -6)
    assert free["0.25"] == crowded["0.25"] == (6, 6)


def test_labels_of_crowded_points_do_not_cover_one_another() -> None:
    a = np.linspace(1, 0, 11)
    near = 0.4 + 0.03 * np.sin(9 * a)  # a curve that doubles back, its ends far outside
    near[0], near[-1] = 0.0, 1.0
    front = Front(
        np.stack([near, 0.4 + 0.2 * (1 - a)], 1), np.stack([a, 1 - a], 1), rewards=["x", "y"], experts=["r", "c"]
    )
    figure = plot_front(front)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) >= 6
    overlap = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert not overlap


def test_fine_lattice_labels_tenths_only() -> None:
    (ax,) = plot_front(two(101)).axes
    assert texts(ax) == {"risky", "cautious", *(f"0.{digit}" for digit in range(1, 10))}


def test_three_rewards_show_triangles_and_pairs() -> None:
    front = simplex(3)
    figure = plot_front(front, initialisation=Front([[0, 0, 0]], rewards=front.rewards))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [f"r{k} over λ (ring: best)" for k in range(3)]
    pairs = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes if ax.get_xlabel()]
    assert pairs == [("r0", "r1"), ("r0", "r2"), ("r1", "r2")]
    for ax in figure.axes:
        if ax.get_xlabel() or ax.get_title():
            assert {"a", "b", "c"} <= texts(ax)


def test_three_rewards_of_two_experts_show_pairs_only() -> None:
    a = np.linspace(0, 1, 4)
    front = Front(np.stack([a, 1 - a, a**2], axis=1), np.stack([a, 1 - a], axis=1))
    assert len(plot_front(front).axes) == 3


def test_many_rewards_show_a_spider_of_experts_uniform_soup_and_initialisation() -> None:
    front = simplex(5)
    figure = plot_front(front, initialisation=Front([[0.0] * 5], rewards=front.rewards))
    (ax,) = figure.axes
    labels = [line.get_label() for line in ax.lines]
    assert labels == ["initialisation", "expert a", "expert b", "expert c", "uniform soup"]
    uniform = ax.lines[-1].get_ydata()
    worst, best = np.zeros(5), front.scores[front.expert_points()].max(axis=0)
    expected = 0.25 + 0.75 * (front.scores[uniform_point(front)] - worst) / (best - worst)
    np.testing.assert_allclose(uniform, [*expected, expected[0]])
    assert ax.get_xticklabels()[0].get_text() == f"r0\n0 … {best[0]:.3g}"


def test_uniform_point_is_the_nearest_to_equal_lambda() -> None:
    front = simplex(2)
    assert front.lams is not None
    np.testing.assert_allclose(front.lams[uniform_point(front)], [1 / 3] * 3)


def test_rewards_can_be_chosen() -> None:
    figure = plot_front(simplex(5), rewards=["r4", "r1"])
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("r4", "r1")
    assert len(figure.axes) == 1


def test_front_plots_on_given_axes_or_its_own() -> None:
    front = two()
    ax = plot_front(simplex(5), rewards=["r0", "r1"]).axes[0]
    assert front.plot(ax) is ax
    own = Front(front.scores).plot()
    assert len(filled(own, hollow=False)[0]) == 4
    assert own.get_legend() is not None
    assert not own.lines


def test_files_are_repeatable_and_pyplot_stays_out() -> None:
    figures = [plot_front(two(), title="λ") for _ in range(2)]
    assert render(figures[0], "svg") == render(figures[1], "svg")
    assert render(figures[0], "png")[:8] == b"\x89PNG\r\n\x1a\n"
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_bad_rewards() -> None:
    with pytest.raises(RslitError, match="reward 'fun' is not in the front; its rewards are speed, calm"):
        plot_front(two(), rewards=["speed", "fun"])
    with pytest.raises(RslitError, match="two or more rewards, not speed"):
        plot_front(two(), rewards=["speed"])
    with pytest.raises(RslitError, match="two or more rewards"):
        plot_front(two(), rewards=["speed", "speed"])
    with pytest.raises(RslitError, match="a panel draws two rewards, not 3"):
        simplex(3).plot(rewards=["r0", "r1", "r2"])
