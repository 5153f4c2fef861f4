"""How noisy a denoiser's input is at each time of its training, read off a scheduler of diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.reward_weighted import Prediction

__all__ = ["NoiseLevels", "noise_levels"]


@dataclass(frozen=True)
class NoiseLevels:
    """The times of training.

    Attributes:
        prediction: What the denoiser gives.
        times: What the denoiser is told, (T,): the step's number, int64, or for a flow 1000 σ, float32.
        levels: ᾱ_t of a diffusion, σ_t of a flow, float32 (T,).
    """

    prediction: Prediction
    times: Tensor
    levels: Tensor

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Times and levels of `count` rows, uniformly drawn (equation 19)."""
        index = torch.randint(len(self.times), (count,), generator=generator, device=generator.device).to("cpu")
        return self.times[index], self.levels[index]


def noise_levels(scheduler: Any, base: str) -> NoiseLevels:
    """What a pipeline's scheduler was trained with.

    Args:
        scheduler: As the pipeline was loaded; what it has been set to since does not count.
        base: The pipeline's name, for messages.

    Raises:
        RslitError: It predicts something else.
    """
    fresh = type(scheduler).from_config(scheduler.config)
    kind = scheduler.config.get("prediction_type")
    if type(scheduler).__name__.startswith("FlowMatch"):
        # Set for sampling it would have other σ; fresh ones are those of training, shifted as the model's are.
        times = fresh.timesteps.to(torch.float32).cpu()
        return NoiseLevels("flow", times, times / scheduler.config.num_train_timesteps)
    if kind in ("epsilon", "v_prediction") and hasattr(fresh, "alphas_cumprod"):
        levels = fresh.alphas_cumprod.to(torch.float32).cpu()
        return NoiseLevels(kind, torch.arange(len(levels)), levels)
    raise RslitError(
        f"policy.base: the scheduler of {base}, {type(scheduler).__name__}, predicts '{kind}'; supported are epsilon, "
        "v_prediction and flow matching"
    )
