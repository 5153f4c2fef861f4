from __future__ import annotations

import random
from fractions import Fraction

import pytest

from rslit.demo.simplex import GRID, moved, read_lam, uniform
from rslit.errors import RslitError


def lam(**parts: float) -> dict[str, Fraction]:
    return {name: Fraction(str(part)) for name, part in parts.items()}


def test_uniform_sums_to_one() -> None:
    assert uniform(("a", "b", "c")) == dict.fromkeys("abc", Fraction(1, 3))


@pytest.mark.parametrize(
    ("before", "name", "value", "after"),
    [
        (lam(a=0.5, b=0.5), "a", 0.3, lam(a=0.3, b=0.7)),
        (lam(a=1, b=0), "a", 0.4, lam(a=0.4, b=0.6)),
        (lam(a=0.2, b=0.6, c=0.2), "a", 0.6, lam(a=0.6, b=0.3, c=0.1)),  # b : c stays 3 : 1
        (lam(a=1, b=0, c=0), "a", 0.5, lam(a=0.5, b=0.25, c=0.25)),  # no proportion to keep: equally
        (lam(a=0.2, b=0.6, c=0.2), "b", 1.0, lam(a=0, b=1, c=0)),
        (lam(a=0.2, b=0.8), "a", 0.29999999999999999, lam(a=0.3, b=0.7)),  # as a browser says 0.3
        (uniform(("a", "b", "c")), "a", 0.33, lam(a=0.33, b=0.34, c=0.33)),  # 33.5 each: the first gets the rest
        (lam(a=1), "a", 0.3, lam(a=1)),
    ],
)
def test_the_others_give_way_in_proportion(
    before: dict[str, Fraction], name: str, value: float, after: dict[str, Fraction]
) -> None:
    assert moved(before, name, value) == after
    assert list(moved(before, name, value)) == list(before)


@pytest.mark.parametrize("experts", [2, 3, 5])
def test_any_walk_stays_on_the_simplex(experts: int) -> None:
    draw = random.Random(experts)
    at = uniform(tuple("abcde"[:experts]))
    for _ in range(300):
        name, value = draw.choice(list(at)), draw.randrange(GRID + 1) / GRID
        before = at
        at = moved(at, name, value)
        assert sum(at.values()) == 1
        assert at[name] == Fraction(round(value * GRID), GRID)
        assert all(part >= 0 and (part * GRID).denominator == 1 for part in at.values())
        # Within a step of what proportion asks for.
        left, total = 1 - at[name], 1 - before[name]
        for other in at.keys() - {name}:
            share = before[other] / total if total else Fraction(1, experts - 1)
            assert abs(at[other] - left * share) < Fraction(1, GRID)


def test_refusals() -> None:
    with pytest.raises(RslitError, match="there is no expert 'c'; the sliders are a, b"):
        moved(lam(a=0.5, b=0.5), "c", 0.5)
    with pytest.raises(RslitError, match=r"'a' cannot be at 1\.2"):
        moved(lam(a=0.5, b=0.5), "a", 1.2)


def test_lam_of_an_address() -> None:
    assert read_lam("a=3/10,b=7/10", ("a", "b")) == lam(a=0.3, b=0.7)
    for bad in ("a=3/10", "a=0.5,b=0.6", "a=2,b=-1", "c=1", "<b>", ""):
        with pytest.raises(RslitError):
            read_lam(bad, ("a", "b"))
