from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import comb

import numpy as np
import pytest
from pymoo.util.ref_dirs import get_reference_directions

from rslit.errors import RslitError
from rslit.soup import lattice

CASES = [(1, 3), (2, 1), (2, 10), (3, 1), (3, 2), (3, 7), (3, 10), (4, 5), (4, 10), (5, 4), (5, 5), (8, 3)]


@pytest.mark.parametrize(("n", "parts"), CASES)
def test_is_every_composition_once_in_single_unit_moves(n: int, parts: int) -> None:
    points = lattice(n, parts)
    assert len(points) == len(set(points)) == comb(parts + n - 1, n - 1)
    assert all(sum(point) == 1 and all(isinstance(x, Fraction) and x >= 0 for x in point) for point in points)
    assert all((x * parts).denominator == 1 for point in points for x in point)
    for before, after in pairwise(points):
        moves = sorted(b - a for a, b in zip(before, after, strict=True) if a != b)
        assert moves == [Fraction(-1, parts), Fraction(1, parts)]
    assert points[0][0] == 1
    assert points[-1][-1] == 1


@pytest.mark.parametrize(("n", "parts"), [case for case in CASES if case[0] > 1])
def test_is_the_das_dennis_set_of_pymoo(n: int, parts: int) -> None:
    theirs = get_reference_directions("das-dennis", n, n_partitions=parts)
    as_integers = {tuple(int(k) for k in np.rint(row * parts)) for row in theirs}
    assert {tuple(int(x * parts) for x in point) for point in lattice(n, parts)} == as_integers


def test_two_experts_descend() -> None:
    thirds = [Fraction(k, 3) for k in (3, 2, 1, 0)]
    assert lattice(2, 3) == [(x, 1 - x) for x in thirds]


@pytest.mark.parametrize("arguments", [(0, 3), (2, 0), (2, -1), (2.0, 3), (2, True), ("2", 3)])
def test_refuses_bad_arguments(arguments: tuple) -> None:
    with pytest.raises(RslitError, match="must be an integer of at least 1"):
        lattice(*arguments)
