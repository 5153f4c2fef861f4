"""Which λ to evaluate next: a budgeted search for the best λ of a preference, or for the whole front.

A lattice grows with the number of experts: tenths are 66 points for three, 286 for four and 1,001 for five. The search
begins with the experts and the uniform soup, and then asks for one λ at a time.

Its picture of each reward over λ is the interpolated scores of the experts, which linear mode connectivity makes a fair
first guess and which needs no parameter, plus a Gaussian process for what soups gain or lose beside them (Rasmussen and
Williams 2006, chapter 2): squared exponential in λ, 0 at the experts' own corners as far as the noise allows, its
length and height by maximum likelihood over a grid. With the few dozen points at hand its exact formulas are instant.

The next λ is the one with the greatest expected improvement: of the preference's weighted sum (Jones et al. 1998), or
of the hypervolume (`rslit.front.improvement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from rslit.errors import RslitError
from rslit.front.compositions import compositions
from rslit.front.improvement import expected_hypervolume_improvement, expected_improvement

__all__ = ["LamSearch"]

Array = NDArray[np.float64]
Lam = tuple[Fraction, ...]
_MOST_CANDIDATES = 500
_LENGTHS = (0.15, 0.25, 0.4, 0.6, 0.9, 1.4)
_HEIGHTS = (0.05, 0.15, 0.4, 1.0)
_LEAST_NOISE = 1e-4  # standard deviation, in units of the experts' range: what two exact scores may differ by


class LamSearch:
    """Asks for λ and is told their scores, a budget of times.

    Attributes:
        lams: The λ told so far.
        scores: Their mean scores, one (K,) each.
    """

    def __init__(self, experts: int, budget: int, preference: ArrayLike | None = None) -> None:
        """Sets up the candidates: the finest lattice of at most 500 points.

        Args:
            experts: N, two or more.
            budget: How many λ it asks for, the experts and the uniform soup included.
            preference: Weights (K,) of the rewards, each rescaled to 0 at the worst and 1 at the best expert; None
                searches the front.

        Raises:
            RslitError: The budget does not hold the experts and the uniform soup, or a weight is negative.
        """
        if experts < 2:
            raise RslitError(f"search: {experts} expert has no λ to search; give two or more")
        if budget < experts + 1:
            raise RslitError(
                f"search: a budget of {budget} does not hold the {experts} experts and the uniform soup, which it "
                f"begins with; give at least {experts + 1}"
            )
        self.preference = None if preference is None else np.asarray(preference, dtype=np.float64)
        if self.preference is not None and (self.preference.min() < 0 or self.preference.max() <= 0):
            raise RslitError("search: the preference's weights must not be negative, nor all 0")
        self.budget = budget
        parts = 1
        while comb(parts + experts, experts - 1) <= _MOST_CANDIDATES:
            parts += 1
        corners = [tuple(Fraction(int(k == n)) for k in range(experts)) for n in range(experts)]
        self._candidates: list[Lam] = [
            tuple(Fraction(int(n), parts) for n in point) for point in compositions(experts, parts)[::-1]
        ]
        self._begin: list[Lam] = [*corners, (Fraction(1, experts),) * experts]
        self.lams: list[Lam] = []
        self.scores: list[Array] = []
        self._noise: list[Array] = []

    def ask(self) -> Lam | None:
        """The next λ to evaluate, never one that was told; None when the budget is spent."""
        if len(self.lams) >= self.budget:
            return None
        for lam in self._begin:
            if lam not in self.lams:
                return lam
        left = [lam for lam in self._candidates if lam not in self.lams]
        if not left:
            return None
        means, spreads = self._predict(left)
        told, _ = self._predict(self.lams)
        if self.preference is None:
            gains = expected_hypervolume_improvement(means, spreads, told, np.full(told.shape[1], -0.1))
        else:
            spread = np.sqrt(np.square(spreads) @ np.square(self.preference))
            gains = expected_improvement(means @ self.preference, spread, (told @ self.preference).max())
        return left[int(np.argmax(gains))]

    def tell(self, lam: Sequence[Fraction], scores: ArrayLike, errors: ArrayLike) -> None:
        """Takes the scores at a λ.

        Args:
            lam: What was asked for.
            scores: Mean scores (K,).
            errors: Their standard errors (K,).

        Raises:
            RslitError: A score is not finite.
        """
        values, noise = np.asarray(scores, dtype=np.float64), np.asarray(errors, dtype=np.float64)
        if not np.isfinite(values).all():
            raise RslitError(f"search: a score at λ = {', '.join(map(str, lam))} is not finite; mend the reward")
        self.lams.append(tuple(lam))
        self.scores.append(values)
        self._noise.append(np.where(np.isfinite(noise), noise, 0.0))

    def best(self) -> Lam:
        """The λ told whose expected weighted score is greatest.

        Raises:
            RslitError: The search is of the front, or has not been told its first points.
        """
        if self.preference is None or len(self.lams) < len(self._begin):
            raise RslitError("search: there is a best λ only for a preference, and after the first points")
        return self.lams[int(np.argmax(self._predict(self.lams)[0] @ self.preference))]

    def _predict(self, lams: Sequence[Lam]) -> tuple[Array, Array]:
        """Means and standard deviations (M, K) at some λ, in units of the experts' range."""
        told, at = _floats(self.lams), _floats(lams)
        experts = len(self._begin) - 1
        corner = np.stack([self.scores[self.lams.index(lam)] for lam in self._begin[:experts]])
        low, unit = corner.min(axis=0), np.ptp(corner, axis=0)
        unit = np.where(unit > 0, unit, 1.0)
        scaled = (np.stack(self.scores) - low) / unit
        noise = np.maximum(np.stack(self._noise) / unit, _LEAST_NOISE)
        chord = (corner - low) / unit
        means, spreads = [], []
        for k in range(scaled.shape[1]):
            mean, spread = _process(told, scaled[:, k] - told @ chord[:, k], noise[:, k], at)
            means.append(at @ chord[:, k] + mean)
            spreads.append(spread)
        return np.stack(means, axis=1), np.stack(spreads, axis=1)


def _process(x: Array, y: Array, noise: Array, at: Array) -> tuple[Array, Array]:
    """Posterior mean and standard deviation of a Gaussian process with the likeliest length and height."""
    apart, towards = _squared(x, x), _squared(at, x)
    best, found = -np.inf, (np.zeros(len(at)), np.zeros(len(at)))
    for length in _LENGTHS:
        for height in _HEIGHTS:
            kernel = height**2 * np.exp(-apart / (2 * length**2)) + np.diag(noise**2)
            factor = cho_factor(kernel, lower=True)
            weights = cho_solve(factor, y)
            likelihood = -0.5 * y @ weights - np.log(np.diag(factor[0])).sum()
            if likelihood > best:
                cross = height**2 * np.exp(-towards / (2 * length**2))
                left = height**2 - np.einsum("mn,nm->m", cross, cho_solve(factor, cross.T))
                best, found = likelihood, (cross @ weights, np.sqrt(np.maximum(left, 0)))
    return found


def _squared(a: Array, b: Array) -> Array:
    return np.asarray(np.square(a[:, None] - b[None]).sum(axis=2))


def _floats(lams: Sequence[Lam]) -> Array:
    return np.array([[float(value) for value in lam] for lam in lams])
