"""Attainment surfaces by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rslit.errors import RslitError
from rslit.front.attainment import attainment_surfaces


def test_two_seeds_by_hand() -> None:
    # One seed reaches (2, 1), the other (1, 2): either corner for half of them, (1, 1) for both.
    x = np.array([[[[2.0, 1.0]]], [[[1.0, 2.0]]]])
    found = attainment_surfaces(x)
    assert {key: value.tolist() for key, value in found.items()} == {
        20: [[1.0, 2.0], [2.0, 1.0]],
        50: [[1.0, 2.0], [2.0, 1.0]],
        100: [[1.0, 1.0]],
    }


@pytest.mark.parametrize("rewards", [2, 3])
def test_each_corner_is_attained_by_its_share(rewards: int) -> None:
    fronts = np.random.default_rng(0).normal(size=(5, 4, rewards))
    x = fronts[:, None] + np.array([-1.0, 1.0]).reshape(1, 2, 1, 1)
    for percentage, corners in attainment_surfaces(x).items():
        for corner in corners:
            seeds = (fronts >= corner - 1e-9).all(axis=2).any(axis=1).sum()
            assert seeds >= np.ceil(5 * percentage / 100)


def test_what_has_no_surface() -> None:
    with pytest.raises(RslitError, match="one training seed has no attainment surfaces"):
        attainment_surfaces(np.ones((1, 3, 2, 2)))
    with pytest.raises(RslitError, match="two or three rewards, not 4"):
        attainment_surfaces(np.ones((2, 3, 2, 4)))
    x = np.ones((2, 3, 2, 2))
    x[0, :, 0, 1] = np.nan
    with pytest.raises(RslitError, match="applies to no item of some seed"):
        attainment_surfaces(x)
