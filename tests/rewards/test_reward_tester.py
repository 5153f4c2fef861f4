"""The battery itself: each check catches the fault it is there for."""

from __future__ import annotations

import pytest
import torch
from reward_tester import RewardTester

from rslit.rewards import FunctionReward
from rslit.samples import Samples

EXPECTED = [1.0, 2.0, 4.0]


def samples() -> Samples:
    return Samples(items=["a", "b", "c"], fields={"x": torch.tensor(EXPECTED)})


def reward(function, high: float = 10.0) -> FunctionReward:
    return FunctionReward(function, name="faulty", range=(0.0, high))


def passes_then_drifts():
    calls = []

    def function(samples):
        calls.append(1)
        return samples["x"] + (0.0 if len(calls) < 4 else 1e-3 * len(calls))

    return function


def mutates(samples):
    values = samples["x"].clone()
    samples["x"].add_(1.0)
    return values


def sorts(samples):
    return samples["x"].sort().values


def sees_the_batch(samples):
    return samples["x"] if len(samples) > 1 else samples["x"] - samples["x"].mean()


def test_a_sound_reward_passes():
    RewardTester().run(reward(lambda s: s["x"]), samples(), EXPECTED)


@pytest.mark.parametrize(
    ("function", "high"),
    [
        (lambda s: s["x"] + 1e-3, 10.0),
        (lambda s: s["x"], 3.0),
        (lambda s: s["x"].double(), 10.0),
        (passes_then_drifts(), 10.0),
        (mutates, 10.0),
        (sorts, 10.0),
        (sees_the_batch, 10.0),
    ],
    ids=["wrong value", "outside its range", "float64", "not deterministic", "changes samples", "order", "batch"],
)
def test_a_faulty_reward_fails(function, high):
    with pytest.raises(AssertionError):
        RewardTester().run(reward(function, high), samples(), EXPECTED)
