"""Proximal policy optimisation: the clipped policy and value losses, and the whitening of advantages.

Notation: B trajectories, T steps; tensors are (B, T), or (B,) where a minibatch holds single steps. Log-probabilities
are in nats, of the action taken. A mask is true on the steps that count (a text's own tokens, not its padding).

Sources: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", eq. 7 (policy) and the value clipping of
OpenAI baselines' `ppo2/model.py`; "The N implementation details of RLHF with PPO" (Huang et al. 2023), details 18
(whitening) and 19 (value clipping).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.masked import check_same_shape, masked_mean, masked_values

__all__ = ["PolicyLoss", "clipped_policy_loss", "value_loss", "whiten"]

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut to ±20. Beyond 88 the float32 ratio is inf, and the backward pass of the unselected branch of the
minimum makes NaN of it (0 * inf); e^20 is far outside any clip range already. verl's PPO cuts at the same value."""


class PolicyLoss(NamedTuple):
    """The policy loss of a minibatch and what to log about it. All scalars; only `loss` carries a gradient.

    Attributes:
        loss: Negated clipped surrogate, mean over the counted steps.
        ratio_mean: Mean of pi_new / pi_old. At the first minibatch after a rollout it is 1 within 1e-3, or the two
            log-probabilities were not computed alike.
        ratio_max: Largest ratio.
        approx_kl: KL(pi_old || pi_new) in nats per step, by the k3 estimator (see `rslit.objectives.kl`).
        clip_fraction: Share of the counted steps whose ratio lies outside [1 - clip, 1 + clip].
    """

    loss: Tensor
    ratio_mean: Tensor
    ratio_max: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


def clipped_policy_loss(
    logprob: Tensor,
    old_logprob: Tensor,
    advantages: Tensor,
    clip: float,
    mask: Tensor | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate: -mean(min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A)).

    At ratio 1 its gradient is that of `reinforce_loss(..., normalise="token")` with the same advantages.

    Args:
        logprob: (B, T) or (B,) float32, under the policy being trained; carries the gradient.
        old_logprob: Same shape, under the policy that acted; treated as a constant.
        advantages: Same shape; treated as a constant.
        clip: Half-width of the trusted interval around ratio 1, in (0, 1).
        mask: Same shape, bool or 0/1; None counts every step. With an empty mask every number is 0.

    Returns:
        A `PolicyLoss`.

    Raises:
        RslitError: Shapes differ or `clip` lies outside (0, 1).
    """
    if not 0.0 < clip < 1.0:
        raise RslitError(f"clipped_policy_loss: clip must lie in (0, 1), got {clip}; 0.2 is the usual value")
    check_same_shape("clipped_policy_loss", logprob=logprob, old_logprob=old_logprob, advantages=advantages, mask=mask)
    difference = masked_values(logprob - old_logprob.detach(), mask)
    log_ratio = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    advantages = masked_values(advantages.detach(), mask)
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)

    with torch.no_grad():
        outside = ((ratio - 1.0).abs() > clip).to(ratio.dtype)
        counted = masked_values(ratio, mask)
        statistics = (
            masked_mean(ratio, mask),
            counted.max() if counted.numel() else counted.sum(),
            masked_mean(torch.expm1(log_ratio) - log_ratio, mask),
            masked_mean(outside, mask),
        )
    return PolicyLoss(-masked_mean(surrogate, mask), *statistics)


def value_loss(
    values: Tensor,
    returns: Tensor,
    old_values: Tensor | None = None,
    clip: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Half the mean squared error of the value head, clipped as in PPO2 when `old_values` and `clip` are both given.

    Clipped: 0.5 * mean(max((v - R)^2, (v_old + clamp(v - v_old, -clip, clip) - R)^2)).

    Args:
        values: (B, T) or (B,) float32, carries the gradient.
        returns: Same shape, the targets; treated as a constant.
        old_values: Same shape, the values at rollout time.
        clip: Largest change of a value that is trusted, > 0, in units of the return.
        mask: Same shape, bool or 0/1; None counts every step.

    Returns:
        Scalar, 0 for an empty mask.

    Raises:
        RslitError: Shapes differ, only one of `old_values` and `clip` is given, or `clip` is not positive.
    """
    check_same_shape("value_loss", values=values, returns=returns, old_values=old_values, mask=mask)
    squared = (values - returns.detach()).square()
    if old_values is None and clip is None:
        return 0.5 * masked_mean(squared, mask)
    if old_values is None or clip is None:
        missing = "old_values" if old_values is None else "clip"
        raise RslitError(
            f"value_loss: clipping needs both old_values and clip, {missing} is missing; give both or none"
        )
    if clip <= 0.0:
        raise RslitError(f"value_loss: clip must be positive, got {clip}; leave it out for the unclipped loss")
    old_values = old_values.detach()
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum(squared, (clipped - returns.detach()).square()), mask)


@torch.no_grad()
def whiten(
    x: Tensor,
    mask: Tensor | None = None,
    shift_mean: bool = True,
    *,
    sync: bool = True,
    eps: float = 1e-8,
) -> Tensor:
    """Scales to variance 1 and, by default, shifts to mean 0: (x - mean) / sqrt(var + eps) [+ mean].

    The variance is the population's (divided by n). Under DDP the statistics are those of all ranks together, so that
    N ranks give what one process would give on the joined batch.

    Args:
        x: (B, T) or (B,) float32.
        mask: Same shape, bool or 0/1: only these enter the statistics, the others come back as 0.
        shift_mean: False leaves the mean where it was (what the reference RLHF code does for rewards).
        sync: Reduce over the default process group when `torch.distributed` is initialised. Every rank must then call
            this function equally often; an empty mask on one of them is fine.
        eps: Added to the variance.

    Returns:
        Same shape as `x`, without gradient. Fewer than two counted elements in all have no spread to scale by and
        come back as they are.

    Raises:
        RslitError: The mask's shape differs.
    """
    check_same_shape("whiten", x=x, mask=mask)
    reduce = sync and dist.is_available() and dist.is_initialized()
    counted = masked_values(x, mask)
    inside = torch.ones_like(x) if mask is None else mask.bool().to(x.dtype)

    totals = torch.stack([counted.sum(), inside.sum()])
    if reduce:
        dist.all_reduce(totals)
    mean = totals[0] / totals[1].clamp(min=1.0)
    # Two passes: the one-pass form E[x^2] - mean^2 cancels when the mean is large beside the spread.
    centred = (counted - mean) * inside
    squares = centred.square().sum()
    if reduce:
        dist.all_reduce(squares)
    whitened = centred * torch.rsqrt(squares / totals[1].clamp(min=1.0) + eps)
    if not shift_mean:
        whitened = whitened + mean * inside
    return torch.where(totals[1] < 2, counted, whitened)
