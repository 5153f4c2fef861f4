"""From scored answers to an experience's advantages and to the numbers that users know from other trainers.

Notation: B answers, R tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from rslit.distributed import mean_over_ranks
from rslit.errors import RslitError
from rslit.language import KLOptions
from rslit.objectives import (
    AdaptiveKL,
    FixedKL,
    leave_one_out_advantages,
    sequence_kl,
    token_advantages,
    token_rewards,
    whiten,
)
from rslit.samples import Samples

__all__ = ["Advantages", "Algorithm", "kl_controller", "rollout_numbers", "step_precision", "timings"]

Algorithm = Literal["ppo", "rloo", "reinforce"]

_Rollout = TypeVar("_Rollout", bound=Callable[..., Any])


@dataclass(frozen=True)
class Advantages:
    """How a rollout's scores become advantages.

    Attributes:
        algorithm: ``ppo`` by GAE on a value head; ``rloo`` against the other answers to the prompt; ``reinforce``
            against the mean of the rollout, over all ranks.
        group: Answers to each prompt, side by side.
        gamma: Discount per token (PPO).
        gae_lambda: Decay of GAE's trace (PPO).
        whiten_rewards: Scale token rewards to variance 1 (PPO).
        whiten_advantages: Scale and shift advantages to variance 1 and mean 0.
    """

    algorithm: Algorithm
    group: int
    gamma: float
    gae_lambda: float
    whiten_rewards: bool
    whiten_advantages: bool

    def __call__(
        self, scores: Tensor, kl: Tensor | None, coefficient: float, mask: Tensor, values: Tensor | None
    ) -> dict[str, Tensor]:
        """Advantages of every token, with PPO also the value head's targets.

        Args:
            scores: float32 (B,).
            kl: float32 (B, R), KL estimate per token that is taken off the reward; None takes nothing off.
            coefficient: Its weight.
            mask: bool (B, R).
            values: float32 (B, R) for PPO.

        Returns:
            ``advantages`` and, for PPO, ``returns``, float32 (B, R).
        """
        if self.algorithm == "ppo":
            assert values is not None, "PPO has a value head"
            rewards = token_rewards(scores, kl, coefficient, mask)
            if self.whiten_rewards:
                rewards = whiten(rewards, mask, shift_mean=False)
            advantages, returns = token_advantages(rewards, values, mask, self.gamma, self.gae_lambda)
            return {
                "advantages": whiten(advantages, mask) if self.whiten_advantages else advantages,
                "returns": returns,
            }
        totals = scores if kl is None else scores - coefficient * sequence_kl(kl, mask)
        if self.algorithm == "rloo":
            totals = leave_one_out_advantages(totals.view(-1, self.group)).flatten()
        else:
            totals = totals - mean_over_ranks(totals.mean())
        if self.whiten_advantages:
            totals = whiten(totals)
        return {"advantages": totals.unsqueeze(1) * mask}


def step_precision(rollout: _Rollout) -> _Rollout:
    """Lets a module's rollout compute as its training steps do, so that old and new log-probabilities agree.

    Lightning enters its precision around the steps alone; a rollout is made in the loader.

    Raises:
        RslitError: When called: the Trainer would turn the whole module to a half precision.
    """

    @functools.wraps(rollout)
    def wrapped(module: Any, batch: Any) -> Any:
        if module._trainer is None:
            return rollout(module, batch)
        precision = str(module.trainer.precision)
        if precision != "32-true" and not precision.endswith("-mixed"):
            raise RslitError(
                f"trainer.precision: {precision} would train the adapter in that precision, too; leave it at 32-true "
                "and set policy.dtype: bfloat16, or use bf16-mixed"
            )
        with module.trainer.precision_plugin.forward_context():
            return rollout(module, batch)

    return cast(_Rollout, wrapped)


def kl_controller(options: KLOptions) -> FixedKL | AdaptiveKL:
    """The controller of the penalty's coefficient: adaptive if there is a target."""
    if options.target is None:
        return FixedKL(options.coefficient)
    return AdaptiveKL(options.coefficient, options.target, options.horizon)


def timings(clock: Sequence[float], tokens: int) -> dict[str, float]:
    """Where the seconds of a rollout went, and its speed.

    Args:
        clock: Times before generation and after generation, reward, the policy's pass and the reference's.
        tokens: Tokens that were generated.
    """
    parts = ("generation", "reward", "policy", "reference")
    spent = {f"time/{name}": after - before for name, before, after in zip(parts, clock, clock[1:], strict=False)}
    return {**spent, "time/rollout_tokens_per_second": tokens / (clock[-1] - clock[0])}


def rollout_numbers(
    samples: Samples, scores: Tensor, kl: Tensor, paid: Tensor, entropy: Tensor, mask: Tensor
) -> dict[str, float]:
    """What to log of a rollout, over all ranks, under the names that TRL's users know.

    Args:
        samples: The answers, with every reward as a score.
        scores: float32 (B,), what the policy is trained on, without the KL penalty.
        kl: float32 (B,), log-ratio of policy and reference of each answer, nats.
        paid: float32 (B,), KL penalty of each answer (<= 0 on average).
        entropy: float32 (B, R), nats.
        mask: bool (B, R).
    """
    numbers = {
        "objective/kl": kl.mean(),
        "objective/entropy": sequence_kl(entropy, mask).mean(),
        "objective/non_score_reward": paid.mean(),
        "objective/rlhf_reward": (scores + paid).mean(),
        "objective/scores": scores.mean(),
        "completions/mean_length": mask.sum(1).float().mean(),
        "completions/terminated_fraction": samples["finished"].float().mean(),
    }
    for name, values in samples.scores.items():
        applies = values[~values.isnan()]
        numbers[f"rewards/{name}/mean"] = applies.mean() if len(applies) else scores.new_zeros(())
        numbers[f"rewards/{name}/std"] = applies.std(correction=0) if len(applies) else scores.new_zeros(())
    reduced = mean_over_ranks(torch.stack([v.float().to(kl.device) for v in numbers.values()]))
    return dict(zip(numbers, reduced.tolist(), strict=True))
