"""What a reward is, the MORL reward, and any Python function as a reward.

Notation: B samples; a reward maps them to (B,) float32, higher is better, NaN where it does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.score import checked_values, reward_name, score
from rslit.samples import Samples

__all__ = ["FunctionReward", "Reward", "WeightedSum", "score_terms"]


@runtime_checkable
class Reward(Protocol):
    """The interface of a reward: a pure function of the samples, with a name and its semantics.

    A class of your own needs no base class. Written like this it can be named in YAML as `my_package.Brevity`
    wherever a `Reward`, a `list[Reward]` or a `dict[str, Reward]` is expected:

        class Brevity:
            unit = "words"
            range = (-math.inf, 0.0)

            def __init__(self, scale: float = 1.0, name: str = "brevity") -> None:
                self.scale = scale
                self.name = name

            def __call__(self, samples: Samples) -> Tensor:
                return torch.tensor([-self.scale * len(text.split()) for text in samples["text"]])

    jsonargparse compares the signature of `__call__` with this one: the parameter must be called `samples` and be
    annotated with `rslit.samples.Samples`; more parameters need defaults. For a plain function use `FunctionReward`.

    Attributes:
        name: Column name of its scores, short and unique among the rewards of a run.
        unit: What one unit of the value is, for axes and tables: "IoU", "metres per second", "nats".
        range: Smallest and largest possible value, ±inf where unbounded.
    """

    name: str
    unit: str
    range: tuple[float, float]

    def __call__(self, samples: Samples) -> Tensor:
        """Scores a batch.

        Args:
            samples: B samples; `samples[field]` is a column.

        Returns:
            (B,) float32, higher is better, NaN where the reward does not apply.
        """
        ...


# jsonargparse 4.53 takes a callable protocol that returns a class for a factory of that class: it would accept any
# Tensor subclass as a reward and refuse every reward. Type checkers read the source: for them the return type stands.
Reward.__call__.__annotations__["return"] = Any


class WeightedSum:
    """The reward of the MORL baseline: the sum of μ_i R_i (paper, section 2.1, "MORL baseline").

    Where a reward does not apply to a sample (NaN) it is left out of that sample's sum; the result is NaN only where
    none applies. Weights need not sum to 1.

    Args:
        rewards: The N rewards R_i.
        weights: The N weights μ_i, finite, >= 0, not all 0.
        name: Defaults to the formula, such as `0.5*bleu1+0.5*rouge`.

    Attributes:
        unit: That of the rewards if they share one, else "weighted sum".
        range: The bounds that follow from those of the rewards.

    Raises:
        RslitError: The lists are empty or differ in length, a weight is negative or not finite, or all are 0.
    """

    def __init__(self, rewards: list[Reward], weights: list[float], name: str | None = None) -> None:
        if not rewards:
            raise RslitError("WeightedSum: the list of rewards is empty; name at least one")
        if len(rewards) != len(weights):
            raise RslitError(
                f"WeightedSum: {len(rewards)} rewards but {len(weights)} weights; give one weight for each reward"
            )
        names = [reward_name(reward) for reward in rewards]
        for reward, weight in zip(names, weights, strict=True):
            if not (math.isfinite(weight) and weight >= 0):
                raise RslitError(f"WeightedSum: the weight of '{reward}' is {weight}; weights must be finite and >= 0")
        if not any(weights):
            raise RslitError("WeightedSum: all weights are 0, so nothing would be rewarded; give one a positive weight")
        self.rewards = list(rewards)
        self.weights = [float(weight) for weight in weights]
        self.name = name or "+".join(f"{weight:g}*{reward}" for weight, reward in zip(weights, names, strict=True))
        units = {reward.unit for reward in rewards}
        self.unit = units.pop() if len(units) == 1 else "weighted sum"
        self.range = _sum_range([reward.range for reward in rewards], self.weights)

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32."""
        return self.combine([checked_values(reward, samples) for reward in self.rewards])

    def combine(self, columns: Sequence[Tensor]) -> Tensor:
        """The weighted sum of scores that are there already.

        Args:
            columns: float32 (B,) of each reward, in their order, NaN where one does not apply.

        Returns:
            float32 (B,).
        """
        # A text reward answers on the CPU, a reward model on its accelerator.
        values = torch.stack([column.to(columns[0].device) for column in columns])
        weights = torch.tensor(self.weights, dtype=values.dtype, device=values.device).unsqueeze(1)
        total = torch.nansum(weights * values, dim=0)
        return total.masked_fill(values.isnan().all(dim=0), math.nan)


class FunctionReward:
    """Any importable Python function as a reward.

    In YAML the function is named by its import path:

        class_path: rslit.rewards.FunctionReward
        init_args:
          function: my_package.my_module.brevity
          unit: words

    Args:
        function: Called with the `Samples`, returns a tensor (B,), higher is better, NaN where it does not apply. It
            must be pure: the same samples give the same values.
        name: Defaults to the name of the function.
        unit: What one unit of the value is, for axes and tables.
        range: Smallest and largest possible value.

    Raises:
        RslitError: `function` cannot be called or has no name of its own and none is given, or the range is empty.
    """

    # The return type is open because jsonargparse refuses functions without a return annotation otherwise; `score`
    # checks what comes back.
    def __init__(
        self,
        function: Callable[[Samples], Any],
        name: str | None = None,
        unit: str = "reward",
        range: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        if not callable(function):
            raise RslitError(f"FunctionReward: function must be callable, got {function!r}; pass the function itself")
        own_name = getattr(function, "__name__", "")
        if name is None and not own_name.isidentifier():
            raise RslitError(f"FunctionReward: {function!r} has no name of its own; set `name`")
        if not range[0] <= range[1]:
            raise RslitError(f"FunctionReward: range {tuple(range)} is empty; give the smallest value first")
        self.function = function
        self.name = name or own_name
        self.unit = unit
        self.range = (float(range[0]), float(range[1]))

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32."""
        values: Tensor = self.function(samples)
        return values


def score_terms(reward: Reward, samples: Samples, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A training reward and what it is made of, each of them computed once.

    Args:
        reward: A reward, or the WeightedSum of some.
        samples: B samples.
        step: For the message only.

    Returns:
        float32 (B,), never NaN, and the scores of the terms (of a plain reward: its own) by name, NaN where one does
        not apply.

    Raises:
        RslitError: As `rslit.rewards.score` with `complete`.
    """
    if not isinstance(reward, WeightedSum):
        values = score(reward, samples, step, complete=True)
        return values, {reward.name: values}
    terms = {term.name: score(term, samples, step) for term in reward.rewards}
    total = FunctionReward(lambda _: reward.combine(list(terms.values())), reward.name)
    return score(total, samples, step, complete=True), terms


def _sum_range(ranges: list[tuple[float, float]], weights: list[float]) -> tuple[float, float]:
    """Bounds of the sum over any non-empty subset of the rewards, since those that do not apply are left out."""
    lows, highs = (
        # 0 * inf is NaN, but a reward of weight 0 adds nothing.
        [weight * bounds[side] if weight else 0.0 for bounds, weight in zip(ranges, weights, strict=True)]
        for side in (0, 1)
    )
    low = sum(min(value, 0.0) for value in lows) or min(lows)
    high = sum(max(value, 0.0) for value in highs) or max(highs)
    return low, high
