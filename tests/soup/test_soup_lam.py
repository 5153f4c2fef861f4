from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from rslit.errors import RslitError
from rslit.soup import format_lam, parse_lam
from rslit.soup.lam import coefficients

AB = ["a", "b"]


def test_parses_exactly() -> None:
    assert parse_lam(" a = 0.3 , b=7e-1") == {"a": Fraction(3, 10), "b": Fraction(7, 10)}
    assert parse_lam("a=1/3,b=2/3") == {"a": Fraction(1, 3), "b": Fraction(2, 3)}
    assert parse_lam("a=-0.5,b=1.5") == {"a": Fraction(-1, 2), "b": Fraction(3, 2)}
    lam = parse_lam("x=1/7,y=6/7")
    assert format_lam(lam) == "x=1/7,y=6/7"
    assert parse_lam(format_lam(lam)) == lam


@pytest.mark.parametrize("text", ["", "a", "a=", "=1", "a=0.5,", "a=one", "a=1/0", "a=nan", "a=inf", "a=0.5,a=0.5"])
def test_refuses_bad_text(text: str) -> None:
    with pytest.raises(RslitError, match=r"^lam '"):
        parse_lam(text)


def test_reads_floats_as_written_and_fills_zeros() -> None:
    assert coefficients({"b": 0.7, "a": 0.3}, AB) == {"a": Fraction(3, 10), "b": Fraction(7, 10)}
    assert coefficients({"b": 1}, AB) == {"a": 0, "b": 1}
    assert list(coefficients({"b": 0.7, "a": 0.3}, AB)) == AB
    assert coefficients({"a": np.float64(0.25), "b": torch.tensor(0.75)}, AB) == {
        "a": Fraction(1, 4),
        "b": Fraction(3, 4),
    }


def test_a_sum_off_by_rounding_is_made_exactly_one() -> None:
    third = coefficients({"a": 0.3333333, "b": 0.6666666}, AB)
    assert sum(third.values()) == 1
    assert third["a"] == Fraction(3333333, 9999999)


@pytest.mark.parametrize(
    ("lam", "message"),
    [
        ({"a": 0.3, "c": 0.7}, "unknown expert 'c'; this soup has: a, b"),
        ({"a": 0.3}, "sums to 0.3; it must sum to 1"),
        ({}, "sums to 0; it must sum to 1"),
        ({"a": 0.5, "b": 0.50001}, "sums to 1.00001"),
        ({"a": -0.1, "b": 1.1}, "lam of expert 'a' is -0.1, outside"),
        ({"a": float("nan"), "b": 1.0}, "lam of expert 'a' is nan; give a finite number"),
        ({"a": float("inf"), "b": 1.0}, "lam of expert 'a' is inf; give a finite number"),
        ({"a": "0.3", "b": 0.7}, "lam of expert 'a' is '0.3'; give a finite number"),
        ({"a": True}, "lam of expert 'a' is True; give a finite number"),
        ([0.3, 0.7], "does not name its experts"),
    ],
)
def test_refuses_bad_lam(lam: object, message: str) -> None:
    with pytest.raises(RslitError, match=message):
        coefficients(lam, AB)  # type: ignore[arg-type]


def test_extrapolates_only_when_asked() -> None:
    exact = coefficients({"a": -0.1, "b": 1.1}, AB, extrapolate=True)
    assert exact == {"a": Fraction(-1, 10), "b": Fraction(11, 10)}
    with pytest.raises(RslitError, match=r"sums to 1\.2"):
        coefficients({"a": 0.1, "b": 1.1}, AB, extrapolate=True)
