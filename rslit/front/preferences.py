"""What a soup is worth beside MORL to somebody with a preference: expected utility, worst shortfall, IGD+.

All three are taken on rescaled rewards, 0 at the initialisation and 1 at the expert of that reward, on the same seeds,
items and replicates for soup and MORL, and on equal numbers of points. The scale is that of the mean scores and is not
resampled. Noise flatters the best of several points, so intervals are basic ones, as for the hypervolume.

- Expected utility (Zintgraf et al. 2015, "Quality assessment of MORL algorithms: a utility-based approach"): the mean
  of max_m Σ_k w_k z_mk over preferences w uniform on the simplex, by a fixed lattice.
- Worst shortfall: the additive epsilon indicator (Zitzler et al. 2003, "Performance assessment of multiobjective
  optimizers", section IV), the least ε that added to every reward of a front makes it match or beat each point of the
  other. Negative when each is beaten already.
- IGD+ (Ishibuchi et al. 2015, "Modified distance calculation in generational distance and inverted generational
  distance"): mean over the other front's points of the distance by which this front falls short of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rslit.errors import RslitError
from rslit.front.compositions import compositions
from rslit.front.hypervolume import checked_fronts
from rslit.front.statistics import Interval, interval_of

__all__ = ["Preferences", "compare_preferences", "expected_utility", "preference_lattice", "rescale"]

Array = NDArray[np.float64]
_PREFERENCES = 500  # at most so many in the lattice
_CHUNK = 2**22  # numbers in memory at once


@dataclass(frozen=True)
class Preferences:
    """Measures of a soup against MORL, in units of expert minus initialisation; each estimate is a number.

    Attributes:
        utility: Expected utility of the soup, of MORL, and of the soup minus MORL.
        shortfall: Worst shortfall of the soup against MORL, and of MORL against the soup.
        igd_plus: IGD+ of the soup against MORL, and of MORL against the soup.
    """

    utility: dict[str, Interval]
    shortfall: dict[str, Interval]
    igd_plus: dict[str, Interval]


def preference_lattice(rewards: int) -> Array:
    """Preferences (W, K), W at most 500: centres of equal cells of the simplex, so each stands for as much of it.

    The weights are (n_k + 1/K) / (H + 1) for all whole n_k with sum H, the finest H that fits. For two rewards that is
    the midpoint rule.

    Raises:
        RslitError: Fewer than two rewards.
    """
    if rewards < 2:
        raise RslitError(f"preferences weigh two or more rewards, not {rewards}")
    parts = 1
    while comb(parts + rewards, rewards - 1) <= _PREFERENCES:
        parts += 1
    return np.asarray((compositions(rewards, parts) + 1 / rewards) / (parts + 1))


def expected_utility(means: ArrayLike) -> Array:
    """Expected utility of R fronts: (R, M, K) to (R,), in the unit of the scores; NaN for a front with a NaN."""
    fronts = np.asarray(means, dtype=np.float64)
    lattice = preference_lattice(fronts.shape[2])
    step = max(1, _CHUNK // (len(lattice) * fronts.shape[1]))
    found = [
        (fronts[start : start + step] @ lattice.T).max(axis=1).mean(axis=1) for start in range(0, len(fronts), step)
    ]
    return np.concatenate(found)


def rescale(x: ArrayLike, initialisation: ArrayLike, experts: ArrayLike, rewards: Sequence[str]) -> Array:
    """Scores (..., K) with 0 at the initialisation's and 1 at the expert's mean.

    Args:
        x: Scores, in the rewards' units.
        initialisation: (K,).
        experts: (K,), the mean score of each reward's expert.
        rewards: K names, for the error message.

    Raises:
        RslitError: Some expert is no better than the initialisation, so there is no unit.
    """
    start, gain = np.asarray(initialisation), np.asarray(experts) - np.asarray(initialisation)
    if not (gain > 0).all():
        raise RslitError(
            f"the expert of '{rewards[int(np.argmin(gain))]}' is no better than the initialisation "
            f"({np.min(gain):+.3g}), so rewards cannot be rescaled; train it longer"
        )
    return np.asarray((np.asarray(x, dtype=np.float64) - start) / gain)


def compare_preferences(
    soup: ArrayLike,
    morl: ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> Preferences:
    """Measures of a soup against MORL with paired intervals.

    Args:
        soup: Rescaled scores (S, I, M, K), see `rescale`.
        morl: Same shape: same seeds, items and number of points.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: A generator or a number to seed one.

    Raises:
        RslitError: Bad scores, or the shapes differ.
    """
    a, b = checked_fronts(soup), checked_fronts(morl)
    if a.shape != b.shape:
        raise RslitError(
            f"fronts have shapes {a.shape} and {b.shape}; give the same seeds, items and numbers of points"
        )

    # One bootstrap for all: rows of the statistic are the measures.
    def measures(first: Array, second: Array) -> Array:
        utility = expected_utility(first), expected_utility(second)
        columns = [*utility, utility[0] - utility[1]]
        for indicator in (moocore.epsilon_additive, moocore.igd_plus):
            columns += [_against(indicator, first, second), _against(indicator, second, first)]
        return np.stack(columns, axis=1)

    found = interval_of(measures, [a, b], replicates, level, rng, basic=True)
    one = [found.part(n) for n in range(7)]
    distances = [interval.clipped(0) for interval in one[5:]]
    return Preferences(
        utility=dict(zip(("soup", "morl", "difference"), one[:3], strict=True)),
        shortfall=dict(zip(("soup", "morl"), one[3:5], strict=True)),
        igd_plus=dict(zip(("soup", "morl"), distances, strict=True)),
    )


def _against(indicator: Callable[..., Any], fronts: Array, references: Array) -> Array:
    """A unary indicator of moocore, front by front; NaN where a mean is NaN."""
    defined = np.asarray(np.isfinite(fronts).all(axis=(1, 2)) & np.isfinite(references).all(axis=(1, 2)))
    return np.array(
        [
            indicator(front, ref=reference, maximise=True) if good else np.nan
            for front, reference, good in zip(fronts, references, defined, strict=True)
        ]
    )
