"""The tanh-squashed diagonal Gaussian: the policy of continuous control.

Notation: loc, scale, raw and action are (..., A), A action dimensions; densities are in nats, summed over A.

    raw ~ Normal(loc, scale)    action = tanh(raw), in (-1, 1)
    log pi(action) = sum_A [ log Normal(raw; loc, scale) - log(1 - tanh(raw)^2) ]

Experience keeps `raw`, not `action`: tanh saturates at float32 ±1 beyond |raw| = 9, and its inverse there is infinite.

Sources: Haarnoja et al. 2018, "Soft Actor-Critic", appendix C eq. 21; the stable form of the log-determinant,
log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x)), as in TensorFlow Probability's `Tanh` bijector; agrees with Brax
0.14.2 `training/distribution.py: NormalTanhDistribution`, the policy of the paper's locomotion task.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["entropy", "log_prob", "mode", "sample"]

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def sample(loc: Tensor, scale: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draws an action. Differentiable in loc and scale (reparametrised).

    Args:
        loc: (..., A) float32.
        scale: (..., A) float32, > 0.
        generator: On the device of `loc`; None uses the global one.

    Returns:
        `(raw, action)`, both (..., A): the Gaussian sample and its tanh.
    """
    noise = torch.randn(loc.shape, generator=generator, dtype=loc.dtype, device=loc.device)
    raw = loc + scale * noise
    return raw, torch.tanh(raw)


def log_prob(raw: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of the action tanh(raw), per unit of action.

    Args:
        raw: (..., A) float32, the sample before the tanh.
        loc: (..., A) float32.
        scale: (..., A) float32, > 0.

    Returns:
        (...,) float32, nats, finite for every finite `raw`.
    """
    normal = -0.5 * ((raw - loc) / scale).square() - HALF_LOG_2PI - scale.log()
    return (normal - _log_det(raw)).sum(dim=-1)


def entropy(raw_sample: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """One-sample estimate of the entropy, as Brax computes it: H(Normal) exactly + log-determinant at one sample.

    Unbiased when `raw_sample` is drawn from Normal(loc, scale). For an entropy bonus draw a fresh sample with `sample`,
    so that the gradient also flows through the sample; the experience's old `raw` comes from an older policy.

    Args:
        raw_sample: (..., A) float32.
        loc: (..., A) float32; does not enter the value, only its shape.
        scale: (..., A) float32, > 0.

    Returns:
        (...,) float32, nats; may be negative.
    """
    normal = 0.5 + HALF_LOG_2PI + scale.log().expand_as(loc)
    return (normal + _log_det(raw_sample)).sum(dim=-1)


def mode(loc: Tensor) -> Tensor:
    """The deterministic action tanh(loc), (..., A): the squashed mode of the Gaussian, used at evaluation."""
    return torch.tanh(loc)


def _log_det(raw: Tensor) -> Tensor:
    return 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))
