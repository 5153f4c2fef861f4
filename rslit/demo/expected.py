"""Expected rewards at any λ, read between the points of a sweep.

Notation: M points of the sweep, N experts, K rewards, R bootstrap replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from rslit.front.arrays import ScoreArray
from rslit.front.statistics import bootstrap_means, crossed_bootstrap_weights, mean_scores

__all__ = ["Expected", "ExpectedRewards", "neighbours"]

Array = NDArray[np.float64]

_LEVEL, _REPLICATES = 0.95, 1000
# A weight below this is the solver's rounding.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Expected:
    """Rewards at one λ.

    Attributes:
        mean: (K,), in the rewards' units.
        low: (K,), lower ends of the intervals; NaN with one seed and one item.
        high: (K,), upper ends.
        points: How many points of the sweep were read; 1 on a point.
    """

    mean: Array
    low: Array
    high: Array
    points: int


def neighbours(lams: Array, lam: Array) -> Array | None:
    """How much of each point's score makes the score at λ.

    Weights w (M,) with w >= 0, Σ w = 1 and Σ w_m λ_m = λ that minimise Σ w_m |λ_m - λ|². That is linear interpolation
    within a cell of the Delaunay triangulation, which is the lower hull of the points lifted onto a paraboloid
    (Edelsbrunner and Seidel 1986, "Voronoi diagrams and arrangements", section 3.1), so at most N weights are above 0
    and they are of near points. Two experts: linear between the two neighbours.

    Args:
        lams: (M, N), rows sum to 1.
        lam: (N,), sum 1.

    Returns:
        w (M,); None if λ is outside of what the points enclose.
    """
    distances = ((lams - lam) ** 2).sum(axis=1)
    if distances.min() < _NOTHING:
        return np.asarray(np.eye(len(lams))[int(distances.argmin())])
    found = linprog(distances, A_eq=lams.T, b_eq=lam, method="highs-ds")  # λ sums to 1, so w does
    if found.x is None:
        return None
    kept = np.where(found.x > _NOTHING, found.x, 0.0)
    return np.asarray(kept / kept.sum())


class ExpectedRewards:
    """Mean scores with intervals between the points of a sweep.

    The intervals are percentiles of the crossed bootstrap (`rslit.front.statistics`), drawn once for all points, so
    that a λ between points takes a product and not a bootstrap of its own.

    Args:
        scores: Scores of the soups.

    Attributes:
        level: Nominal coverage of the intervals.
        items: Number of items behind each score.
        conditional: Whether there is one seed: the intervals then say nothing about another training.
    """

    def __init__(self, scores: ScoreArray) -> None:
        self.level = _LEVEL
        self.items = len(scores.items)
        self.conditional = len(scores.seeds) == 1
        self._lams = scores.weights
        self._means: Array = mean_scores(scores.values)  # (M, K)
        drawn = crossed_bootstrap_weights(len(scores.seeds), self.items, _REPLICATES, 0)
        self._replicates = bootstrap_means(scores.values, *drawn)  # (R, M, K)
        self._alone = self.conditional and self.items == 1

    def at(self, lam: Array) -> Expected | None:
        """Expected rewards at λ (N,); None where the sweep's points do not enclose it."""
        weights = neighbours(self._lams, lam)
        if weights is None:
            return None
        near = np.flatnonzero(weights)
        tails = [(1 - self.level) / 2, (1 + self.level) / 2]
        mixed = np.einsum("rmk,m->rk", self._replicates[:, near], weights[near])
        low, high = np.nanquantile(mixed, tails, axis=0)
        if self._alone:
            low = high = np.full_like(low, np.nan)
        return Expected(weights[near] @ self._means[near], low, high, len(near))
