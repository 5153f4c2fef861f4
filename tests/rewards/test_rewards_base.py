"""FunctionReward and WeightedSum: values by hand, semantics, and every bad input."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from reward_tester import RewardTester
from user_rewards import Length, brevity, politeness

from rslit.errors import RslitError
from rslit.rewards import FunctionReward, Reward, TermsReward, WeightedSum, score
from rslit.samples import Samples

NAN = math.nan


@pytest.fixture
def samples() -> Samples:
    return Samples(items=["a", "b", "c", "d"], fields={"text": ["please stop", "", "go away now", "yes please"]})


@pytest.fixture
def two_columns() -> Samples:
    return Samples(
        items=[0, 1, 2, 3],
        fields={"x": torch.tensor([1.0, 2.0, NAN, NAN]), "y": torch.tensor([10.0, NAN, 30.0, NAN])},
    )


def column(name: str, low: float = -math.inf, high: float = math.inf, unit: str = "points") -> FunctionReward:
    return FunctionReward(lambda samples: samples[name], name=name, unit=unit, range=(low, high))


def test_a_class_of_the_user_is_a_reward(samples):
    RewardTester().run(Length(scale=0.5), samples, [5.5, 0.0, 5.5, 5.0])


def test_function_reward(samples):
    reward = FunctionReward(brevity, unit="words", range=(-math.inf, 0.0))
    RewardTester().run(reward, samples, [-2.0, 0.0, -3.0, -2.0])
    assert (reward.name, reward.unit, reward.range) == ("brevity", "words", (-math.inf, 0.0))


def test_function_reward_that_does_not_always_apply(samples):
    RewardTester().run(FunctionReward(politeness, name="polite", range=(0, 1)), samples, [1.0, NAN, 0.0, 1.0])


def test_function_reward_needs_a_name_of_some_kind():
    for nameless in (lambda samples: samples["x"], functools.partial(brevity)):
        with pytest.raises(RslitError, match=r"FunctionReward: .* has no name of its own; set `name`"):
            FunctionReward(nameless)
        assert FunctionReward(nameless, name="mine").name == "mine"


def test_function_reward_bad_input():
    with pytest.raises(RslitError, match=r"function must be callable, got 'user_rewards\.brevity'"):
        FunctionReward("user_rewards.brevity")
    for bad in ((1.0, 0.0), (NAN, 1.0)):
        with pytest.raises(RslitError, match=r"range .* is empty; give the smallest value first"):
            FunctionReward(brevity, range=bad)


def test_weighted_sum_leaves_out_what_does_not_apply(two_columns):
    reward = WeightedSum([column("x"), column("y")], [0.5, 0.25])
    RewardTester().run(reward, two_columns, [0.5 + 2.5, 1.0, 7.5, NAN])


def test_weighted_sum_of_one_reward_is_that_reward(samples):
    RewardTester().run(WeightedSum([Length()], [1.0]), samples, [11.0, 0.0, 11.0, 10.0])


def test_weighted_sum_with_a_zero_weight_still_applies_where_that_reward_does(two_columns):
    RewardTester().run(WeightedSum([column("x"), column("y")], [1.0, 0.0]), two_columns, [1.0, 2.0, 0.0, NAN])


def test_weighted_sum_nests_and_mixes_integer_and_half_precision():
    batch = Samples(
        items=[0, 1, 2],
        fields={"i": torch.tensor([1, 2, 3]), "h": torch.tensor([0.5, 1.0, 1.5], dtype=torch.float16)},
    )
    inner = WeightedSum([column("i"), column("h")], [1.0, 2.0])
    RewardTester().run(WeightedSum([inner, column("i")], [10.0, 1.0]), batch, [21.0, 42.0, 63.0])


def test_weighted_sum_exposes_its_parts_and_names_itself_by_its_formula():
    parts = [column("bleu1"), column("rouge")]
    reward = WeightedSum(parts, [0.3, 0.7])
    assert reward.rewards == parts
    assert reward.weights == [0.3, 0.7]
    assert reward.name == "0.3*bleu1+0.7*rouge"
    assert WeightedSum(parts, [0.3, 0.7], name="morl").name == "morl"


def test_weighted_sum_unit():
    assert WeightedSum([column("x"), column("y")], [1, 1]).unit == "points"
    assert WeightedSum([column("x"), column("y", unit="words")], [1, 1]).unit == "weighted sum"


@pytest.mark.parametrize(
    ("bounds", "weights", "expected"),
    [
        ([(0, 1), (0, 10)], [0.5, 0.2], (0.0, 2.5)),
        ([(-1, 1), (-10, 10)], [1.0, 0.5], (-6.0, 6.0)),
        # Where only one of two positive rewards applies, the other adds nothing.
        ([(1, 2), (3, 5)], [1.0, 1.0], (1.0, 7.0)),
        ([(-3, -2), (-5, -4)], [1.0, 1.0], (-8.0, -2.0)),
        ([(-math.inf, math.inf), (0, 1)], [0.0, 1.0], (0.0, 1.0)),
        ([(-math.inf, 0), (0, 1)], [1.0, 1.0], (-math.inf, 1.0)),
    ],
)
def test_weighted_sum_range(bounds, weights, expected):
    assert WeightedSum([column("x", *pair) for pair in bounds], weights).range == expected


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0], "2 rewards but 1 weights; give one weight for each reward"),
        ([1.0, -0.5], "the weight of 'y' is -0.5; weights must be finite and >= 0"),
        ([NAN, 1.0], "the weight of 'x' is nan"),
        ([1.0, math.inf], "the weight of 'y' is inf"),
        ([0.0, 0.0], "all weights are 0, so nothing would be rewarded"),
    ],
)
def test_weighted_sum_bad_weights(weights, words):
    with pytest.raises(RslitError, match=words):
        WeightedSum([column("x"), column("y")], weights)


def test_weighted_sum_bad_rewards():
    with pytest.raises(RslitError, match="the list of rewards is empty"):
        WeightedSum([], [])
    with pytest.raises(RslitError, match=r"reward brevity has no name; .*rslit\.rewards\.FunctionReward"):
        WeightedSum([brevity], [1.0])


def test_weighted_sum_names_the_part_at_fault(two_columns):
    # Infinity times a weight of 0 would be NaN and pass for "does not apply".
    two_columns.fields["x"][1] = math.inf
    with pytest.raises(RslitError, match=r"reward '0\*x\+1\*y' failed at step 3: reward 'x' gave inf for item 1"):
        score(WeightedSum([column("x"), column("y")], [0.0, 1.0]), two_columns, step=3)


def test_the_protocol_asks_for_the_semantics():
    assert isinstance(TermsReward({"x": 1.0}, "x"), Reward)
    assert not isinstance(brevity, Reward)
