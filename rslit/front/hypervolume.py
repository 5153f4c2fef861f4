"""Hypervolume of noisy fronts: intervals, and the paired difference of two fronts with equal numbers of points."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rslit.errors import RslitError
from rslit.front.statistics import Interval, checked_scores, interval_of

__all__ = [
    "checked_fronts",
    "checked_reference",
    "hypervolume_interval",
    "hypervolume_spread",
    "paired_hypervolume_difference",
]

Array = NDArray[np.float64]


def hypervolume_interval(
    x: ArrayLike,
    reference: ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> Interval:
    """Interval of the hypervolume of the mean front.

    The mean comes first, in every replicate: averaging the hypervolumes of single seeds is biased upward. Noise in the
    means biases the hypervolume upward too, the more so the more points, and the replicates once more; the interval is
    therefore the basic one, 2 estimate - quantile, which takes that bias off (so a noisy estimate can lie at its upper
    end or above). Compare fronts with equal numbers of points.

    Args:
        x: (S, I, M, K).
        reference: (K,), in the rewards' units.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: A generator or a number to seed one.

    Raises:
        RslitError: Bad scores or reference.
    """
    array, ref = checked_fronts(x), checked_reference(reference, x)
    interval = interval_of(lambda *means: _hypervolumes(means[0], ref), [array], replicates, level, rng, basic=True)
    return interval.clipped(0)


def paired_hypervolume_difference(
    a: ArrayLike,
    b: ArrayLike,
    reference: ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> Interval:
    """Interval of the hypervolume of `a` (the soup) minus that of `b` (MORL), on the same replicates.

    Args:
        a: (S, I, M, K).
        b: Same shape; same seeds, same items, equal number of points.
        reference: (K,), in the rewards' units.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: A generator or a number to seed one.

    Raises:
        RslitError: Numbers of points differ (more points win by noise alone), or seeds, items or rewards do.
    """
    first, second, ref = checked_fronts(a), checked_fronts(b), checked_reference(reference, a)
    if first.shape[2] != second.shape[2]:
        raise RslitError(
            f"fronts of {first.shape[2]} and {second.shape[2]} points cannot be compared by hypervolume; "
            f"subsample the larger to {min(first.shape[2], second.shape[2])} points"
        )
    if first.shape != second.shape:
        raise RslitError(f"fronts have shapes {first.shape} and {second.shape}; give the same seeds, items and rewards")
    return interval_of(
        lambda *means: _hypervolumes(means[0], ref) - _hypervolumes(means[1], ref),
        [first, second],
        replicates,
        level,
        rng,
        basic=True,
    )


def hypervolume_spread(
    fronts: Sequence[ArrayLike],
    reference: ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> Interval:
    """Intervals of mean, standard deviation, least and most of the hypervolumes of several fronts.

    The standard deviation is that of a sample, over F - 1. Replicates draw the same seeds and items for all fronts,
    so that what is hard or easy for every front alike makes no difference.

    Args:
        fronts: F of them, at least 2, each (S, I, M, K); the same seeds, items and rewards in each.
        reference: (K,), in the rewards' units.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: A generator or a number to seed one.

    Returns:
        Intervals of shape (4,).

    Raises:
        RslitError: Fewer than 2 fronts, bad scores or reference, or seeds, items or rewards that differ.
    """
    if len(fronts) < 2:
        raise RslitError(f"{len(fronts)} front has no spread; give at least 2")
    arrays, ref = [checked_fronts(front) for front in fronts], checked_reference(reference, fronts[0])
    shapes = [(*array.shape[:2], array.shape[3]) for array in arrays]
    if len(set(shapes)) > 1:
        raise RslitError(f"fronts have (seeds, items, rewards) {sorted(set(shapes))}; give the same of all")

    def spread(*means: Array) -> Array:
        volumes = np.stack([_hypervolumes(one, ref) for one in means])
        return np.stack([volumes.mean(0), volumes.std(0, ddof=1), volumes.min(0), volumes.max(0)], axis=1)

    return interval_of(spread, arrays, replicates, level, rng, basic=True).clipped(0)


def _hypervolumes(means: Array, reference: Array) -> Array:
    """Hypervolume of each of R fronts: (R, M, K) to (R,); NaN for a front with a NaN, which moocore would skip over."""
    defined = np.asarray(np.isfinite(means).all(axis=(1, 2)))
    return np.array(
        [
            moocore.hypervolume(front, ref=reference, maximise=True) if good else np.nan
            for front, good in zip(means, defined, strict=True)
        ]
    )


def checked_fronts(x: ArrayLike) -> Array:
    """Scores (S, I, M, K) as float64.

    Raises:
        RslitError: They have another number of axes, or are bad (see `checked_scores`).
    """
    array = checked_scores(x, "scores")
    if array.ndim != 4:
        raise RslitError(f"scores of shape {array.shape} are no fronts; give (seeds, items, points, rewards)")
    return array


def checked_reference(reference: ArrayLike, x: ArrayLike) -> Array:
    """The reference (K,) of scores (..., K).

    Raises:
        RslitError: It is not K finite numbers.
    """
    array, rewards = np.asarray(reference, dtype=np.float64), np.shape(x)[-1]
    if array.shape != (rewards,) or not np.isfinite(array).all():
        raise RslitError(f"reference {array.tolist()} does not fit; give {rewards} finite numbers, one per reward")
    return array
