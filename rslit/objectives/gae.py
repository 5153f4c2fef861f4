"""Generalised advantage estimation.

Notation: B trajectories, T steps; every tensor is (B, T), time runs along the last dimension.

    delta_t = r_t + gamma * (1 - terminated_t) * V(s'_t) - V(s_t)
    A_t     = delta_t + gamma * lam * (1 - terminated_t) * (1 - truncated_t) * A_{t+1}

`lam` is the trace decay of GAE, not the λ of a soup.

Source: Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation", eq. 16.
Termination and truncation are told apart as in Pardo et al. 2018, "Time Limits in Reinforcement Learning": running out
of time is not a property of the state, so its value is still bootstrapped. Brax 0.14.2's `compute_gae` instead sets the
advantage of a truncated step to zero, because there the true next observation is lost to the auto-reset; here
`next_values` carries it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.masked import check_same_shape

__all__ = ["gae"]


@torch.no_grad()
def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets of a batch of trajectories.

    A row may hold several episodes one after the other: the trace stops at the end of each. Padding after the last
    step of a text is harmless as long as that step is marked terminated. The row's last step is cut off like a
    truncated one: it bootstraps from `next_values`.

    Args:
        rewards: (B, T) float32, reward of each step.
        values: (B, T) float32, V of the observation the step was taken from.
        next_values: (B, T) float32, V of the true next observation, the one before any auto-reset. Ignored (may be
            NaN) where terminated.
        terminated: (B, T) bool or 0/1, the episode ended by its own rules: nothing follows, no bootstrap.
        truncated: (B, T) bool or 0/1, the episode was cut by a time limit: bootstrap, but the trace stops. Where both
            are set, terminated wins.
        gamma: Discount per step, in [0, 1].
        lam: Decay of the trace, in [0, 1]; 0 is the one-step error, 1 the discounted sum of rewards.

    Returns:
        `(advantages, returns)`, both (B, T) float32, without gradient. `returns` = advantages + values, the TD(lam)
        target of the value head.

    Raises:
        RslitError: Shapes differ, are not (B, T), or gamma or lam lies outside [0, 1].
    """
    for name, value in (("gamma", gamma), ("lam", lam)):
        if not 0.0 <= value <= 1.0:
            raise RslitError(f"gae: {name} must lie in [0, 1], got {value}")
    check_same_shape(
        "gae",
        rewards=rewards,
        values=values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
    )
    if rewards.ndim != 2:
        raise RslitError(f"gae: tensors must be (B, T), got shape {tuple(rewards.shape)}; add the missing dimension")

    ended = terminated.bool()
    bootstrap = torch.where(ended, torch.zeros_like(next_values), next_values)
    deltas = rewards + gamma * bootstrap - values
    decay = gamma * lam * (~(ended | truncated.bool())).to(deltas.dtype)

    advantages = torch.zeros_like(deltas)
    trace = deltas.new_zeros(deltas.shape[0])
    for t in reversed(range(deltas.shape[1])):
        trace = deltas[:, t] + decay[:, t] * trace
        advantages[:, t] = trace
    return advantages, advantages + values
