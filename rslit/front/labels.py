"""Names of points in a matplotlib panel, where there is room for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rslit.front.front import Front

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_LABELS", "name_points"]

MOST_LABELS = 11
"""Of how many points between the experts λ is written at most."""


def name_points(ax: Axes, soup: Front, columns: list[int], others: NDArray[np.float64]) -> None:
    """Name the experts and, for two of them, write λ beside those points where there is room.

    Args:
        ax: Panel with the front.
        soup: The front.
        columns: The rewards across and up.
        others: Points (n, 2) of other fronts that no name may hide.
    """
    if soup.lams is None or not soup.has_experts():
        return
    points, experts = soup.scores[:, columns], soup.expert_points()
    right, up = _outward(soup.lams, points, experts)
    middle = points[experts].mean(axis=0)
    ax.autoscale_view()
    labels = _Labels(ax, np.concatenate([points, others]))
    for expert, index in zip(soup.experts, experts, strict=True):
        inward = 1 if points[index, 0] < middle[0] else -1
        side = -up if len(experts) == 2 else 1 if points[index, 1] > middle[1] else -1
        corners = [(inward, side), (-inward, side), (inward, -side), (-inward, -side)]
        towards = next(
            (corner for corner in corners if labels.free(expert, points[index], corner, (-7, 10))), corners[0]
        )
        labels.write(expert, points[index], towards, (-7, 10), weight="bold")
    if len(experts) != 2:
        return
    for index in _to_label(soup.lams[:, 0], experts):
        for towards in ((right, up), (-right, -up), (right, -up), (-right, up)):
            text = f"{soup.lams[index, 0]:.2g}"
            if labels.free(text, points[index], towards, (6, 6)):
                labels.write(text, points[index], towards, (6, 6))
                break


def _to_label(lam: NDArray[np.float64], experts: NDArray[np.int64]) -> list[int]:
    """Points between the experts to label: all of a coarse lattice, those nearest to the tenths of a fine one.

    In order of importance, should there be no room for all: each the farthest from those before it.
    """
    left = [index for index in range(len(lam)) if index not in experts]
    if len(left) > MOST_LABELS:
        left = sorted({min(left, key=lambda index: abs(lam[index] - tenth)) for tenth in np.arange(1, 10) / 10})
    order, named = [], [0.0, 1.0]
    while left:
        index = max(left, key=lambda index: min(abs(float(lam[index]) - other) for other in named))
        left.remove(index)
        order.append(index)
        named.append(float(lam[index]))
    return order


def _outward(lams: NDArray[np.float64], points: NDArray[np.float64], experts: NDArray[np.int64]) -> tuple[int, int]:
    """Direction from the chord to the soup, where labels are clear of both."""
    gap = (points - lams @ points[experts]).mean(axis=0)
    return -1 if gap[0] < 0 else 1, -1 if gap[1] < 0 else 1


class _Labels:
    """Writes labels beside points, and knows what room is left. Lengths are in printer's points."""

    def __init__(self, ax: Axes, markers: NDArray[np.float64]) -> None:
        """Takes the panel, its limits settled, and the points (n, 2) that no label may hide."""
        self.ax = ax
        centres = self._place(markers)
        self.taken = [(*(centre - 4), *(centre + 4)) for centre in centres]

    def _place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        placed: NDArray[np.float64] = self.ax.transData.transform(points) * 72 / self.ax.figure.dpi
        return placed

    def _box(
        self, text: str, at: NDArray[np.float64], towards: tuple[int, int], distance: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        # At this size a character is some 5 points wide and 8 high.
        near = self._place(at) + np.multiply(distance, towards)
        far = near + np.multiply((5 * len(text), 8), towards)
        return (*np.minimum(near, far), *np.maximum(near, far))

    def free(self, text: str, at: NDArray[np.float64], towards: tuple[int, int], distance: tuple[int, int]) -> bool:
        """Whether the label would cover neither a point nor another label."""
        x0, y0, x1, y1 = self._box(text, at, towards, distance)
        return all(x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0 for a0, b0, a1, b1 in self.taken)

    def write(
        self, text: str, at: NDArray[np.float64], towards: tuple[int, int], distance: tuple[int, int], **style: Any
    ) -> None:
        """Text that grows from `at` towards a quadrant (±1, ±1), starting `distance` away."""
        from matplotlib.patheffects import withStroke

        right, up = towards
        self.taken.append(self._box(text, at, towards, distance))
        # Above the error bars, below the points: a label may be crossed, a point never hidden.
        self.ax.annotate(
            text, (float(at[0]), float(at[1])), xytext=(distance[0] * right, distance[1] * up),
            textcoords="offset points", ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top",
            fontsize=8, color="0.15", zorder=2.5, path_effects=[withStroke(linewidth=2.5, foreground="white")], **style,
        )  # fmt: skip
