"""How much a new point is expected to improve on what there is: in one score, or in hypervolume.

Both are exact for independent normal predictions; there is nothing to sample. For the hypervolume the region above the
reference that no point of the front dominates is cut into disjoint boxes [l, u), and

    EHVI = Σ_boxes Π_k (ψ_k(l_k) - ψ_k(u_k)),   ψ_k(a) = E max(y_k - a, 0),

since a new point y gains the part of each box below it (Yang et al. 2019, "Efficient computation of expected
hypervolume improvement using box decomposition algorithms", J. Global Optimization 75).
"""

from __future__ import annotations

from itertools import pairwise

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

__all__ = ["expected_hypervolume_improvement", "expected_improvement"]

Array = NDArray[np.float64]
_CHUNK = 2**22  # numbers in memory at once


def expected_improvement(mean: ArrayLike, deviation: ArrayLike, threshold: ArrayLike) -> Array:
    """E max(y - threshold, 0) for y normal with this mean and standard deviation; arguments broadcast.

    Formula 15 of Jones et al. (1998), "Efficient global optimization of expensive black-box functions".
    """
    gap, spread = np.asarray(mean) - np.asarray(threshold), np.asarray(deviation, dtype=np.float64)
    # Where nothing is uncertain what remains is max(gap, 0); an infinite threshold gives 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(spread > 0, gap / spread, np.copysign(np.inf, gap))
        density = np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)
        found = np.where(np.isinf(u), np.maximum(gap, 0.0), gap * ndtr(u) + spread * density)
    return np.asarray(np.maximum(found, 0.0))


def expected_hypervolume_improvement(
    mean: ArrayLike, deviation: ArrayLike, front: ArrayLike, reference: ArrayLike
) -> Array:
    """Expected growth of the front's hypervolume by each of C new points, rewards independent.

    Args:
        mean: Predicted scores (C, K), higher is better.
        deviation: Their standard deviations (C, K).
        front: Scores that there are (M, K), in any order, dominated ones too.
        reference: Reference point (K,) of the hypervolume.

    Returns:
        (C,), in the product of the rewards' units.
    """
    means, deviations = np.asarray(mean, dtype=np.float64), np.asarray(deviation, dtype=np.float64)
    corner = np.asarray(reference, dtype=np.float64)
    points = np.asarray(front, dtype=np.float64).reshape(-1, len(corner))
    low, high = _free_boxes(points[(points > corner).all(axis=1)], corner)
    # Boxes share their edges: ψ is taken once per edge, not once per box.
    places, edges = [], []
    for k in range(len(corner)):
        levels, place = np.unique(np.concatenate([low[:, k], high[:, k]]), return_inverse=True)
        places.append(place)
        edges.append(expected_improvement(means[:, k, None], deviations[:, k, None], levels))
    step = max(1, _CHUNK // len(low))
    volumes = []
    for start in range(0, len(means), step):
        parts = np.ones((len(means[start : start + step]), len(low)))
        for place, psi in zip(places, edges, strict=True):
            some = psi[start : start + step]
            parts *= some[:, place[: len(low)]] - some[:, place[len(low) :]]
        volumes.append(parts.sum(axis=1))
    return np.concatenate(volumes)


def _free_boxes(points: Array, corner: Array) -> tuple[Array, Array]:
    """Disjoint boxes (B, K), lower and upper ends, that fill what lies above `corner` and under no point."""
    if len(corner) == 1:
        low = points.max(axis=0, initial=corner[0])
        return low[None], np.full((1, 1), np.inf)
    levels = [float(corner[-1]), *np.unique(points[:, -1]).tolist(), np.inf]
    lows, highs = [], []
    # Between two levels of the last reward the points above are those that count, and only by the other rewards.
    for bottom, top in pairwise(levels):
        above = points[points[:, -1] > bottom][:, :-1]
        if len(above) > 1 and above.shape[1] > 1:
            above = above[moocore.is_nondominated(above, maximise=True)]
        low, high = _free_boxes(above, corner[:-1])
        lows.append(np.column_stack([low, np.full(len(low), bottom)]))
        highs.append(np.column_stack([high, np.full(len(high), top)]))
    return np.concatenate(lows), np.concatenate(highs)
