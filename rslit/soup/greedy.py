"""Greedy soups: of many ingredients, average those that improve a validation score.

Recipe 1 of Wortsman et al. (2022), "Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time": ingredients (seeds, hyper-parameters of one reward) are sorted by their own score,
best first, and each is kept if the uniform average with it scores no worse. The soup is thus never worse than the best
ingredient, on the items it was chosen on; score the result on others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rslit.errors import RslitError

__all__ = ["GreedySoup", "greedy_soup"]


@dataclass(frozen=True)
class GreedySoup:
    """What the recipe chose.

    Attributes:
        lam: λ of every ingredient: 1/n for the n that were kept, 0 for the others.
        score: The score at `lam`, in the unit of the callable.
        alone: Score of each ingredient, best first: the order in which they were tried.
        kept: Names of those kept, in that order.
        evaluations: How often the score was asked for; 2 N - 1 if no score was given.
    """

    lam: dict[str, Fraction]
    score: float
    alone: dict[str, float]
    kept: tuple[str, ...]
    evaluations: int


def greedy_soup(
    names: Sequence[str],
    score: Callable[[dict[str, Fraction]], float],
    *,
    alone: Mapping[str, float] | None = None,
) -> GreedySoup:
    """Averages ingredients as long as that does not lower the score.

    Args:
        names: N ingredients, distinct, as in a `Soup`.
        score: The validation score of the soup at λ, higher is better; λ names every ingredient.
        alone: Scores of single ingredients that are known, which are then not asked for.

    Raises:
        RslitError: No ingredient, one is named twice, or a score is not finite.
    """
    if not names or len(set(names)) < len(names):
        raise RslitError(f"a greedy soup of {', '.join(names) or 'nothing'}: name each ingredient once, at least one")
    asked = 0

    def at(kept: Sequence[str]) -> float:
        nonlocal asked
        asked += 1
        return float(score(_uniform(names, kept)))

    own = {name: alone[name] if alone and name in alone else at([name]) for name in names}
    _check(own)
    order = sorted(own, key=lambda name: -own[name])  # stable: equal scores keep the order given
    kept, best = [order[0]], own[order[0]]
    for name in order[1:]:
        found = at([*kept, name])
        _check({" + ".join([*kept, name]): found})
        if found >= best:
            kept, best = [*kept, name], found
    return GreedySoup(_uniform(names, kept), best, {name: own[name] for name in order}, tuple(kept), asked)


def _uniform(names: Sequence[str], kept: Sequence[str]) -> dict[str, Fraction]:
    return {name: Fraction(int(name in kept), len(kept)) for name in names}


def _check(scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        if not math.isfinite(value):
            raise RslitError(f"the score of '{name}' is {value}; leave that ingredient out or mend the evaluation")
