"""Cross-fit hypervolume: exact where there is no noise, below the plain one where noise flatters, by hand on halves."""

from __future__ import annotations

import moocore
import numpy as np
import pytest

from rslit.errors import RslitError
from rslit.front import cross_fit_difference, cross_fit_hypervolume, hypervolume_interval


@pytest.mark.parametrize(("rewards", "tolerance"), [(2, 0.002), (3, 0.02)])
def test_without_noise_it_is_the_hypervolume(rewards: int, tolerance: float) -> None:
    rng = np.random.default_rng(rewards)
    # Rewards of different reach, some points under the reference.
    front = rng.dirichlet(np.ones(rewards), 11) * 10.0 ** np.arange(rewards)
    reference = 0.1 * 10.0 ** np.arange(rewards)
    x = np.broadcast_to(front, (2, 4, 11, rewards))
    expected = moocore.hypervolume(front, ref=reference, maximise=True)
    found = cross_fit_hypervolume(x, reference, replicates=5)
    assert found.estimate == pytest.approx(expected, rel=tolerance)
    assert (found.low, found.high) == pytest.approx((found.estimate, found.estimate))


def test_optimism_of_a_noisy_straight_front() -> None:
    lam = np.linspace(0, 1, 41)
    truth = np.stack([lam, 1 - lam], axis=1)
    reference = np.array([-0.2, -0.2])
    exact = moocore.hypervolume(truth, ref=reference, maximise=True)
    plain, fitted = np.zeros(20), np.zeros(20)
    for run in range(20):
        x = truth + np.random.default_rng(run).normal(0, 1.0, (1, 100, 41, 2))
        plain[run] = hypervolume_interval(x, reference, replicates=1, rng=run).estimate
        fitted[run] = cross_fit_hypervolume(x, reference, replicates=1, rng=run).estimate
    # The noise of a mean is 0.1 of the front's length.
    error = fitted.std() / np.sqrt(20)
    assert plain.mean() > 1.15 * exact
    assert fitted.mean() < exact + 3 * error
    assert fitted.mean() > 0.7 * exact


def test_one_point_has_no_choice_and_no_optimism() -> None:
    x = np.random.default_rng(1).normal(2, 0.1, (2, 10, 1, 2))
    chosen = np.random.default_rng(0).permutation(10) < 5
    halves = [x[:, half].mean(axis=(0, 1))[0] for half in (chosen, ~chosen)]
    expected = np.mean([half.prod() for half in halves])
    assert cross_fit_hypervolume(x, [0.0, 0.0], replicates=1).estimate == pytest.approx(expected, rel=0.002)


def test_difference_is_paired() -> None:
    x = np.random.default_rng(2).normal(1, 0.3, (2, 20, 4, 2))
    assert cross_fit_difference(x, x, [0.0, 0.0], replicates=50).high == 0.0
    found = cross_fit_difference(x + 0.5, x, [0.0, 0.0], replicates=50)
    one = cross_fit_hypervolume(x, [0.0, 0.0], replicates=1)
    other = cross_fit_hypervolume(x + 0.5, [0.0, 0.0], replicates=1)
    assert found.estimate == pytest.approx(other.estimate - one.estimate, rel=0.01)
    assert found.low > 0


def test_what_cannot_be_cross_fitted() -> None:
    with pytest.raises(RslitError, match="one item has no halves"):
        cross_fit_hypervolume(np.ones((2, 1, 3, 2)), [0.0, 0.0])
    x = np.ones((1, 6, 3, 2))
    x[:, 1:, :, 1] = np.nan
    with pytest.raises(RslitError, match="scores of half the items of some point and reward are NaN"):
        cross_fit_hypervolume(x, [0.0, 0.0])
    with pytest.raises(RslitError, match="give equal seeds, items and points"):
        cross_fit_difference(np.ones((1, 4, 3, 2)), np.ones((1, 4, 2, 2)), [0.0, 0.0])
