"""The search of λ on quadratic rewards, where the best λ is known."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import moocore
import numpy as np
import pytest

from rslit.errors import RslitError
from rslit.front.compositions import compositions
from rslit.front.quadratic import QuadraticReward, best_soup
from rslit.front.search import LamSearch


def problem(experts: int, seed: int) -> list[QuadraticReward]:
    """Each expert at a place of its own, its reward 1 there and 0 at the worst of the others."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(experts, 6))
    rewards = []
    for place in places:
        basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
        hessian = basis * np.exp(rng.uniform(-1, 1, 6)) @ basis.T
        worst = max(float((other - place) @ hessian @ (other - place)) for other in places)
        rewards.append(QuadraticReward(place, hessian / worst, 1.0))
    return rewards


def at(rewards: list[QuadraticReward], lam: tuple[Fraction, ...]) -> np.ndarray:
    soup = np.array([float(value) for value in lam]) @ np.stack([reward.expert for reward in rewards])
    return np.array([float(reward(soup)) for reward in rewards])


@pytest.mark.parametrize(("experts", "budget"), [(2, 8), (3, 12), (4, 16), (5, 20)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_the_best_lam_of_a_preference(experts: int, budget: int, seed: int) -> None:
    rewards = problem(experts, seed)
    mu = np.random.default_rng(seed).dirichlet(np.ones(experts))
    best = best_soup(rewards, mu)
    optimum = mu @ at(rewards, tuple(Fraction(float(value)) for value in best))
    worst = min(mu @ at(rewards, corner) for corner in LamSearch(experts, budget, mu)._begin)
    search, asked = LamSearch(experts, budget, mu), []
    noise = np.random.default_rng(seed)
    while (lam := search.ask()) is not None:
        asked.append(lam)
        assert sum(lam) == 1
        assert min(lam) >= 0
        search.tell(lam, at(rewards, lam) + 0.003 * noise.normal(size=experts), np.full(experts, 0.003))
    assert len(asked) == len(set(asked)) == budget
    assert budget < comb(10 + experts - 1, experts - 1) / 1.3  # tenths would be so many
    reached = mu @ at(rewards, search.best())
    # Within 2 % of what there is to gain over the worst of the points it begins with.
    assert optimum - reached <= 0.02 * (optimum - worst)


@pytest.mark.parametrize("experts", [2, 3])
def test_front_by_hypervolume(experts: int) -> None:
    """With a fifth of a lattice's points, most of its hypervolume, and more than the same number of random ones."""
    rewards = problem(experts, 5)
    reference = np.full(experts, -0.1)
    parts = 20 if experts == 2 else 9
    lattice = [tuple(Fraction(int(n), parts) for n in point) for point in compositions(experts, parts)]
    whole = moocore.hypervolume(np.stack([at(rewards, lam) for lam in lattice]), ref=reference, maximise=True)
    budget = len(lattice) // 5 + experts
    search = LamSearch(experts, budget)
    while (lam := search.ask()) is not None:
        search.tell(lam, at(rewards, lam), np.zeros(experts))
    volume = moocore.hypervolume(np.stack(search.scores), ref=reference, maximise=True)
    assert volume > 0.9 * whole
    rng, others = np.random.default_rng(0), []
    for _ in range(10):
        drawn = rng.choice(len(lattice), budget, replace=False)
        chosen = np.stack([at(rewards, lattice[k]) for k in drawn])
        others.append(moocore.hypervolume(chosen, ref=reference, maximise=True))
    assert volume > np.mean(others)


def test_same_told_same_asked() -> None:
    rewards = problem(3, 7)

    def run() -> list[tuple[Fraction, ...]]:
        search = LamSearch(3, 6)
        while (lam := search.ask()) is not None:
            search.tell(lam, at(rewards, lam), np.zeros(3))
        return search.lams

    assert run() == run()


def test_refusals() -> None:
    with pytest.raises(RslitError, match="a budget of 3 does not hold the 3 experts and the uniform soup"):
        LamSearch(3, 3)
    with pytest.raises(RslitError, match="two or more"):
        LamSearch(1, 5)
    with pytest.raises(RslitError, match="must not be negative, nor all 0"):
        LamSearch(2, 5, [0.0, 0.0])
    search = LamSearch(2, 5)
    with pytest.raises(RslitError, match="is not finite; mend the reward"):
        search.tell((Fraction(1), Fraction(0)), [1.0, np.nan], [0.0, 0.0])
    with pytest.raises(RslitError, match="only for a preference"):
        search.best()
