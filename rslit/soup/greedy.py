"""Greedy soups (Wortsman et al. 2022, "Model soups", recipe 1): which of many ingredients are worth averaging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from rslit.errors import RslitError

__all__ = ["greedy_soup"]


def greedy_soup(
    names: Sequence[str], evaluate: Callable[[dict[str, Fraction]], float]
) -> tuple[dict[str, Fraction], float]:
    """Averages ingredients as long as the score does not fall.

    Ingredients are tried from the best alone to the worst; one that would lower the score of the uniform average so far
    is left out. The score is of held-out items: choosing on the items that are reported flatters the result.

    Args:
        names: N ingredients, such as one expert's seeds or hyper-parameters.
        evaluate: The score of a soup, given λ of all ingredients (0 for those left out); higher is better. Called
            2N − 1 times.

    Returns:
        λ, uniform over the ingredients kept and 0 elsewhere, and its score.

    Raises:
        RslitError: No ingredient, or one twice.
    """
    if not names or len(set(names)) < len(names):
        raise RslitError(f"greedy soup of {list(names)}: name one ingredient or more, each once")

    def uniform(kept: Sequence[str]) -> dict[str, Fraction]:
        return {name: Fraction(int(name in kept), len(kept)) for name in names}

    alone = {name: evaluate(uniform([name])) for name in names}
    # Equal scores keep the given order.
    best, *rest = sorted(names, key=lambda name: -alone[name])
    kept, score = [best], alone[best]
    for name in rest:
        tried = evaluate(uniform([*kept, name]))
        if tried >= score:
            kept, score = [*kept, name], tried
    return uniform(kept), score
