"""The LMC test: slack by hand, planted truths, false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rslit.errors import RslitError
from rslit.front import lmc_test
from rslit.front.lmc import expert_points, slack_matrix

LAMS = np.stack([np.linspace(1, 0, 6), np.linspace(0, 1, 6)], axis=1)


def soup(
    curve: tuple[float, float], *, seeds: int = 5, items: int = 60, noise: float = 0.1, rng: int = 0
) -> np.ndarray:
    """Experts at (1, 0) and (0, 1); reward k lies 4 λ (1 - λ) curve_k above the chord; items differ much."""
    generator = np.random.default_rng(rng)
    bump = 4 * LAMS[:, :1] * LAMS[:, 1:]
    truth = LAMS + bump * np.array(curve)
    hard = generator.normal(0, 2, (1, items, 1, 2))
    return truth + hard + generator.normal(0, noise, (seeds, items, 6, 2))


def test_slack_matrix_by_hand() -> None:
    lams = [[0.5, 0.5], [0.0, 1.0], [0.25, 0.75], [1.0, 0.0]]
    assert expert_points(lams).tolist() == [3, 1]
    np.testing.assert_allclose(
        slack_matrix(lams), [[1, -0.5, 0, -0.5], [0, 0, 0, 0], [0, -0.75, 1, -0.25], [0, 0, 0, 0]]
    )


def test_slack_margin_and_seed_interval_by_hand() -> None:
    x = soup((0.2, -0.1))
    test = lmc_test(x, LAMS, 0.05)
    mean = x.mean(axis=(0, 1))
    assert test.interior.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(test.slack.estimate, (mean - LAMS @ mean[[0, 5]])[1:5], atol=1e-12)
    np.testing.assert_allclose(test.margin, 0.05 * np.abs(mean[0] - mean[5]))
    by_seed = (x.mean(axis=1) - np.einsum("mn,snk->smk", LAMS, x.mean(axis=1)[:, [0, 5]]))[:, 1:5]
    # Student t, 4 degrees of freedom, Bonferroni over 4 points x 2 rewards: quantile at 1 - 0.05 / 16.
    reach = stats.t.ppf(1 - 0.05 / 16, 4) * by_seed.std(axis=0, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(test.slack.seed_high - test.slack.estimate, reach, rtol=1e-9)
    assert not test.slack.conditional


def test_planted_truths_are_found_per_reward() -> None:
    assert lmc_test(soup((0.2, 0.3)), LAMS).verdicts == ("holds", "holds")
    assert lmc_test(soup((0.2, -0.3)), LAMS).verdicts == ("holds", "violated")
    # Two seeds and three items with much noise decide nothing.
    assert lmc_test(soup((0.0, 0.0), seeds=2, items=3, noise=1.0), LAMS).verdicts == ("cannot tell", "cannot tell")


def test_margin_decides_small_slack() -> None:
    # Exactly linear scores hold with a margin and cannot be told from a violation without one.
    x = soup((0.0, 0.0), noise=0.02)
    assert lmc_test(x, LAMS, 0.05).verdicts == ("holds", "holds")
    assert lmc_test(x, LAMS, 0.0).verdicts == ("cannot tell", "cannot tell")
    # 3 % below the chord: inside a margin of 10 %, outside one of 1 %.
    x = soup((-0.03, -0.03), noise=0.02)
    assert lmc_test(x, LAMS, 0.1).verdicts == ("holds", "holds")
    assert lmc_test(x, LAMS, 0.01).verdicts == ("violated", "violated")


def test_violation_at_one_point_is_enough() -> None:
    x = soup((0.2, 0.2))
    x[:, :, 2, 0] -= 1.0
    test = lmc_test(x, LAMS)
    assert test.verdicts == ("violated", "holds")
    assert (test.slack.high[:, 0] < -test.margin[0]).tolist() == [False, True, False, False]


def test_scores_without_noise_give_a_band_of_no_width() -> None:
    x = np.broadcast_to(LAMS + 0.1 * LAMS[:, :1] * LAMS[:, 1:], (2, 5, 6, 2))
    test = lmc_test(x, LAMS)
    np.testing.assert_allclose(test.slack.low, test.slack.high, atol=1e-12)
    assert test.verdicts == ("holds", "holds")


def test_one_seed_is_conditional_and_one_score_tells_nothing() -> None:
    one = lmc_test(soup((0.2, -0.3), seeds=1), LAMS)
    assert one.slack.conditional
    assert np.isnan(one.slack.seed_low).all()
    assert one.verdicts == ("holds", "violated")
    alone = lmc_test(soup((0.2, -0.3), seeds=1, items=1), LAMS)
    assert np.isnan(alone.slack.low).all()
    assert alone.verdicts == ("cannot tell", "cannot tell")


def test_rewards_that_do_not_apply_everywhere() -> None:
    x = soup((0.2, -0.3), seeds=3)
    x[:, ::2, :, 0] = np.nan
    test = lmc_test(x, LAMS)
    mean = np.nanmean(x, axis=(0, 1))
    np.testing.assert_allclose(test.slack.estimate, (mean - LAMS @ mean[[0, 5]])[1:5], atol=1e-12)
    assert test.verdicts == ("holds", "violated")


def test_three_experts_and_points_outside_the_simplex() -> None:
    rng = np.random.default_rng(2)
    inner = rng.dirichlet(np.ones(3), 4)
    lams = np.vstack([np.eye(3), inner, [[1.2, -0.2, 0.0]]])
    truth = lams @ np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]])
    truth[3:7] += [0.5, 0.5, -0.5]
    truth[7] -= 5.0  # extrapolation: the hypothesis says nothing about it
    test = lmc_test(truth + rng.normal(0, 0.05, (4, 50, 8, 3)), lams)
    assert test.interior.tolist() == [3, 4, 5, 6]
    assert test.verdicts == ("holds", "holds", "violated")


def test_band_is_simultaneous() -> None:
    """Linear truth, one shared noise: the band misses 0 anywhere in at most some 5 % of the runs."""
    missed = 0
    for run in range(100):
        band = lmc_test(soup((0.0, 0.0), seeds=4, items=40, rng=run), LAMS, replicates=300, rng=run).slack
        missed += bool(((band.low > 0) | (band.high < 0)).any())
    # 0.05 + 3 standard errors; the crossed bootstrap is known to stay well below.
    assert missed <= 11


@pytest.mark.parametrize(
    ("x", "lams", "options", "message"),
    [
        (np.zeros((2, 3, 5, 2)), LAMS, {}, r"scores \(2, 3, 5, 2\) and λ \(6, 2\) do not fit"),
        (np.zeros((3, 6, 2)), LAMS, {}, "do not fit"),
        (np.zeros((2, 3, 5, 2)), LAMS[:5], {"experts": ["a", "b"]}, "expert 'b' is not among the points"),
        (np.zeros((2, 3, 2, 2)), np.eye(2), {}, "no point between the experts"),
        (np.zeros((2, 3, 6, 2)), LAMS, {"delta": -0.1}, r"delta -0.1 is no margin"),
        (np.zeros((2, 3, 6, 2)), LAMS, {"level": 95}, "level 95 is not a coverage"),
        (np.full((2, 3, 6, 2), np.nan), LAMS, {}, "are NaN for all items"),
    ],
)
def test_bad_input(x: np.ndarray, lams: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(RslitError, match=message):
        lmc_test(x, lams, **options)  # type: ignore[arg-type]
