"""One battery of checks for every reward. Each reward's test calls `RewardTester.run` with values of its own making."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rslit.rewards import Reward, score
from rslit.samples import Samples

__all__ = ["RewardTester", "take"]


def take(samples: Samples, rows: Sequence[int]) -> Samples:
    """The named rows of the samples, in that order."""

    def rows_of(column: Tensor | Sequence[Any]) -> Tensor | list[Any]:
        return column[list(rows)] if isinstance(column, Tensor) else [column[row] for row in rows]

    return Samples([samples.items[row] for row in rows], {name: rows_of(c) for name, c in samples.fields.items()})


class RewardTester:
    """Checks a reward on a batch of at least three samples whose values are not all equal.

    Args:
        tolerance: Largest absolute difference to the independent reference.
        batch_tolerance: Largest difference between a batch and its single samples. 0 for rewards that treat samples one
            by one; neural rewards differ by rounding.
    """

    def __init__(self, tolerance: float = 1e-6, batch_tolerance: float = 0.0) -> None:
        self.tolerance = tolerance
        self.batch_tolerance = batch_tolerance

    def run(self, reward: Reward, samples: Samples, expected: Sequence[float]) -> None:
        """Every check.

        Args:
            reward: The reward.
            samples: B >= 3 samples.
            expected: B values from an independent reference, NaN where the reward does not apply.
        """
        assert len(samples) >= 3
        assert len({value for value in expected if not math.isnan(value)}) > 1, "equal values cannot show a mix-up"
        self.check_semantics(reward)
        self.check_value(reward, samples, expected)
        self.check_dtype_and_shape(reward, samples)
        self.check_determinism(reward, samples)
        self.check_permutation(reward, samples)
        self.check_batch_of_one(reward, samples)
        self.check_no_gradient(reward, samples)

    def check_semantics(self, reward: Reward) -> None:
        assert isinstance(reward, Reward)
        assert isinstance(reward.name, str)
        assert reward.name
        assert isinstance(reward.unit, str)
        assert reward.range[0] < reward.range[1]

    def check_value(self, reward: Reward, samples: Samples, expected: Sequence[float]) -> None:
        values = score(reward, samples, 0)
        np.testing.assert_allclose(values.cpu().numpy(), np.asarray(expected), rtol=0, atol=self.tolerance)
        known = values[~values.isnan()]
        assert (known >= reward.range[0]).all()
        assert (known <= reward.range[1]).all()

    def check_dtype_and_shape(self, reward: Reward, samples: Samples) -> None:
        """The reward itself, before `score` converts anything."""
        values = reward(samples)
        assert values.dtype == torch.float32
        assert values.shape == (len(samples),)

    def check_determinism(self, reward: Reward, samples: Samples) -> None:
        """Same samples, same values, whatever the state of the global generator; and the samples stay as they were."""
        before = copy.deepcopy(samples)
        first = score(reward, samples, 0)
        torch.manual_seed(12345)
        assert_same(score(reward, samples, 1), first, 0.0)
        assert list(samples.items) == list(before.items)
        for name, column in before.fields.items():
            if isinstance(column, Tensor):
                torch.testing.assert_close(samples[name], column, rtol=0, atol=0, equal_nan=True)
            else:
                assert list(map(repr, samples[name])) == list(map(repr, column))

    def check_permutation(self, reward: Reward, samples: Samples) -> None:
        order = [*range(1, len(samples)), 0]
        assert_same(score(reward, take(samples, order), 0), score(reward, samples, 0)[order], self.batch_tolerance)

    def check_batch_of_one(self, reward: Reward, samples: Samples) -> None:
        single = torch.cat([score(reward, take(samples, [row]), 0) for row in range(len(samples))])
        assert_same(single, score(reward, samples, 0), self.batch_tolerance)

    def check_no_gradient(self, reward: Reward, samples: Samples) -> None:
        """A policy's output that still hangs on its graph must not pull the reward into it."""
        fields = {
            name: column.clone().requires_grad_()
            if isinstance(column, Tensor) and column.is_floating_point()
            else column
            for name, column in samples.fields.items()
        }
        values = score(reward, Samples(samples.items, fields), 0)
        assert not values.requires_grad
        assert values.grad_fn is None


def assert_same(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance, equal_nan=True)
