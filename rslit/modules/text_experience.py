"""From scored answers to an experience's advantages and to the numbers that users know from other trainers.

Notation: B answers, R tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rslit.distributed import mean_over_ranks
from rslit.language import KLOptions
from rslit.modules.numbers import mean_numbers
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

__all__ = [
    "Advantages",
    "Algorithm",
    "kl_controller",
    "mean_entropy",
    "no_loss",
    "rollout_numbers",
    "timings",
]

Algorithm = Literal["ppo", "rloo", "reinforce"]


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
    samples: Samples,
    scores: Tensor,
    kl: Tensor | None,
    paid: Tensor | None,
    entropy: Tensor | None,
    mask: Tensor,
) -> dict[str, float]:
    """What to log of a rollout, over all ranks, under the names that TRL's users know.

    Args:
        samples: The answers, with every reward as a score.
        scores: float32 (B,), what the policy is trained on, without the KL penalty.
        kl: float32 (B,), log-ratio of policy and reference of each answer, nats; None without a reference.
        paid: float32 (B,), KL penalty of each answer (<= 0 on average); None if none is taken off the scores.
        entropy: float32 (B, R), nats; None where the update tells it (:func:`mean_entropy`).
        mask: bool (B, R).
    """
    paid = torch.zeros_like(scores) if paid is None else paid
    numbers = {
        "objective/kl": torch.zeros_like(scores) if kl is None else kl,
        "objective/non_score_reward": paid,
        "objective/rlhf_reward": scores + paid,
        "objective/scores": scores,
        "completions/mean_length": mask.sum(1),
        "completions/terminated_fraction": samples["finished"],
    }
    if entropy is not None:
        numbers["objective/entropy"] = sequence_kl(entropy, mask)
    return mean_numbers(numbers, samples)


def mean_entropy(entropy: Tensor, mask: Tensor) -> float:
    """Mean over answers and ranks of the entropy along an answer, nats.

    Args:
        entropy: float32 (B, R), of each token's distribution, nats.
        mask: bool (B, R).
    """
    return float(mean_over_ranks(sequence_kl(entropy, mask).mean()))


def no_loss(module: nn.Module) -> Tensor:
    """A loss of 0 that touches every trained weight: under DDP each of them needs a gradient."""
    return torch.stack([0.0 * p.sum().float() for p in module.parameters() if p.requires_grad]).sum()
