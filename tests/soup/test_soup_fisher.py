"""Fisher-weighted averages against hand computation, and greedy soups against all subsets of a known order."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
import torch

from rslit.errors import RslitError
from rslit.soup import Soup, fisher_average, greedy_soup

A = {"w": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([7.0])}
B = {"w": torch.tensor([5.0, 6.0, 7.0, 8.0]), "b": torch.tensor([7.0])}
F_A = {"w": torch.tensor([1.0, 3.0, 0.0, 0.0])}
F_B = {"w": torch.tensor([1.0, 1.0, 2.0, 0.0])}


def soup() -> Soup:
    return Soup({"a": A, "b": B}, trainable_keys=["w"])


def test_by_hand() -> None:
    found = fisher_average(soup(), {"a": F_A, "b": F_B}, {"a": 0.25, "b": 0.75})
    # Equal Fishers interpolate; 0.75 : 0.75; only b cares; nobody cares: interpolated.
    expected = [0.25 * 1 + 0.75 * 5, (0.75 * 2 + 0.75 * 6) / 1.5, 7.0, 0.25 * 4 + 0.75 * 8]
    torch.testing.assert_close(found["w"], torch.tensor(expected))
    assert torch.equal(found["b"], A["b"])


def test_ends_are_the_experts_and_equal_fishers_a_soup() -> None:
    assert torch.equal(fisher_average(soup(), {"a": F_A, "b": F_B}, {"a": 1.0, "b": 0.0})["w"], A["w"])
    ones = {"w": torch.full((4,), 1e-30)}  # however small
    for share in (0.1, 0.5):
        lam = {"a": share, "b": 1 - share}
        plain = soup().state_dict(lam)["w"]
        torch.testing.assert_close(fisher_average(soup(), {"a": ones, "b": ones}, lam)["w"], plain)


def test_negative_lam_is_refused() -> None:
    beyond = Soup({"a": A, "b": B}, trainable_keys=["w"], extrapolate=True)
    with pytest.raises(RslitError, match="does not extrapolate"):
        fisher_average(beyond, {"a": F_A, "b": F_B}, {"a": 1.5, "b": -0.5})


def test_greedy() -> None:
    """Scores of subsets are given: c hurts, d helps after a and b."""
    worth = {"a": 3.0, "b": 2.0, "c": 2.5, "d": 1.0}
    asked: list[tuple[str, ...]] = []

    def evaluate(lam: dict[str, Fraction]) -> float:
        kept = tuple(name for name, value in lam.items() if value)
        assert sum(lam.values()) == 1
        assert len({value for value in lam.values() if value}) == 1
        asked.append(kept)
        return max(worth[name] for name in kept) + 0.5 * len(kept) - 2 * ("c" in kept and len(kept) > 1)

    lam, score = greedy_soup(list(worth), evaluate)
    third = Fraction(1, 3)
    assert lam == {"a": third, "b": third, "c": 0, "d": third}
    assert len(asked) == 2 * 4 - 1
    every = [subset for size in range(1, 5) for subset in combinations(worth, size)]
    best = max(evaluate({n: Fraction(int(n in s), len(s)) for n in worth}) for s in every)
    assert score == best == 4.5
    with pytest.raises(RslitError, match="each once"):
        greedy_soup(["a", "a"], evaluate)
