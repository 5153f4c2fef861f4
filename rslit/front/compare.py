"""Choices that a fair comparison of soup, MORL and initialisation needs: a reference point, pairs, equal numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rslit.errors import RslitError
from rslit.front.arrays import ScoreArray
from rslit.front.scores import ScoreMeta

__all__ = ["Reference", "beside_seeds", "choose_reference", "nearest_points"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A reference point for hypervolumes.

    Attributes:
        point: (K,), in the rewards' units.
        origin: Where it came from, in words.
    """

    point: Array
    origin: str


def choose_reference(
    given: Sequence[float] | None, initialisation: Array | None, experts: Array | None, rewards: Sequence[str]
) -> Reference:
    """The reference given, else the initialisation, else a margin under the worst expert.

    The initialisation is natural for soups: a policy that does not beat it on every reward adds no volume. Without one
    the reference is, per reward, the worst expert minus 10 % of the range between experts.

    Args:
        given: K numbers, or None.
        initialisation: Its mean scores (K,), or None if it was not scored.
        experts: Mean scores of the experts (N, K), or None if some are missing.
        rewards: K names.

    Raises:
        RslitError: `given` is not K finite numbers, or there is nothing to choose from.
    """
    if given is not None:
        point = np.asarray(given, dtype=np.float64)
        if point.shape != (len(rewards),) or not np.isfinite(point).all():
            raise RslitError(
                f"reference {list(given)} does not fit; give one finite number for each of {', '.join(rewards)}"
            )
        return Reference(point, "given")
    if initialisation is not None:
        return Reference(initialisation, "mean scores of the initialisation")
    if experts is not None:
        low, high = experts.min(axis=0), experts.max(axis=0)
        return Reference(low - 0.1 * (high - low), "worst expert minus 10 % of the range between experts, per reward")
    raise RslitError("there is neither initialisation nor all experts to take a reference from; give a reference point")


def beside_seeds(initialisation: ScoreArray, seeds: Sequence[int]) -> tuple[ScoreArray, str]:
    """The initialisation as scored beside each seed of the soup, and in words how it was paired.

    When it was not scored under every seed, its mean over the seeds it has stands for all: it is one policy.
    """
    if set(seeds) <= set(initialisation.seeds):
        return initialisation, "by seed and item"
    values = initialisation.values
    applies = np.isfinite(values)
    count = applies.sum(axis=0)
    mean = np.where(count > 0, np.where(applies, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    repeated = np.broadcast_to(mean, (len(seeds), *mean.shape))
    return replace(initialisation, values=repeated, seeds=tuple(seeds)), "by item, one initialisation for all seeds"


def nearest_points(lams: Array, mus: Array, meta: ScoreMeta) -> tuple[NDArray[np.int64], NDArray[np.int64]] | str:
    """Equal numbers of soup and MORL points: each μ with the λ nearest to it, no point used twice.

    λ_i is compared with the weight that μ, normalised to sum 1, gives to the reward expert i was trained on. The pairs
    minimise the sum of squared distances (`scipy.optimize.linear_sum_assignment`).

    Args:
        lams: λ (M, N).
        mus: μ (m, K).
        meta: Says which reward each expert was trained on.

    Returns:
        Indices of min(M, m) soup points and of the MORL points they are paired with, in MORL's order; or the reason
        why there are none.
    """
    from scipy.optimize import linear_sum_assignment

    if len(mus) < 2 or len(lams) < 2:
        return f"the soup has {len(lams)} points and MORL {len(mus)}; a front to compare needs at least 2"
    own = [meta.own_reward(expert) for expert in meta.experts]
    for expert, reward in zip(meta.experts, own, strict=True):
        if reward is None or own.count(reward) > 1:
            return f"expert '{expert}' has no evaluation reward of its own, so λ cannot be matched with μ"
    weights = mus[:, [meta.rewards.index(str(reward)) for reward in own]]
    total = weights.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        return "some μ gives no weight to the experts' rewards, so λ cannot be matched with μ"
    target = weights / total
    cost = ((lams[:, None] - target[None]) ** 2).sum(axis=2)
    soup, morl = linear_sum_assignment(cost)
    order = np.argsort(morl)
    return np.asarray(soup[order], dtype=np.int64), np.asarray(morl[order], dtype=np.int64)
