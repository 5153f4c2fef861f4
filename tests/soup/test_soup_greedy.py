"""Greedy soups on scores whose best subset is known."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rslit.errors import RslitError
from rslit.soup import greedy_soup

WEIGHTS = {"a": 3.0, "b": -2.0, "c": 9.0, "d": 0.4}


def closeness(lam: dict[str, Fraction]) -> float:
    """Minus the distance of the averaged weight from 1."""
    assert sum(lam.values()) == 1
    return -abs(sum(float(value) * WEIGHTS[name] for name, value in lam.items()) - 1)


def test_by_hand() -> None:
    # Alone: d -0.6, a -2, b -3, c -8. d + a = 1.7: worse. d + b = -0.8: worse. d + c = 4.7: worse.
    found = greedy_soup("abcd", closeness)
    assert list(found.alone) == ["d", "a", "b", "c"]
    assert found.kept == ("d",)
    assert found.lam == {"a": 0, "b": 0, "c": 0, "d": 1}
    assert (found.score, found.evaluations) == (pytest.approx(-0.6), 7)
    # Without d: a -2; a + b = 0.5 is 0.5 away and kept; a + b + c = 10/3 is worse.
    found = greedy_soup("cba", closeness)
    assert found.kept == ("a", "b")
    assert found.lam == {"c": 0, "b": Fraction(1, 2), "a": Fraction(1, 2)}
    assert found.score == pytest.approx(-0.5)


def test_an_equal_score_is_kept_and_known_scores_are_not_asked_for() -> None:
    asked: list[dict[str, Fraction]] = []

    def score(lam: dict[str, Fraction]) -> float:
        asked.append(lam)
        return 1.0

    found = greedy_soup(["x", "y", "z"], score, alone={"x": 1.0, "y": 1.0, "z": 1.0})
    assert found.kept == ("x", "y", "z")
    assert set(found.lam.values()) == {Fraction(1, 3)}
    assert len(asked) == found.evaluations == 2
    assert greedy_soup(["x"], score).evaluations == 1


def test_refusals() -> None:
    for names in ([], ["a", "a"]):
        with pytest.raises(RslitError, match="name each ingredient once, at least one"):
            greedy_soup(names, closeness)
    with pytest.raises(RslitError, match="the score of 'b' is nan"):
        greedy_soup("ab", lambda lam: float("nan") if lam["b"] == 1 else 0.0)
    with pytest.raises(RslitError, match=r"the score of 'a \+ b' is inf"):
        greedy_soup("ab", lambda lam: float("inf") if lam["b"] == Fraction(1, 2) else 0.0)
