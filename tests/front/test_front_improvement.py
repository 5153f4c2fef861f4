"""Expected improvements against Monte Carlo with moocore, and against exact differences where nothing is uncertain."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from scipy.stats import norm

from rslit.front.improvement import expected_hypervolume_improvement, expected_improvement


def grown(front: np.ndarray, point: np.ndarray, reference: np.ndarray) -> float:
    """The volume that a point adds, by moocore."""
    both = [moocore.hypervolume(points, ref=reference, maximise=True) for points in (np.vstack([front, point]), front)]
    return float(both[0] - both[1])


def test_expected_improvement_is_the_integral() -> None:
    y = np.linspace(-8, 8, 400_001)
    for mean, deviation, threshold in ((0.3, 0.7, 0.5), (-1.0, 0.5, 0.2), (1.0, 0.1, 0.0)):
        integral = np.trapezoid(np.maximum(y - threshold, 0) * norm.pdf(y, mean, deviation), y)
        assert expected_improvement(mean, deviation, threshold) == pytest.approx(integral, rel=1e-4)
    np.testing.assert_allclose(expected_improvement([1.0, -1.0, 0.0], 0.0, [0.4, 0.4, np.inf]), [0.6, 0.0, 0.0])
    assert expected_improvement(0.0, 1.0, np.inf) == 0


@pytest.mark.parametrize("rewards", [2, 3, 4, 5])
@pytest.mark.parametrize("points", [0, 1, 7])
def test_without_uncertainty_it_is_the_difference_of_two_hypervolumes(rewards: int, points: int) -> None:
    rng = np.random.default_rng(10 * rewards + points)
    # The reference leaves some points outside, and one of the front is dominated.
    front, reference = rng.uniform(0, 1, (points, rewards)), np.full(rewards, 0.1)
    front = np.vstack([front, front[:1] - 0.05]) if points else front
    new = rng.uniform(0, 1.2, (20, rewards))
    found = expected_hypervolume_improvement(new, np.zeros_like(new), front, reference)
    if points:
        expected = [grown(front, point, reference) for point in new]
    else:
        expected = np.maximum(new - reference, 0).prod(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("rewards", [2, 3])
def test_one_uncertain_point_is_worth_what_monte_carlo_says(rewards: int) -> None:
    rng = np.random.default_rng(rewards)
    front, reference = rng.dirichlet(np.ones(rewards), 5), np.full(rewards, -0.1)
    mean, deviation = np.full(rewards, 0.9 / rewards), np.linspace(0.1, 0.3, rewards)
    draws = 20_000
    volumes = [grown(front, y, reference) for y in rng.normal(mean, deviation, (draws, rewards))]
    found = expected_hypervolume_improvement(mean[None], deviation[None], front, reference)[0]
    assert found == pytest.approx(np.mean(volumes), abs=4 * np.std(volumes) / np.sqrt(draws))
    assert found > 10 * np.std(volumes) / np.sqrt(draws)


def test_equal_levels_and_order_do_not_matter() -> None:
    front = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    mean, deviation = np.array([[0.6, 0.6, 0.6]]), np.array([[0.1, 0.2, 0.1]])
    values = [
        expected_hypervolume_improvement(mean, deviation, front[order], np.zeros(3))[0]
        for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 1, 0])
    ]
    np.testing.assert_allclose(values, values[0])
