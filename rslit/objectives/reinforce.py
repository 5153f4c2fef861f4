"""REINFORCE with the two baselines of the paper's field: the greedy sample and the other samples.

Notation: B trajectories (captions, boxes, answers), T steps, k samples per input. Rewards are one number per
trajectory, higher is better. Log-probabilities are (B, T) in nats; a mask is true on the steps that count.

Sources: Williams 1992 (REINFORCE); Rennie et al. 2017, "Self-critical Sequence Training for Image Captioning" (greedy
baseline, the paper's captioning objective); Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"
(leave-one-out baseline).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.masked import check_same_shape, masked_mean, masked_values

__all__ = ["greedy_advantages", "leave_one_out_advantages", "reinforce_loss"]


@torch.no_grad()
def greedy_advantages(rewards: Tensor, greedy_rewards: Tensor) -> Tensor:
    """Self-critical advantages: how much better a sample scored than the policy's own greedy output.

    Args:
        rewards: (B,) float32, of the sampled outputs.
        greedy_rewards: (B,) float32, of the greedy outputs for the same inputs.

    Returns:
        (B,) float32, rewards - greedy_rewards.

    Raises:
        RslitError: Shapes differ or are not (B,).
    """
    check_same_shape("greedy_advantages", rewards=rewards, greedy_rewards=greedy_rewards)
    if rewards.ndim != 1:
        raise RslitError(f"greedy_advantages: rewards must be (B,), got shape {tuple(rewards.shape)}")
    return rewards - greedy_rewards


@torch.no_grad()
def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Each sample against the mean of the other samples of its input: A_i = r_i - mean_{j != i} r_j.

    Equal to k / (k - 1) * (r_i - mean_j r_j), so a row sums to zero. Unbiased, since the baseline of a sample does not
    depend on that sample.

    Args:
        rewards: (B, k) float32, k samples for each of B inputs.

    Returns:
        (B, k) float32.

    Raises:
        RslitError: Not (B, k), or k < 2.
    """
    if rewards.ndim != 2:
        raise RslitError(f"leave_one_out_advantages: rewards must be (B, k), got shape {tuple(rewards.shape)}")
    k = rewards.shape[1]
    if k < 2:
        raise RslitError(f"leave_one_out_advantages: needs at least 2 samples per input, got {k}; raise the number")
    return (rewards - rewards.mean(dim=1, keepdim=True)) * (k / (k - 1))


def reinforce_loss(
    logprob: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    normalise: Literal["sequence", "token"] = "sequence",
) -> Tensor:
    """Loss whose gradient is the REINFORCE estimate, -E[A * grad log pi(trajectory)].

    Args:
        logprob: (B, T) float32, of the actions taken; carries the gradient.
        advantages: (B,) float32; treated as a constant.
        mask: (B, T) bool or 0/1; None counts every step.
        normalise: "sequence" sums the steps of a trajectory and averages over B: the unbiased gradient of the expected
            reward. "token" divides by the number of counted steps instead, which keeps the scale of the loss free of
            the length (the choice of most self-critical captioning code); under DDP each rank divides by its own.

    Returns:
        Scalar.

    Raises:
        RslitError: Shapes do not fit or `normalise` is unknown.
    """
    check_same_shape("reinforce_loss", logprob=logprob, mask=mask)
    if logprob.ndim != 2 or advantages.shape != logprob.shape[:1]:
        raise RslitError(
            "reinforce_loss: needs logprob (B, T) and advantages (B,), "
            f"got {tuple(logprob.shape)} and {tuple(advantages.shape)}"
        )
    if normalise not in ("sequence", "token"):
        raise RslitError(f"reinforce_loss: normalise '{normalise}' is unknown; choose sequence or token")
    steps = masked_values(logprob, mask) * advantages.detach().unsqueeze(1)
    if normalise == "token":
        return -masked_mean(steps, mask)
    return -steps.sum() / max(logprob.shape[0], 1)
