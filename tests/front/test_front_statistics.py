"""Intervals against scipy, closed forms and loops written out; coverage by simulation."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from scipy import stats

from rslit.errors import RslitError
from rslit.front import (
    crossed_bootstrap_weights,
    hypervolume_interval,
    mean_scores,
    paired_hypervolume_difference,
    paired_mean_interval,
    point_intervals,
)
from rslit.front.few_seeds import lengthening
from rslit.front.statistics import bootstrap_means

# With R replicates a 2.5 % quantile of a normal has standard error sqrt(.025 .975 / R) / .0584 standard errors of the
# mean: 0.027 for R = 10,000. Two independent bootstraps differ by 0.038, so 0.15 is four times that.
QUANTILE_TOLERANCE = 0.15


def scores(s: int = 4, i: int = 30, m: int = 3, k: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(1, 1, m, k)) * 3
        + rng.normal(size=(s, 1, m, k))
        + rng.normal(size=(1, i, 1, k))
        + rng.normal(size=(s, i, m, k))
    )


def test_weights_are_multinomial_and_repeatable() -> None:
    seeds, items = crossed_bootstrap_weights(5, 200, 3000, 1)
    assert seeds.shape == (3000, 5)
    assert items.shape == (3000, 200)
    assert (seeds.sum(axis=1) == 5).all()
    assert (items.sum(axis=1) == 200).all()
    # Var of a multinomial count: n p (1 - p) = 1 - 1/n.
    assert seeds.var() == pytest.approx(0.8, rel=0.05)
    assert items.var() == pytest.approx(0.995, rel=0.02)
    # Seeds and items are drawn independently.
    assert abs(np.corrcoef(seeds[:, 0], items[:, 0])[0, 1]) < 4 / np.sqrt(3000)
    np.testing.assert_array_equal(items, crossed_bootstrap_weights(5, 200, 3000, 1)[1])


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_weights_of_nothing(bad: tuple[int, int, int]) -> None:
    with pytest.raises(RslitError, match=r"was given 0 (seeds|items|replicates); it needs at least 1"):
        crossed_bootstrap_weights(*bad, rng=0)


def test_means_equal_a_loop_with_scores_that_do_not_apply() -> None:
    x = scores(3, 5, 2, 2)
    x[:, 1:3, :, 1] = np.nan
    x[0, 4, 0, 0] = np.nan
    u, v = crossed_bootstrap_weights(3, 5, 20, 0)
    means = bootstrap_means(x, u, v)
    for r in range(20):
        for m in range(2):
            for k in range(2):
                weight = np.outer(u[r], v[r]) * np.isfinite(x[:, :, m, k])
                total = (np.outer(u[r], v[r]) * np.nan_to_num(x[:, :, m, k])).sum()
                expected = total / weight.sum() if weight.sum() else np.nan
                np.testing.assert_allclose(means[r, m, k], expected, rtol=1e-12)
    np.testing.assert_allclose(mean_scores(x), np.nanmean(x, axis=(0, 1)), rtol=1e-12)


def test_replicates_have_the_closed_form_variance() -> None:
    # For x = a_s + b_i the crossed bootstrap variance is var(a)/S + var(b)/I, variances over the data.
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 6), rng.normal(0, 4, 40)
    means = bootstrap_means((a[:, None] + b[None])[..., None], *crossed_bootstrap_weights(6, 40, 20_000, 0))
    # The standard error of a variance over 20,000 replicates is 1 %.
    assert means.var() == pytest.approx(a.var() / 6 + b.var() / 40, rel=0.04)


def test_one_seed_equals_scipy_bootstrap_and_is_conditional() -> None:
    x = scores(1, 60, 2, 1)
    interval = point_intervals(x, replicates=10_000)
    assert interval.conditional
    assert np.isnan(interval.seed_low).all()
    for m in range(2):
        column = x[0, :, m, 0]
        expected = stats.bootstrap((column,), np.mean, n_resamples=10_000, method="percentile", rng=0)
        tolerance = QUANTILE_TOLERANCE * column.std() / np.sqrt(60)
        assert interval.low[m, 0] == pytest.approx(expected.confidence_interval.low, abs=tolerance)
        assert interval.high[m, 0] == pytest.approx(expected.confidence_interval.high, abs=tolerance)
        assert interval.estimate[m, 0] == pytest.approx(column.mean())
        assert interval.half()[m, 0] == pytest.approx((interval.high - interval.low)[m, 0] / 2)


def test_paired_difference_equals_scipy_bootstrap() -> None:
    rng = np.random.default_rng(5)
    hard = rng.normal(0, 10, (1, 80))
    a, b = hard + rng.normal(1, 1, (1, 80)), hard + rng.normal(0, 1, (1, 80))
    interval = paired_mean_interval(a, b, replicates=10_000)
    difference = (a - b)[0]
    expected = stats.bootstrap((difference,), np.mean, n_resamples=10_000, method="percentile", rng=1)
    tolerance = QUANTILE_TOLERANCE * difference.std() / np.sqrt(80)
    assert interval.low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert interval.high == pytest.approx(expected.confidence_interval.high, abs=tolerance)
    # The items' difficulty cancels: unpaired, the interval would be some 10 times as long.
    assert interval.half() < 0.4


def test_pairs_count_only_where_both_apply() -> None:
    a, b = np.array([[1.0, 2.0, np.nan, 8.0]]), np.array([[0.0, np.nan, 5.0, 4.0]])
    assert paired_mean_interval(a, b).estimate == pytest.approx(2.5)
    with pytest.raises(RslitError, match="differences of some point and reward are NaN for all items"):
        paired_mean_interval(np.array([[1.0, np.nan]]), np.array([[np.nan, 1.0]]))
    with pytest.raises(RslitError, match=r"shapes \(1, 4\) and \(1, 3\)"):
        paired_mean_interval(a, b[:, :3])


def test_seed_t_equals_scipy() -> None:
    x = scores()
    interval = point_intervals(x)
    assert not interval.conditional
    expected = stats.ttest_1samp(x.mean(axis=1), 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval.seed_low, expected.low, rtol=1e-9)
    np.testing.assert_allclose(interval.seed_high, expected.high, rtol=1e-9)


def test_hypervolume_interval_equals_a_loop() -> None:
    x, reference = scores(), np.array([-6.0, -7.0])
    interval = hypervolume_interval(x, reference, replicates=200, rng=4, level=0.9)

    def volume(front: np.ndarray) -> float:
        return float(moocore.hypervolume(front, ref=reference, maximise=True))

    u, v = crossed_bootstrap_weights(4, 30, 200, 4)
    replicated = [volume(np.einsum("s,i,simk->mk", u[r], v[r], x) / (4 * 30)) for r in range(200)]
    estimate = volume(x.mean(axis=(0, 1)))
    low, high = np.quantile(replicated, [0.05, 0.95])
    more = (lengthening(interval.seed_share, 4, 30, stats.norm.ppf(0.95)) - 1) * (high - low) / 2
    low, high = low - more, high + more
    assert interval.estimate == pytest.approx(estimate)
    assert interval.low == pytest.approx(2 * estimate - high)
    assert interval.high == pytest.approx(2 * estimate - low)
    pseudo = [4 * estimate - 3 * volume(np.delete(x, s, axis=0).mean(axis=(0, 1))) for s in range(4)]
    reach = stats.t.ppf(0.95, 3) * np.std(pseudo, ddof=1) / 2
    assert interval.seed_low == pytest.approx(np.mean(pseudo) - reach)
    assert interval.seed_high == pytest.approx(np.mean(pseudo) + reach)


def test_hypervolume_is_of_the_mean_front_and_not_negative() -> None:
    # Seeds at (2, 0) and (0, 2): each has volume 0 above (0, 0), their mean (1, 1) has 1.
    x = np.array([[2.0, 0.0], [0.0, 2.0]]).reshape(2, 1, 1, 2)
    interval = hypervolume_interval(x, [0.0, 0.0])
    assert interval.estimate == 1.0
    # The bootstrap's interval is (1, 2); two seeds make it much longer, but a volume is not negative.
    reach = 0.5 * lengthening(interval.seed_share, 2, 1, stats.norm.ppf(0.975))
    assert (interval.low, interval.high) == (0.0, pytest.approx(1.5 + reach))
    nothing = hypervolume_interval(scores(), [50.0, 50.0])
    assert (nothing.estimate, nothing.low, nothing.high) == (0.0, 0.0, 0.0)


def test_paired_hypervolume_uses_the_same_replicates() -> None:
    x, reference = scores(), [-6.0, -7.0]
    same = paired_hypervolume_difference(x, x, reference)
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)
    better = paired_hypervolume_difference(x + 0.5, x, reference)
    one, other = hypervolume_interval(x + 0.5, reference), hypervolume_interval(x, reference)
    assert better.estimate == pytest.approx(one.estimate - other.estimate)
    assert better.low > 0
    assert better.half() < 0.5 * one.half()


def test_fronts_that_cannot_be_compared() -> None:
    x = scores()
    with pytest.raises(RslitError, match=r"fronts of 3 and 2 points .* subsample the larger to 2 points"):
        paired_hypervolume_difference(x, x[:, :, :2], [-6.0, -7.0])
    with pytest.raises(RslitError, match="give the same seeds, items and rewards"):
        paired_hypervolume_difference(x, x[:, :5], [-6.0, -7.0])
    with pytest.raises(RslitError, match="give 2 finite numbers, one per reward"):
        hypervolume_interval(x, [-6.0])
    with pytest.raises(RslitError, match="are no fronts"):
        hypervolume_interval(x[:, :, 0], [-6.0, -7.0])


def test_replicates_without_applicable_items_are_left_out() -> None:
    x = np.full((1, 8, 2, 2), 1.0)
    x[:, :, 1] = 2.0
    x[:, 1:, :, 1] = np.nan  # the second reward applies to one item; a third of the replicates miss it
    assert np.isnan(bootstrap_means(x, *crossed_bootstrap_weights(1, 8, 500, 0))).any()
    interval = hypervolume_interval(x, [0.0, 0.0])
    assert (interval.estimate, interval.low, interval.high) == (4.0, 4.0, 4.0)
    assert point_intervals(x).high[1, 1] == 2.0


def test_one_seed_and_one_item_have_no_interval() -> None:
    interval = point_intervals(np.array([[[[1.0, 2.0]]]]))
    assert interval.estimate.tolist() == [[1.0, 2.0]]
    assert np.isnan(interval.low).all()
    assert np.isnan(interval.high).all()


def test_bad_scores_and_levels() -> None:
    bad = scores()
    bad[:, :, 0, 1] = np.nan
    with pytest.raises(RslitError, match="scores of some point and reward are NaN for all items"):
        point_intervals(bad)
    bad[0, 0, 0, 0] = np.inf
    with pytest.raises(RslitError, match="infinite"):
        mean_scores(bad)
    with pytest.raises(RslitError, match=r"shape \(3,\)"):
        mean_scores([1.0, 2.0, 3.0])
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(RslitError, match="is not a coverage"):
            point_intervals(scores(), level=level)


@pytest.mark.parametrize(("seed_sd", "item_sd"), [(0.0, 1.0), (0.3, 1.0)])
def test_coverage_of_means_and_hypervolumes(seed_sd: float, item_sd: float) -> None:
    rng = np.random.default_rng(7)
    truth = np.array([[1.0, 0.0], [0.7, 0.7], [0.0, 1.0]])
    volume = moocore.hypervolume(truth, ref=[-3.0, -3.0], maximise=True)
    runs, hits = 150, np.zeros(2)
    for run in range(runs):
        x = truth + rng.normal(0, seed_sd, (8, 1, 3, 2)) + rng.normal(0, item_sd, (1, 60, 1, 2))
        x = x + rng.normal(0, 0.3, (8, 60, 3, 2))
        mean = point_intervals(x, replicates=300, rng=run)
        front = hypervolume_interval(x, [-3.0, -3.0], replicates=300, rng=run)
        hits += [mean.low[1, 0] <= 0.7 <= mean.high[1, 0], front.low <= volume <= front.high]
    # Nominal 0.95; over 150 runs the standard error is 0.018 to 0.026, and 8 seeds cost some coverage.
    assert (hits / runs > 0.86).all(), hits / runs
    assert (hits / runs < 1.0).all(), hits / runs
