"""Intervals for scores and fronts: the crossed bootstrap over seeds and items, with the seed-t interval beside it.

Notation: X is an array (S seeds, I items, M points, K rewards), NaN where a reward does not apply.

A score varies over training seeds and over items, and the two are crossed: every seed is scored on the same items.
Resampling only one of them gives intervals that are too short (coverage 0.34 for a nominal 0.95 when seeds dominate and
only prompts are resampled), so both are drawn with replacement, independently: the pigeonhole bootstrap of Owen (2007),
"The pigeonhole bootstrap", Ann. Appl. Stat. 1(2), section 3. It counts the seed x item interaction up to three times,
so its intervals err on the long side.

With one seed there is nothing to resample over seeds: the interval is then *conditional* on that run and says nothing
about another training. With few seeds that dominate the bare bootstrap is too short, so it is lengthened by the share
of the variance that the seeds carry (`rslit.front.few_seeds`). Beside it stands the seed-t interval, Student's t on the
jackknife pseudo-values of the seeds (Tukey 1958): conditional on the items, and much too short when items dominate.
Coverages of both are in docs/results/statistics_coverage.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from rslit.errors import RslitError
from rslit.front.few_seeds import lengthening, seed_share

__all__ = [
    "Interval",
    "bootstrap_means",
    "checked_scores",
    "crossed_bootstrap_weights",
    "interval_of",
    "mean_scores",
    "paired_mean_interval",
    "point_intervals",
]

Array = NDArray[np.float64]
_ARRAYS = ("estimate", "low", "high", "seed_low", "seed_high", "seed_share")


@dataclass(frozen=True)
class Interval:
    """An estimate with two intervals; all arrays have the shape of the estimate.

    Attributes:
        estimate: The statistic on the data.
        low: Lower end of the crossed-bootstrap interval, lengthened for few seeds; NaN when there is one seed and one
            item.
        high: Upper end.
        seed_low: Lower end of the seed-t interval; NaN with one seed.
        seed_high: Upper end.
        seed_share: Share of the variance that the seeds carry, 0 to 1; NaN with one seed.
        conditional: True with one seed: `low` and `high` are conditional on that run.
        level: Nominal coverage.
    """

    estimate: Array
    low: Array
    high: Array
    seed_low: Array
    seed_high: Array
    seed_share: Array
    conditional: bool
    level: float

    def half(self) -> Array:
        """Half the length of the interval `low` to `high`."""
        return np.asarray((self.high - self.low) / 2)

    def part(self, place: int) -> Interval:
        """The interval of one entry along the first axis."""
        arrays = {name: getattr(self, name)[place] for name in _ARRAYS}
        return replace(self, **arrays)

    def clipped(self, least: float) -> Interval:
        """The same with both ends of `low` to `high` no lower than a statistic can be, which the basic one forgets."""
        return replace(self, low=np.maximum(self.low, least), high=np.maximum(self.high, least))


def crossed_bootstrap_weights(
    seeds: int, items: int, replicates: int, rng: int | np.random.Generator
) -> tuple[Array, Array]:
    """How often each seed and each item is drawn in each replicate.

    Args:
        seeds: S, at least 1.
        items: I, at least 1.
        replicates: R, at least 1.
        rng: A generator, or a number to seed one; equal numbers give equal replicates.

    Returns:
        Multinomial counts (R, S) and (R, I), independent; rows sum to S and to I.

    Raises:
        RslitError: A number below 1.
    """
    for name, value in (("seeds", seeds), ("items", items), ("replicates", replicates)):
        if value < 1:
            raise RslitError(f"the bootstrap was given {value} {name}; it needs at least 1")
    generator = np.random.default_rng(rng)
    over_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates)
    over_items = generator.multinomial(items, np.full(items, 1 / items), size=replicates)
    return over_seeds.astype(np.float64), over_items.astype(np.float64)


def bootstrap_means(x: Array, over_seeds: Array, over_items: Array) -> Array:
    """Weighted mean scores: Σ w_s v_i x_si / Σ w_s v_i, sums over the seeds and items where the reward applies.

    Args:
        x: (S, I, ...), NaN where the reward does not apply.
        over_seeds: (R, S), non-negative.
        over_items: (R, I), non-negative.

    Returns:
        (R, ...); NaN for a replicate that drew no item the reward applies to.
    """
    s, i = x.shape[:2]
    applies = np.isfinite(x)

    def weighted(values: Array) -> Array:
        # Items first, as one GEMM: (R, I) @ (I, S * points * rewards).
        by_item = over_items @ np.moveaxis(values, 1, 0).reshape(i, -1)
        return np.asarray(np.einsum("rs,rsx->rx", over_seeds, by_item.reshape(len(over_items), s, -1)))

    if applies.all():
        total = weighted(x)
        weight = (over_seeds.sum(axis=1) * over_items.sum(axis=1))[:, None]
    else:
        total = weighted(np.where(applies, x, 0.0))
        weight = weighted(applies.astype(np.float64))
    with np.errstate(invalid="ignore"):
        return np.asarray((total / np.where(weight > 0, weight, np.nan)).reshape(-1, *x.shape[2:]))


def mean_scores(x: ArrayLike) -> Array:
    """Mean over seeds and items where the reward applies: (S, I, ...) to (...).

    Raises:
        RslitError: `x` is not (S, I, ...), holds an infinite score, or a reward applies to no item at some point.
    """
    array = checked_scores(x, "scores")
    means = bootstrap_means(array, np.ones((1, array.shape[0])), np.ones((1, array.shape[1])))
    return np.asarray(means[0])


def point_intervals(
    x: ArrayLike, *, replicates: int = 2000, level: float = 0.95, rng: int | np.random.Generator = 0
) -> Interval:
    """Intervals of the mean score of each point and reward.

    Args:
        x: (S, I, ...), usually (S, I, M, K).
        replicates: Bootstrap replicates.
        level: Nominal coverage of each interval (they are not simultaneous).
        rng: A generator or a number to seed one.

    Returns:
        Percentile intervals of shape (...).

    Raises:
        RslitError: Bad scores (see `mean_scores`), or a level outside (0, 1).
    """
    array = checked_scores(x, "scores")
    return interval_of(lambda *means: means[0], [array], replicates, level, rng)


def paired_mean_interval(
    a: ArrayLike, b: ArrayLike, *, replicates: int = 2000, level: float = 0.95, rng: int | np.random.Generator = 0
) -> Interval:
    """Interval of mean(a - b), such as expert minus initialisation on the expert's own reward.

    Args:
        a: (S, I, ...).
        b: Same shape; scores of the same seeds on the same items. Only pairs where both apply count.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: A generator or a number to seed one.

    Raises:
        RslitError: Shapes differ, or no pair applies.
    """
    first, second = checked_scores(a, "scores"), checked_scores(b, "scores")
    if first.shape != second.shape:
        raise RslitError(f"paired scores have shapes {first.shape} and {second.shape}; give the same seeds and items")
    return interval_of(lambda *means: means[0], [checked_scores(first - second, "differences")], replicates, level, rng)


def interval_of(
    statistic: Callable[..., Array],
    arrays: list[Array],
    replicates: int,
    level: float,
    rng: int | np.random.Generator,
    *,
    basic: bool = False,
) -> Interval:
    """Intervals of any statistic of mean scores.

    Args:
        statistic: Maps replicated means (R, ...), one argument per array, to (R, ...); a NaN replicate is left out.
        arrays: Checked scores (S, I, ...), the same seeds and items in each.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: A generator or a number to seed one.
        basic: Basic intervals (2 estimate - quantile) in place of percentile ones.

    Raises:
        RslitError: A level outside (0, 1) or fewer than 1 replicate.
    """
    # Percentile intervals keep to the range of the scores; basic ones undo the bias a statistic has on noisy means.
    if not 0 < level < 1:
        raise RslitError(f"level {level} is not a coverage; give a number between 0 and 1, such as 0.95")
    s, i = arrays[0].shape[:2]
    over_seeds, over_items = crossed_bootstrap_weights(s, i, replicates, rng)

    def of(u: Array, v: Array) -> Array:
        return statistic(*(bootstrap_means(array, u, v) for array in arrays))

    estimate = of(np.ones((1, s)), np.ones((1, i)))[0]
    nothing = np.full_like(estimate, np.nan)
    low, high = nothing, nothing
    if s > 1 or i > 1:
        # A replicate that drew no item some reward applies to says nothing about that statistic.
        replicated = of(over_seeds, over_items)
        low, high = np.nanquantile(replicated, [(1 - level) / 2, (1 + level) / 2], axis=0)
        if basic:
            low, high = 2 * estimate - high, 2 * estimate - low
    seed_low, seed_high, share = nothing, nothing, nothing
    if s > 1:
        left_out = of(1 - np.eye(s), np.ones((s, i)))
        pseudo = s * estimate - (s - 1) * left_out
        reach = stdtrit(s - 1, (1 + level) / 2) * pseudo.std(axis=0, ddof=1) / np.sqrt(s)
        seed_low, seed_high = pseudo.mean(axis=0) - reach, pseudo.mean(axis=0) + reach
        # Seeds resampled alone have (S - 1) / S of the jackknife's variance, exactly so for means.
        share = seed_share(pseudo.var(axis=0) / s, np.nanvar(replicated, axis=0))
        more = (lengthening(share, s, i, ndtri((1 + level) / 2)) - 1) * (high - low) / 2
        low, high = low - more, high + more
    return Interval(estimate, low, high, seed_low, seed_high, share, conditional=s == 1, level=level)


def checked_scores(x: ArrayLike, word: str) -> Array:
    """Scores (S, I, ...) as float64.

    Raises:
        RslitError: They have fewer than two axes or none, hold an infinite value, or are NaN for all items somewhere.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim < 2 or array.size == 0:
        raise RslitError(f"{word} of shape {array.shape} are not (seeds, items, ...); give at least one seed and item")
    if np.isinf(array).any():
        raise RslitError(f"{word} hold an infinite value; mend the reward (NaN means it does not apply)")
    if np.isnan(array).all(axis=(0, 1)).any():
        raise RslitError(f"{word} of some point and reward are NaN for all items; leave that reward out")
    return array
