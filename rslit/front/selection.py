"""Which λ for whom: the best λ of a preference μ over the experts' rewards, and what λ = μ loses (paper, Figure 4(a)).

Rewards are rescaled so that a preference means the same for each: to 0 at the initialisation and 1 at the reward's own
expert, or where the initialisation was not scored or beats some expert, to 0 at the worst and 1 at the best expert. In
the latter units λ = μ is the best soup of two experts with quadratic rewards (`rslit.front.quadratic`).

The best of several noisy means flatters itself, so the score of the chosen λ is cross-validated: items are split in
folds, λ is chosen on all folds but one and scored on that one. Intervals are by the crossed bootstrap, choosing anew in
every replicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rslit.errors import RslitError
from rslit.front.analysed import Analysed
from rslit.front.compositions import compositions
from rslit.front.numbers import by_name, numbers
from rslit.front.statistics import Interval, interval_of, mean_scores

__all__ = ["Selection", "read_preference", "select_lam", "selection_section"]

Array = NDArray[np.float64]
FOLDS = 5
_MOST_PREFERENCES = 15


@dataclass(frozen=True)
class Selection:
    """λ for G preferences; scores are μ-weighted sums of rescaled rewards.

    Attributes:
        best: Index of the soup that scores best on all items, (G,).
        nearest: Index of the soup whose λ is nearest to μ, (G,).
        chosen: Score of a λ chosen on other items than it is scored on, (G,).
        at_mu: Score at λ = μ, (G,).
        optimistic: Score of `best` on the items it was chosen on, (G,).
        regret: What λ = μ loses against a chosen λ: `chosen` − `at_mu`, paired, (G,).
    """

    best: NDArray[np.int64]
    nearest: NDArray[np.int64]
    chosen: Interval
    at_mu: Interval
    optimistic: Interval
    regret: Interval


def select_lam(values: Array, lams: Array, mus: Array, draws: Mapping[str, Any]) -> Selection:
    """Chooses λ for every preference.

    Args:
        values: Rescaled scores (S, I, M, N) of M soups on the rewards of their N experts, in the experts' order.
        lams: λ (M, N).
        mus: Preferences (G, N), each of sum 1.
        draws: `replicates`, `level`, `rng` of the intervals.

    Raises:
        RslitError: Fewer items than folds.
    """
    items = values.shape[1]
    if items < FOLDS:
        raise RslitError(f"{items} items are too few to choose λ on some and score it on others; {FOLDS} are needed")
    # The same folds each time; items need not be in random order.
    fold = np.random.default_rng(0).permutation(items) % FOLDS
    arrays = [values]
    for number in range(FOLDS):
        inside = (fold == number)[None, :, None, None]
        arrays += [np.where(inside, values, np.nan), np.where(inside, np.nan, values)]
    nearest = np.argmin(((lams[:, None] - mus[None]) ** 2).sum(axis=2), axis=0)
    share = np.bincount(fold, minlength=FOLDS) / items

    def scores(every: Array, *folds: Array) -> Array:
        utility = every @ mus.T  # (R, M, G)
        at_mu = np.take_along_axis(utility, np.broadcast_to(nearest, (len(every), 1, len(mus))), axis=1)[:, 0]
        chosen = np.zeros_like(at_mu)
        for number in range(FOLDS):
            held, rest = folds[2 * number] @ mus.T, folds[2 * number + 1] @ mus.T
            pick = rest.argmax(axis=1)[:, None]
            chosen += share[number] * np.take_along_axis(held, pick, axis=1)[:, 0]
        return np.stack([chosen, at_mu, utility.max(axis=1), chosen - at_mu], axis=1)

    found = interval_of(scores, arrays, draws["replicates"], draws["level"], draws["rng"])
    utility = mean_scores(values) @ mus.T
    return Selection(utility.argmax(axis=0), nearest, *(found.part(n) for n in range(4)))


def selection_section(report: Analysed, preferences: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
    """The section `selection` of `front.json`: a row per preference of a grid, and of those asked for.

    Raises:
        RslitError: A preference is asked for and cannot be answered.
    """
    try:
        return _section(report, preferences)
    except RslitError as error:
        if preferences:
            raise
        return {"skipped": str(error)}


def read_preference(text: str) -> dict[str, float]:
    """A preference written as `a=0.7,b=0.3`; weights are divided by their sum.

    Raises:
        RslitError: It is written otherwise, or a weight is negative, or all are 0.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip() or not 0 <= found[name.strip()] < np.inf:
            raise RslitError(f"--preference {text}: write reward=weight,…, no weight negative, such as a=0.7,b=0.3")
    total = sum(found.values())
    if total == 0:
        raise RslitError(f"--preference {text}: all weights are 0; give some reward a weight")
    return {name: value / total for name, value in found.items()}


def _section(report: Analysed, preferences: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    soup, meta = report.kinds["soup"], report.meta
    own = [meta.own_reward(expert) for expert in meta.experts]
    for expert, reward in zip(meta.experts, own, strict=True):
        if reward is None or own.count(reward) > 1:
            raise RslitError(f"expert '{expert}' has no evaluation reward of its own, so λ cannot be matched with μ")
    if not soup.front.has_experts():
        raise RslitError("some expert (λ = 1) was not scored")
    rewards = [str(reward) for reward in own]
    for preference in preferences:
        unknown = [name for name in preference if name not in rewards]
        if unknown:
            raise RslitError(f"--preference: no expert was trained on '{unknown[0]}'; weigh {', '.join(rewards)}")
    asked = [[preference.get(reward, 0.0) for reward in rewards] for preference in preferences]
    mus = np.array([*asked, *_grid(len(rewards))])
    inside = np.flatnonzero((soup.array.weights >= 0).all(axis=1))
    columns = [meta.rewards.index(reward) for reward in rewards]
    values, unit = _rescaled(report, soup.array.values[:, :, inside][..., columns], columns)
    found = select_lam(values, soup.array.weights[inside], mus, report.draws)

    def row(g: int) -> dict[str, Any]:
        best = int(inside[found.best[g]])
        return {
            "mu": by_name(rewards, mus[g]),
            "best": soup.array.points[best],
            "best_lam": by_name(meta.experts, soup.array.weights[best]),
            "nearest": soup.array.points[int(inside[found.nearest[g]])],
            **{name: numbers(getattr(found, name), (g,)) for name in ("chosen", "at_mu", "optimistic", "regret")},
        }

    rows = [row(g) for g in range(len(mus))]
    return {
        "unit": f"μ-weighted sum of rewards, each {unit}",
        "folds": FOLDS,
        "asked": rows[: len(asked)],
        "grid": rows[len(asked) :],
    }


def _rescaled(report: Analysed, values: Array, columns: Sequence[int]) -> tuple[Array, str]:
    """Scores (..., N) of the experts' rewards rescaled, and in words to what."""
    soup = report.kinds["soup"].front
    experts = soup.scores[soup.expert_points()][:, columns]
    if "initialisation" in report.kinds:
        start, own = report.kinds["initialisation"].front.scores[0][columns], np.diag(experts)
        if (own > start).all():
            return (values - start) / (own - start), "0 at the initialisation and 1 at its own expert"
    low, high = experts.min(axis=0), experts.max(axis=0)
    if not (high > low).all():
        raise RslitError("the experts score alike on some reward, so there is nothing to rescale it by")
    return (values - low) / (high - low), "0 at the worst and 1 at the best expert"


def _grid(count: int) -> Array:
    """Preferences over `count` rewards: the finest lattice, at most tenths, of at most 15 (or their ends alone)."""
    parts = next(p for p in range(10, 0, -1) if p == 1 or comb(p + count - 1, count - 1) <= _MOST_PREFERENCES)
    return np.asarray(compositions(count, parts)[::-1] / parts)
