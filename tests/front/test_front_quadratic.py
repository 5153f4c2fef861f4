"""Lemmas 2 and 3 of the paper on random quadratic problems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from rslit.errors import RslitError
from rslit.front.quadratic import (
    QuadraticReward,
    best_soup,
    best_weights,
    eigenvalue_ratio,
    lemma2_lam,
    lemma3_bound,
    regret,
)

PROBLEMS = 1000
Array = NDArray[np.float64]


def value(rewards: list[QuadraticReward], mu: Array, weights: Array) -> float:
    return float(sum(m * float(r(weights)) for m, r in zip(mu, rewards, strict=True)))


def definite(rng: np.random.Generator, size: int, spread: float) -> Array:
    """A random positive definite matrix, eigenvalues within a factor of e^spread around 1 on each side."""
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return np.asarray(basis * np.exp(rng.uniform(-spread, spread, size)) @ basis.T)


def pairs(diagonal: bool) -> Iterator[tuple[list[QuadraticReward], Array]]:
    """1,000 problems of two rewards: 1 to 8 dimensions, eigenvalues up to e^3 : e^-3, any μ."""
    rng = np.random.default_rng(0)
    for _ in range(PROBLEMS):
        size, spread = int(rng.integers(1, 9)), rng.uniform(0, 3)
        hessians = [
            np.diag(np.exp(rng.uniform(-spread, spread, size))) if diagonal else definite(rng, size, spread)
            for _ in range(2)
        ]
        rewards = [QuadraticReward(rng.normal(size=size), h, rng.normal()) for h in hessians]
        second = rng.uniform()
        yield rewards, np.array([1 - second, second])


def gaps(rewards: list[QuadraticReward]) -> tuple[float, float]:
    first, second = rewards
    return first.peak - float(first(second.expert)), second.peak - float(second(first.expert))


def test_lemma2_optimum_is_a_soup() -> None:
    rng = np.random.default_rng(1)
    for _ in range(PROBLEMS):
        experts, size = int(rng.integers(2, 6)), int(rng.integers(1, 9))
        shape, eta = definite(rng, size, 2), np.exp(rng.uniform(-3, 3, experts))
        rewards = [QuadraticReward(rng.normal(size=size), e * shape, rng.normal()) for e in eta]
        mu = rng.dirichlet(np.ones(experts))
        lam = lemma2_lam(mu, eta)
        soup = lam @ np.stack([r.expert for r in rewards])
        # The gradient of Σ μ R, written out, vanishes there: no other weights are better.
        gradient = sum(-2 * m * r.hessian @ (soup - r.expert) for m, r in zip(mu, rewards, strict=True))
        scale = sum(m * np.abs(r.hessian).sum() for m, r in zip(mu, rewards, strict=True))
        np.testing.assert_allclose(gradient / scale, 0, atol=1e-13)
        np.testing.assert_allclose(soup, best_weights(rewards, mu), atol=1e-9)
        assert lam.min() >= 0
        assert lam.sum() == pytest.approx(1)
        assert regret(rewards, mu, lam) == pytest.approx(0, abs=1e-12)
        assert regret(rewards, mu) == pytest.approx(0, abs=1e-12)


def test_equal_preference_and_lam_where_equally_curved() -> None:
    np.testing.assert_allclose(lemma2_lam([0.2, 0.3, 0.5], [4, 4, 4]), [0.2, 0.3, 0.5])
    np.testing.assert_allclose(lemma2_lam([0.5, 0.5], [1, 3]), [0.25, 0.75])


@pytest.mark.parametrize("diagonal", [True, False], ids=["diagonal", "any"])
def test_lemma3_bounds_the_regret(diagonal: bool) -> None:
    tightness = []
    for rewards, mu in pairs(diagonal):
        ratio = eigenvalue_ratio(rewards[0].hessian, rewards[1].hessian)
        lost = regret(rewards, mu)
        bound = float(lemma3_bound(mu[1], ratio, *gaps(rewards)))
        assert lost <= bound * (1 + 1e-9) + 1e-12
        tightness.append(lost / bound if bound > 1e-12 else 1.0)
    # Neither side is trivial: losses are neither all nothing nor all at the bound.
    assert 0.05 < np.median(tightness) < 0.95


def test_paper_ratio_is_that_of_the_diagonals() -> None:
    for rewards, _ in pairs(diagonal=True):
        first, second = (np.diag(r.hessian) for r in rewards)
        expected = max((first / second).max(), (second / first).max())
        assert eigenvalue_ratio(rewards[0].hessian, rewards[1].hessian) == pytest.approx(expected, rel=1e-9)


def test_best_soup_of_two_against_a_search_and_equation_9() -> None:
    for number, (rewards, mu) in enumerate(pairs(diagonal=True)):
        first, second = rewards
        lam = best_soup(rewards, mu)
        d1, d2 = gaps(rewards)
        expected = mu[1] * d2 / (mu[0] * d1 + mu[1] * d2)
        assert lam[1] == pytest.approx(expected, abs=1e-7)
        best = value(rewards, mu, best_weights(rewards, mu))
        soup = value(rewards, mu, lam @ np.stack([first.expert, second.expert]))
        assert regret(rewards, mu) == pytest.approx(best - soup, rel=1e-6, abs=1e-9)
        if number < 100:
            found = minimize_scalar(
                lambda x, r=rewards, m=mu: -value(r, m, (1 - x) * r[0].expert + x * r[1].expert),
                bounds=(0, 1),
                method="bounded",
                options={"xatol": 1e-10},
            )
            assert soup >= -found.fun - 1e-9


def test_preference_is_the_best_lam_of_two_where_gaps_are_equal() -> None:
    """Equation 9 with Δ_1 = Δ_2: λ̄ = μ whatever the Hessians, and λ̄ ≠ μ where gaps differ."""
    for rewards, mu in pairs(diagonal=False):
        d1, d2 = gaps(rewards)
        equal = [
            QuadraticReward(rewards[0].expert, rewards[0].hessian / d1),
            QuadraticReward(rewards[1].expert, rewards[1].hessian / d2),
        ]
        np.testing.assert_allclose(best_soup(equal, mu), mu, atol=1e-6)
        steeper = [equal[0], QuadraticReward(equal[1].expert, 3 * equal[1].hessian)]
        assert best_soup(steeper, mu)[1] == pytest.approx(3 * mu[1] / (mu[0] + 3 * mu[1]), abs=1e-6)


def test_best_soup_of_many_against_a_search() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        count, size = int(rng.integers(3, 6)), int(rng.integers(1, 6))
        rewards = [QuadraticReward(rng.normal(size=size), definite(rng, size, 2)) for _ in range(count)]
        experts, mu = np.stack([r.expert for r in rewards]), rng.dirichlet(np.ones(count))
        lam = best_soup(rewards, mu)
        assert lam.min() >= 0
        assert lam.sum() == pytest.approx(1)
        found = minimize(
            lambda x, e=experts, r=rewards, m=mu: -value(r, m, x @ e),
            np.full(count, 1 / count),
            method="SLSQP",
            bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert value(rewards, mu, lam @ experts) >= -found.fun - 1e-7


@pytest.mark.parametrize("mu", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("ratio", [1.0, 2.0, 10.0])
def test_equality(ratio: float, mu: float) -> None:
    """Equal Hessians lose nothing; where all ratios are M or 1/M the bound is what is lost."""
    rng = np.random.default_rng(3)
    eta = np.exp(rng.uniform(-1, 1, 6))
    ratios = np.array([ratio, ratio, ratio, 1 / ratio, 1 / ratio, 1 / ratio])
    rewards = [
        QuadraticReward(rng.normal(size=6), np.diag(eta * ratios)),
        QuadraticReward(rng.normal(size=6), np.diag(eta)),
    ]
    bound = lemma3_bound(mu, ratio, *gaps(rewards))
    assert regret(rewards, np.array([1 - mu, mu])) == pytest.approx(float(bound), rel=1e-9, abs=1e-12)
    if ratio == 1:
        assert bound == 0


def test_ends_and_equation_5() -> None:
    assert lemma3_bound([0.0, 1.0], 10, 1, 2).tolist() == [0, 0]
    mu, m, gap = 0.3, 7.0, 2.5
    simplified = mu**2 * (1 - mu) ** 2 * (m - 1) ** 2 / (mu * (1 - mu) * (m - 1) ** 2 + m) * gap
    assert lemma3_bound(mu, m, gap, gap) == pytest.approx(simplified)
    assert lemma3_bound(0.3, 7, 0, 0) == 0  # the experts coincide


def test_figure_8() -> None:
    """Gaps of 1: the best soup's reward is 1 − μ(1 − μ) whatever M, and the bound on the optimum tends to 1."""
    mu = np.linspace(0, 1, 11)
    soups = 1 - mu * (1 - mu)
    np.testing.assert_allclose(soups + lemma3_bound(mu, 1e9, 1, 1), 1, atol=1e-6)
    for second in mu:
        rewards = [
            QuadraticReward(np.zeros(2), np.diag([2, 0.5]) / 2.5, 1),
            QuadraticReward(np.ones(2), np.diag([0.5, 2]) / 2.5, 1),
        ]
        weights = np.array([1 - second, second])
        soup = best_soup(rewards, weights) @ np.stack([r.expert for r in rewards])
        assert value(rewards, weights, soup) == pytest.approx(1 - second * (1 - second))


def test_refusals() -> None:
    line = QuadraticReward(np.zeros(2), np.eye(2))
    with pytest.raises(RslitError, match="hessian: give a symmetric matrix of 2 x 2"):
        QuadraticReward(np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(RslitError, match="not positive"):
        QuadraticReward(np.zeros(2), np.diag([1.0, 0.0]))
    with pytest.raises(RslitError, match="mu: give 2 weights"):
        best_weights([line, line], [0.5, 0.6])
    with pytest.raises(RslitError, match="mu: give 2 weights"):
        best_soup([line, line], [1.0])
    with pytest.raises(RslitError, match="M is at least 1"):
        lemma3_bound(0.5, 0.5, 1, 1)
    with pytest.raises(RslitError, match="neither more than M times the other"):
        lemma3_bound(0.5, 2, 1, 3)
