"""Expected utility against closed forms, shortfall and IGD+ by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rslit.errors import RslitError
from rslit.front.preferences import compare_preferences, expected_utility, preference_lattice, rescale


@pytest.mark.parametrize("rewards", [2, 3, 4, 6])
def test_lattice_stands_for_the_uniform_distribution(rewards: int) -> None:
    lattice = preference_lattice(rewards)
    assert len(lattice) <= 500
    assert (lattice > 0).all()
    np.testing.assert_allclose(lattice.sum(axis=1), 1)
    np.testing.assert_allclose(lattice.mean(axis=0), 1 / rewards)


@pytest.mark.parametrize(("rewards", "tolerance"), [(2, 1e-4), (3, 0.01)])
def test_utility_of_the_vertices_is_the_mean_largest_weight(rewards: int, tolerance: float) -> None:
    # E max_k w_k = (1 + 1/2 + ... + 1/K) / K for w uniform on the simplex.
    expected = (1 / np.arange(1, rewards + 1)).sum() / rewards
    assert expected_utility(np.eye(rewards)[None])[0] == pytest.approx(expected, rel=tolerance)


def test_utility_of_one_point_is_its_mean_reward_and_nan_stays() -> None:
    found = expected_utility(np.array([[[2.0, 4.0]], [[np.nan, 1.0]]]))
    assert found[0] == pytest.approx(3.0)
    assert np.isnan(found[1])


def test_measures_by_hand() -> None:
    soup = np.broadcast_to(np.array([[1.0, 0.0], [0.0, 1.0]]), (2, 3, 2, 2))
    morl = np.broadcast_to(np.array([[1.2, 0.1], [0.0, 0.5]]), (2, 3, 2, 2))
    found = compare_preferences(soup, morl, replicates=20)
    # MORL's (1.2, 0.1) asks for 0.2 more of the first reward; the soup's (0, 1) asks for 0.5 more of MORL's second.
    assert found.shortfall["soup"].estimate == pytest.approx(0.2)
    assert found.shortfall["morl"].estimate == pytest.approx(0.5)
    # IGD+: the distances are |(0.2, 0.1)| and 0, then 0 and |(0, 0.5)|.
    assert found.igd_plus["soup"].estimate == pytest.approx(np.hypot(0.2, 0.1) / 2)
    assert found.igd_plus["morl"].estimate == pytest.approx(0.25)
    # E max(w, 1 - w) = 3/4 for the soup.
    assert found.utility["soup"].estimate == pytest.approx(0.75, abs=1e-4)
    difference = found.utility["difference"]
    assert difference.estimate == pytest.approx(0.75 - found.utility["morl"].estimate, abs=1e-4)
    assert difference.low == pytest.approx(difference.high)


def test_items_cancel_and_distances_are_not_negative() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 3, (1, 50, 1, 2))
    base = np.array([[1.0, 0.0], [0.6, 0.6], [0.0, 1.0]])
    soup, morl = (base + lift + hard + rng.normal(0, 0.1, (3, 50, 3, 2)) for lift in (0.1, 0.0))
    found = compare_preferences(soup, morl, replicates=200)
    assert 0 < found.utility["difference"].low < 0.1 < found.utility["difference"].high + 0.05
    assert found.utility["difference"].half() < 0.1 * found.utility["soup"].half()
    assert found.shortfall["soup"].high < 0
    assert found.igd_plus["soup"].low == 0


def test_rescaling_and_refusals() -> None:
    np.testing.assert_allclose(rescale([[2.0, 5.0]], [1.0, 1.0], [3.0, 5.0], ("a", "b")), [[0.5, 1.0]])
    with pytest.raises(RslitError, match=r"the expert of 'b' is no better than the initialisation \(-1\)"):
        rescale([[2.0, 5.0]], [1.0, 1.0], [3.0, 0.0], ("a", "b"))
    with pytest.raises(RslitError, match="give the same seeds, items and numbers"):
        compare_preferences(np.ones((1, 4, 3, 2)), np.ones((1, 4, 2, 2)))
    with pytest.raises(RslitError, match="two or more rewards, not 1"):
        preference_lattice(1)
