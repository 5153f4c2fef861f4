"""Hypervolume without the optimism of choosing and scoring points on the same items.

The hypervolume takes the best point in every direction, and with noisy means the best is partly the luckiest: 41 points
on a straight front, with noise of a tenth of its length, look 19 % larger than they are. Here every direction's point
is chosen on one half of the items and scored on the other, both ways, and the two volumes are averaged. What moves all
points of a half alike, the difficulty of its items, is set to that of the other half before choosing.

What it estimates: the hypervolume that somebody attains who picks, for every direction of preference, the policy that
looked best on half the items. On average a wrong pick costs volume, so it nears the hypervolume of the true means from
below as items grow, where the plain hypervolume nears it from above (but for the small bias of a power of a mean).
It matters with many points and few items. Luck of a *training seed* is not removed: both halves score the same weights.

Directions come from the polar form of the volume (Zhang & Golovin 2020, "Random Hypervolume Scalarizations for Provable
Multi-Objective Black Box Optimization", lemma 5): HV = c_K E_w max_m min_k (max(0, y_mk - z_k) / w_k)^K over directions
w uniform on the positive part of the unit sphere, c_K = π^(K/2) / (2^K Γ(K/2 + 1)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from rslit.errors import RslitError
from rslit.front.hypervolume import checked_fronts, checked_reference
from rslit.front.statistics import Interval, checked_scores, interval_of, mean_scores

__all__ = ["cross_fit_difference", "cross_fit_hypervolume"]

Array = NDArray[np.float64]
_ANGLES = 64  # two rewards: the midpoint rule is then within 0.1 % on fronts of 11 points
_SOBOL = 512  # more rewards: within 2 %, see tests/front/test_front_cross_fit.py
_CHUNK = 2**22  # numbers in memory at once, times a few


def cross_fit_hypervolume(
    x: ArrayLike,
    reference: ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int = 0,
) -> Interval:
    """Cross-fit hypervolume of the mean front, with its interval.

    Args:
        x: (S, I, M, K), at least two items.
        reference: (K,), in the rewards' units.
        replicates: Bootstrap replicates; an item stays in its half however often it is drawn.
        level: Nominal coverage.
        rng: Seeds the split into halves and the bootstrap.

    Raises:
        RslitError: Bad scores or reference, one item, or a reward that applies to no item of a half.
    """
    array, ref = checked_fronts(x), checked_reference(reference, x)
    scale = _scale([array], ref)
    interval = interval_of(
        lambda a, b: _cross_fit(a, b, ref, scale), _halves(array, rng), replicates, level, rng, basic=True
    )
    return interval.clipped(0)


def cross_fit_difference(
    a: ArrayLike,
    b: ArrayLike,
    reference: ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int = 0,
) -> Interval:
    """Cross-fit hypervolume of `a` (the soup) minus that of `b` (MORL): same halves, same replicates.

    Args:
        a: (S, I, M, K).
        b: (S, I, M, K), the same seeds and items.
        reference: (K,), in the rewards' units.
        replicates: Bootstrap replicates.
        level: Nominal coverage.
        rng: Seeds the split into halves and the bootstrap.

    Raises:
        RslitError: As `cross_fit_hypervolume`, or the shapes differ.
    """
    first, second, ref = checked_fronts(a), checked_fronts(b), checked_reference(reference, a)
    if first.shape != second.shape:
        raise RslitError(f"fronts have shapes {first.shape} and {second.shape}; give equal seeds, items and points")
    scale = _scale([first, second], ref)
    return interval_of(
        lambda a1, a2, b1, b2: np.asarray(_cross_fit(a1, a2, ref, scale) - _cross_fit(b1, b2, ref, scale)),
        [*_halves(first, rng), *_halves(second, rng)],
        replicates,
        level,
        rng,
        basic=True,
    )


def _halves(x: Array, rng: int) -> list[Array]:
    """The scores of one half of the items and of the other, NaN elsewhere."""
    items = x.shape[1]
    if items < 2:
        raise RslitError("one item has no halves to cross-fit on; evaluate on at least two")
    chosen = np.random.default_rng(rng).permutation(items) < items // 2
    return [
        checked_scores(np.where(half[:, None, None], x, np.nan), "scores of half the items")
        for half in (chosen, ~chosen)
    ]


def _scale(fronts: Sequence[Array], reference: Array) -> Array:
    """Per reward, how far the best mean lies above the reference: directions are even when rewards reach alike."""
    best = np.max([mean_scores(front).max(axis=0) for front in fronts], axis=0) - reference
    return np.where(best > 0, best, 1.0)


def _cross_fit(first: Array, second: Array, reference: Array, scale: Array) -> Array:
    """Means (R, M, K) of the two halves to cross-fit hypervolumes (R,); NaN where a mean is NaN."""
    directions = _directions(len(reference))
    step = max(1, _CHUNK // (len(directions) * first.shape[1]))
    volumes: list[Array] = []
    for start in range(0, len(first), step):
        a, b = first[start : start + step], second[start : start + step]
        # Harder items move all points of a half alike, and with them the directions they lie in: no news of the points.
        shift = (b - a).mean(axis=1, keepdims=True)
        volume = np.zeros(len(a))
        for chosen_on, scored_on in ((a + shift, b), (b - shift, a)):
            pick = _reach(chosen_on, reference, scale, directions).argmax(axis=1)[:, None]
            scored = np.take_along_axis(_reach(scored_on, reference, scale, directions), pick, axis=1)[:, 0]
            volume = volume + (scored ** len(reference)).mean(axis=1) / 2
        volumes.append(volume)
    k = len(reference)
    ball = math.pi ** (k / 2) / (2**k * math.gamma(k / 2 + 1))
    return np.asarray(np.concatenate(volumes) * ball * scale.prod())


def _reach(means: Array, reference: Array, scale: Array, directions: Array) -> Array:
    """How far each point lets one go in each direction: (R, M, K) to (R, M, D)."""
    above = np.clip((means - reference) / scale, 0, None)
    reach = above[:, :, None, 0] / directions[:, 0]
    for k in range(1, len(reference)):
        np.minimum(reach, above[:, :, None, k] / directions[:, k], out=reach)
    return reach


def _directions(rewards: int) -> Array:
    """Directions (D, K) on the positive part of the unit sphere, each of equal weight and the same at every call."""
    if rewards == 2:
        angle = (np.arange(_ANGLES) + 0.5) / _ANGLES * math.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    uniform = qmc.Sobol(rewards, scramble=False).random(_SOBOL) + 0.5 / _SOBOL
    normal = ndtri((1 + uniform) / 2)
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))
