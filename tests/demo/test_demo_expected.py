from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator

from rslit.demo.expected import ExpectedRewards, neighbours
from rslit.front.arrays import ScoreArray
from rslit.front.statistics import point_intervals
from rslit.soup import lattice


def scores(values: np.ndarray, lams: np.ndarray) -> ScoreArray:
    s, i, m, _ = values.shape
    return ScoreArray(values, tuple(range(s)), tuple(map(str, range(i))), tuple(map(str, range(m))), lams, 0, "a test")


def lams_of(experts: int, parts: int) -> np.ndarray:
    return np.array([[float(value) for value in lam] for lam in lattice(experts, parts)])


def test_two_experts_are_interpolated_linearly() -> None:
    lams, rng = lams_of(2, 7), np.random.default_rng(0)
    values = rng.normal(size=(3, 20, 8, 2))
    expected = ExpectedRewards(scores(values, lams))
    order = np.argsort(lams[:, 0])
    for x in rng.random(20):
        found = expected.at(np.array([x, 1 - x]))
        assert found is not None
        for k in range(2):
            means = values.mean(axis=(0, 1))[order, k]
            np.testing.assert_allclose(found.mean[k], np.interp(x, lams[order, 0], means), atol=1e-9)
        assert found.points == 2
        assert (found.low < found.mean).all()
        assert (found.mean < found.high).all()


def test_three_experts_as_scipy_interpolates_over_delaunay() -> None:
    """Points in general position, of which there is one Delaunay triangulation."""
    rng = np.random.default_rng(1)
    lams = np.concatenate([np.eye(3), rng.dirichlet(np.ones(3), 12)])
    values = rng.normal(size=len(lams))
    flat = np.array(
        [[0, 0], [1, 0], [0.5, np.sqrt(0.75)]]
    )  # an equilateral triangle keeps the distances of the simplex
    peer = LinearNDInterpolator(lams @ flat, values)
    for lam in rng.dirichlet(np.ones(3), 50):
        weights = neighbours(lams, lam)
        assert weights is not None
        np.testing.assert_allclose(weights @ lams, lam, atol=1e-9)
        assert (weights > 0).sum() <= 3
        np.testing.assert_allclose(weights @ values, peer(lam @ flat)[0], atol=1e-8)


@pytest.mark.parametrize(("experts", "parts"), [(3, 6), (4, 4), (5, 3)])
def test_a_regular_lattice_is_read_from_near_points(experts: int, parts: int) -> None:
    """Linear scores come back exactly, and no point beyond one step of the lattice is read."""
    lams, rng = lams_of(experts, parts), np.random.default_rng(2)
    slopes = rng.normal(size=experts)
    for lam in rng.dirichlet(np.ones(experts), 20):
        weights = neighbours(lams, lam)
        assert weights is not None
        np.testing.assert_allclose(weights @ (lams @ slopes), lam @ slopes, atol=1e-9)
        assert np.abs(lams[weights > 0] - lam).max() <= 1 / parts + 1e-9


def test_on_a_point_it_is_what_was_measured() -> None:
    rng = np.random.default_rng(3)
    values, lams = rng.normal(size=(1, 30, 5, 2)), lams_of(2, 4)
    values[0, :4, :, 1] = np.nan  # a reward that does not apply to some items
    expected = ExpectedRewards(scores(values, lams))
    intervals = point_intervals(values, replicates=1000)
    for m in range(5):
        found = expected.at(lams[m])
        assert found is not None
        assert found.points == 1
        np.testing.assert_allclose(found.mean, np.nanmean(values[0, :, m], axis=0))
        np.testing.assert_allclose(found.low, intervals.low[m])
        np.testing.assert_allclose(found.high, intervals.high[m])
    assert expected.conditional
    assert expected.items == 30


def test_outside_of_the_points_nothing_is_expected() -> None:
    lams = np.array([[0.8, 0.2], [0.4, 0.6]])
    expected = ExpectedRewards(scores(np.ones((1, 4, 2, 1)), lams))
    assert expected.at(np.array([0.9, 0.1])) is None
    found = expected.at(np.array([0.5, 0.5]))
    assert found is not None
    assert found.mean == pytest.approx([1.0])


def test_one_item_of_one_training_has_no_interval() -> None:
    found = ExpectedRewards(scores(np.ones((1, 1, 3, 2)), lams_of(2, 2))).at(np.array([0.3, 0.7]))
    assert found is not None
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
