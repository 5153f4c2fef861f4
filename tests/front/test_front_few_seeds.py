"""Lengthening against Student's t, and the whole interval against it where seeds are all there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rslit.front import point_intervals
from rslit.front.few_seeds import lengthening, seed_share


def test_limits_are_the_normal_and_students_t() -> None:
    assert lengthening(0.0, 5, 10**7, 1.96) == pytest.approx(1.0, abs=1e-6)
    # All variance between 5 seeds: t with 4 degrees of freedom, and the variance that resampling lost, 4/5.
    expected = stats.t.ppf(stats.norm.cdf(1.96), 4) / 1.96 * np.sqrt(5 / 4)
    assert lengthening(1.0, 5, 200, 1.96) == pytest.approx(expected)


def test_degrees_of_freedom_by_hand() -> None:
    # ρ = 1/2, 3 seeds, 11 items: 1 / (0.25 / 2 + 0.25 / 10) = 20/3.
    expected = stats.t.ppf(stats.norm.cdf(2.0), 20 / 3) / 2.0 * np.sqrt(1.25)
    assert lengthening([0.5, 0.5], 3, 11, 2.0) == pytest.approx([expected, expected])


def test_share_is_a_ratio_within_bounds() -> None:
    np.testing.assert_allclose(seed_share([1.0, 3.0, 0.0], [4.0, 2.0, 0.0]), [0.25, 1.0, 0.0])


def test_seeds_alone_give_students_t() -> None:
    x = np.random.default_rng(0).normal(size=(5, 1, 1, 1)) + np.zeros((5, 40, 1, 1))
    interval = point_intervals(x, replicates=20_000)
    assert interval.seed_share[0, 0] == pytest.approx(1.0, abs=0.1)
    student = stats.t.ppf(0.975, 4) * x[:, 0].std(ddof=1) / np.sqrt(5)
    # Quantiles of 5 resampled numbers are not quite normal.
    assert interval.half()[0, 0] == pytest.approx(student, rel=0.1)


def test_items_alone_give_no_longer_interval() -> None:
    x = np.random.default_rng(0).normal(size=(1, 300, 1, 1)) + np.zeros((5, 300, 1, 1))
    interval = point_intervals(x, replicates=5000)
    assert interval.seed_share[0, 0] == pytest.approx(0.0, abs=1e-9)
    assert interval.half()[0, 0] == pytest.approx(1.96 * x[0].std() / np.sqrt(300), rel=0.05)
