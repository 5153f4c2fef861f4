"""Reward-weighted denoising: the paper's fine-tuning of diffusion models on scored images (section 3.3, appendix E.1).

Notation: M scored images, n of them kept, B a batch. x_0 is a clean latent (or image), ε the noise, x_t the noisy
latent, ᾱ_t the share of x_0 in its variance (Ho et al. 2020), σ_t the share of noise in a flow (Liu et al. 2022).

Sources: Ramé et al. 2023, equation 19; Lee et al. 2023, "Aligning Text-to-Image Models using Human Feedback"; for the
prediction types Ho et al. 2020 (ε), Salimans and Ho 2022 (v), Esser et al. 2024 (flow).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.masked import check_same_shape

__all__ = [
    "Prediction",
    "combine",
    "denoising_errors",
    "denoising_target",
    "keep_and_rescale",
    "noised",
    "reward_weighted_loss",
]

Prediction = Literal["epsilon", "v_prediction", "flow"]
"""What a denoiser gives: the noise, the velocity of a diffusion, or the velocity of a flow."""


# -- rewards of images to weights -----------------------------------------------------------------------------------


@torch.no_grad()
def keep_and_rescale(rewards: Tensor, keep: float = 0.5) -> tuple[Tensor, Tensor]:
    """The best images and their weights r: of the kept ones the smallest is 0 and the mean 1 (appendix E.1).

    Of equal rewards at the border those that come first are kept, so that the number is always the same.

    Args:
        rewards: (M,), finite.
        keep: Share of the images to keep, in (0, 1]; rounded up to whole images.

    Returns:
        Indices (n,) int64 of the kept images in their own order, and their weights (n,) float64.

    Raises:
        RslitError: `keep` is no share, a reward is not finite, or all kept rewards are equal: nothing to rescale.
    """
    values = _column("rewards", rewards)
    chosen = _best(values, keep)
    low, scale = _scale(values[chosen])
    return chosen, (values[chosen] - low) / scale


@torch.no_grad()
def combine(columns: Mapping[str, Tensor], mu: Mapping[str, float], keep: float = 0.5) -> Tensor:
    """The weighted sum of rescaled rewards that MORL trains on.

    Each reward is rescaled as :func:`keep_and_rescale` would for its own expert, which puts all on one scale; images
    outside of its best ones get what the same line gives below 0. With all weight on one reward the sum has the order
    and, once rescaled, the weights of that reward's expert.

    Args:
        columns: (M,) of each reward, by its name.
        mu: Weight of each reward that counts.
        keep: The share that an expert keeps.

    Returns:
        (M,) float64, to be given to :func:`keep_and_rescale`.

    Raises:
        RslitError: As :func:`keep_and_rescale`, naming the reward.
    """
    total = torch.zeros(len(next(iter(columns.values()))), dtype=torch.float64)
    for name, weight in mu.items():
        if weight == 0:
            continue
        values = _column(name, columns[name])
        low, scale = _scale(values[_best(values, keep)], name)
        total += weight * (values - low) / scale
    return total


def _column(name: str, rewards: Tensor) -> Tensor:
    values = rewards.detach().to("cpu", torch.float64)
    if values.ndim != 1 or not len(values):
        raise RslitError(f"{name}: give one reward for each of at least one image, got shape {tuple(rewards.shape)}")
    if not bool(values.isfinite().all()):
        raise RslitError(f"{name}: {int((~values.isfinite()).sum())} of {len(values)} images have no finite reward")
    return values


def _best(values: Tensor, keep: float) -> Tensor:
    """Indices of the best share of the images, in their own order."""
    if not 0 < keep <= 1:
        raise RslitError(f"keep must be a share of the images in (0, 1], got {keep:g}")
    order = torch.argsort(values, descending=True, stable=True)
    return order[: math.ceil(keep * len(values))].sort().values


def _scale(kept: Tensor, name: str = "rewards") -> tuple[Tensor, Tensor]:
    """The smallest, and how far the mean is above it."""
    low = kept.min()
    scale = kept.mean() - low
    # Of equal numbers the mean may differ from each by a rounding.
    if float(kept.max() - low) <= 1e-12 * max(1.0, float(kept.abs().max())):
        raise RslitError(
            f"{name}: all {len(kept)} images that are kept have the reward {float(low):g}, so there is nothing to "
            "rescale; give more images, or a reward that tells them apart"
        )
    return low, scale


# -- the loss -------------------------------------------------------------------------------------------------------


def noised(prediction: Prediction, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """x_t: √ᾱ_t x_0 + √(1 − ᾱ_t) ε for a diffusion, (1 − σ_t) x_0 + σ_t ε for a flow.

    Args:
        prediction: What the denoiser gives.
        clean: x_0 (B, ...).
        noise: ε (B, ...).
        level: (B,): ᾱ_t in [0, 1] of a diffusion, σ_t in [0, 1] of a flow.
    """
    a, b = _mix(prediction, clean, noise, level)
    return a * clean + b * noise


def denoising_target(prediction: Prediction, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """What the denoiser should give: ε; v = √ᾱ_t ε − √(1 − ᾱ_t) x_0; or the flow's velocity ε − x_0. See `noised`."""
    if prediction == "epsilon":
        return noise
    if prediction == "flow":
        return noise - clean
    a, b = _mix(prediction, clean, noise, level)
    return a * noise - b * clean


def _mix(prediction: Prediction, clean: Tensor, noise: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    check_same_shape("noised", clean=clean, noise=noise)
    if level.shape != clean.shape[:1]:
        raise RslitError(f"noised: level must be ({len(clean)},), got shape {tuple(level.shape)}")
    level = level.to(clean.dtype).view(-1, *[1] * (clean.ndim - 1))
    return (1 - level, level) if prediction == "flow" else (level.sqrt(), (1 - level).sqrt())


def denoising_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each row, float32 (B,): ‖·‖² of equation 19 divided by the number of elements."""
    check_same_shape("denoising_errors", prediction=prediction, target=target)
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def reward_weighted_loss(errors: Tensor, weights: Tensor) -> Tensor:
    """Equation 19: the mean over a batch of r(x_0) times the denoising error.

    Args:
        errors: (B,), see :func:`denoising_errors`.
        weights: r (B,); all 1 for supervised training.
    """
    check_same_shape("reward_weighted_loss", errors=errors, weights=weights)
    return (weights.to(errors.dtype) * errors).mean()
