"""Panels for three and more rewards (scores over the λ triangle, spiders), and attainment surfaces for two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rslit.front.front import Front

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_attained", "draw_spider", "draw_ternary", "uniform_point"]

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
# Okabe-Ito without black and the yellow that print loses.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")


def draw_attained(ax: Axes, surfaces: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[int]) -> Axes:
    """Light stairs under a front of two rewards: what each share of the seeds attains; the axes keep their limits.

    Args:
        ax: Panel with the front, drawn before.
        surfaces: Corners (n, 2) by percentage, as `attainment_surfaces` gives them.
        columns: The rewards across and up.
    """
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for (percentage, corners), dash in zip(surfaces.items(), (":", "-", "--"), strict=False):
        x, y = np.asarray(corners)[:, columns].T
        order = np.argsort(x)
        # A surface goes level from the left edge to its first corner, and drops to the bottom after its last.
        x, y = x[order], y[order]
        stairs = np.concatenate([[left], x, x[-1:]]), np.concatenate([y[:1], y, [bottom]])
        ax.step(
            *stairs, where="pre", color="0.65", linewidth=0.8, linestyle=dash, zorder=0.5,
            label=f"attained by {percentage} % of seeds",
        )  # fmt: skip
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    return ax


def draw_ternary(ax: Axes, soup: Front, reward: str) -> Axes:
    """Colour the λ triangle of three experts by the score of one reward; dominated points are hollow."""
    assert soup.lams is not None
    corners = _CORNERS
    x, y = (soup.lams @ corners).T
    score = soup.scores[:, soup.rewards.index(reward)]
    colours = ax.tripcolor(x, y, score, shading="gouraud", cmap="viridis", rasterized=True)
    kept = soup.nondominated()
    style: dict[str, Any] = {"s": 11, "edgecolors": "black", "linewidths": 0.6, "zorder": 3}
    ax.scatter(x[kept], y[kept], facecolors="black", **style)
    ax.scatter(x[~kept], y[~kept], facecolors="white", **style)
    best = int(np.argmax(score))
    ax.scatter(x[best], y[best], s=110, facecolors="none", edgecolors="#D55E00", linewidths=1.8, zorder=4)
    for n, expert in enumerate(soup.experts):
        corner = corners[n]
        ax.annotate(
            expert, tuple(corner), xytext=(0, 6 if n == 2 else -6), textcoords="offset points", ha="center",
            va="bottom" if n == 2 else "top", fontsize=8, weight="bold", color="0.15",
        )  # fmt: skip
    ax.set_xlim(-0.12, 1.12)
    ax.set_ylim(-0.14, 1.0)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(f"{reward} over λ (ring: best)", fontsize=9)
    ax.figure.colorbar(colours, ax=ax, shrink=0.75, pad=0.02)
    return ax


def draw_spider(ax: Axes, soup: Front, rewards: Sequence[str], initialisation: Front | None = None) -> Axes:
    """Experts, uniform soup and initialisation on one axis per reward.

    Each axis runs from the worst policy drawn (inner ring) to the best (outer ring); both scores stand at its end.
    """
    columns = [soup.rewards.index(name) for name in rewards]
    lines: list[tuple[str, NDArray[np.float64], dict[str, Any]]] = []
    if initialisation is not None:
        lines.append(("initialisation", initialisation.scores[0, columns], {"color": "black", "linestyle": ":"}))
    if soup.has_experts():
        for n, (expert, index) in enumerate(zip(soup.experts, soup.expert_points(), strict=True)):
            style: dict[str, Any] = {"color": _COLOURS[1:][n % 5], "linestyle": _DASHES[1:][n % 3], "linewidth": 1.3}
            lines.append((f"expert {expert}", soup.scores[index, columns], style))
    centre = uniform_point(soup)
    uniform = soup.lams is not None and bool(np.ptp(soup.lams[centre]) < 1e-9)
    name = "uniform soup" if uniform else f"soup {soup.labels[centre]}"
    lines.append((name, soup.scores[centre, columns], {"color": _COLOURS[0], "linewidth": 2.4}))
    scores = np.array([line[1] for line in lines])
    low, high = scores.min(axis=0), scores.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    angles = np.linspace(0, 2 * np.pi, len(columns), endpoint=False)
    around = np.append(angles, angles[0])
    for (label, values, style), mark in zip(lines, "Ds^vPX*<>p" * len(lines), strict=False):
        radius = 0.25 + 0.75 * (values - low) / span
        ax.plot(around, np.append(radius, radius[0]), label=label, marker=mark, markersize=4.5, **style)
    ax.fill(around, np.append(radius, radius[0]), color=_COLOURS[0], alpha=0.1)
    ax.set_ylim(0, 1.05)
    ax.set_yticks([0.25, 1.0], ["", ""])
    ends = [f"{name}\n{a:.3g} … {b:.3g}" for name, a, b in zip(rewards, low, high, strict=True)]
    ax.set_xticks(angles, ends, fontsize=9)
    for tick, angle in zip(ax.get_xticklabels(), angles, strict=True):
        side = np.cos(angle)
        tick.set_horizontalalignment("left" if side > 0.1 else "right" if side < -0.1 else "center")
    ax.grid(color="0.85", linewidth=0.7)
    ax.spines["polar"].set_visible(False)
    return ax


def uniform_point(soup: Front) -> int:
    """Index of the point nearest to λ_i = 1/N (of point 0 without λ)."""
    if soup.lams is None:
        return 0
    return int(np.argmin(((soup.lams - 1 / soup.lams.shape[1]) ** 2).sum(axis=1)))
