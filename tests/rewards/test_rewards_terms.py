"""TermsReward: the paper's two locomotion rewards and MO-Gymnasium's terms, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reward_tester import RewardTester

from rslit.errors import RslitError
from rslit.rewards import TermsReward, WeightedSum, score
from rslit.samples import Samples

ACTIONS = torch.tensor([[0.5, -0.5], [1.0, 0.0], [0.0, 0.1], [0.2, 0.4]])
VELOCITY = [2.0, 3.0, -1.0, 0.5]
ENERGY = [0.5, 1.0, 0.01, 0.2]


@pytest.fixture
def steps() -> Samples:
    fields = {"x_velocity": torch.tensor(VELOCITY), "energy": ACTIONS.square().sum(dim=-1), "actions": ACTIONS}
    return Samples(items=[0, 1, 2, 3], fields=fields)


RISKY = TermsReward({"x_velocity": 1.0}, "risky")
CAUTIOUS = TermsReward({"x_velocity": 1.0, "energy": -1.0}, "cautious")


def test_the_papers_rewards(steps):
    RewardTester().run(RISKY, steps, VELOCITY)
    RewardTester().run(CAUTIOUS, steps, [v - e for v, e in zip(VELOCITY, ENERGY, strict=True)])
    assert (CAUTIOUS.name, CAUTIOUS.terms) == ("cautious", {"x_velocity": 1.0, "energy": -1.0})


def test_morl_with_equal_weights_is_alpha_one_half(steps):
    """Paper, section 3.6: MORL with μ = 0.5 is R = velocity - 0.5 * energy."""
    morl = WeightedSum([RISKY, CAUTIOUS], [0.5, 0.5])
    RewardTester().run(morl, steps, [v - 0.5 * e for v, e in zip(VELOCITY, ENERGY, strict=True)])


def test_mo_gymnasium_terms_in_arrays_lists_and_other_dtypes():
    fields = {
        "reward_0": np.array([1.0, 2.0, 4.0]),
        "reward_1": torch.tensor([1, 0, 1]),
        "alive": torch.tensor([True, False, True]),
        "height": [1.0, 1.0, 2.0],
    }
    reward = TermsReward({"reward_0": 0.5, "reward_1": -3.0, "alive": 2.0, "height": 1.0}, "mo")
    RewardTester().run(reward, Samples([7, 8, 9], fields), [0.5, 2.0, 3.0])
    RewardTester().run(TermsReward({"reward_0": 1.0}, "mo"), Samples([7, 8, 9], fields), [1.0, 2.0, 4.0])


def test_nan_in_a_term_means_it_does_not_apply():
    fields = {"x_velocity": torch.tensor([1.0, 2.0, math.nan]), "energy": torch.tensor([0.0, 0.5, 5.0])}
    RewardTester().run(CAUTIOUS, Samples([1, 2, 3], fields), [1.0, 1.5, math.nan])


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"speed": 1.0}, "no term 'speed'; the samples have: actions, energy, x_velocity"),
        ({"actions": 1.0}, r"term 'actions' has shape \(4, 2\), not \(4,\); reduce it to one number per sample"),
    ],
)
def test_unknown_and_misshapen_terms(steps, terms, words):
    with pytest.raises(RslitError, match=f"reward 'r' failed at step 5: TermsReward 'r': {words}"):
        score(TermsReward(terms, "r"), steps, 5)


def test_a_term_that_holds_no_numbers():
    for column in (["walk", "run"], [None, 1.0]):
        with pytest.raises(RslitError, match="TermsReward 'r': term 'gait' does not hold numbers"):
            TermsReward({"gait": 1.0}, "r")(Samples([0, 1], {"gait": column}))


@pytest.mark.parametrize(
    ("terms", "name", "words"),
    [
        ({}, "r", "TermsReward 'r': no terms"),
        ({"energy": math.nan}, "r", "the weight of term 'energy' is nan; give a finite number"),
        ({"energy": 1.0}, "", "TermsReward: the name is empty"),
    ],
)
def test_bad_arguments(terms, name, words):
    with pytest.raises(RslitError, match=words):
        TermsReward(terms, name)
