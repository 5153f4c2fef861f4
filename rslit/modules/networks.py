"""The networks of the locomotion task (paper, Table 6): MLPs over normalised observations.

Notation: (..., O) observations, (..., A) actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rslit.distributed import sum_over_ranks
from rslit.errors import RslitError

__all__ = ["GaussianPolicy", "ObservationNormaliser", "ValueNetwork", "mlp"]

MIN_SCALE = 1e-3
CLIP = 10.0
DEFAULT_SCALE = math.log(2) + MIN_SCALE
"""Brax's, and so the paper's: softplus(0), with Brax's least scale on top."""


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with SiLU between them, LeCun-uniform weights and zero biases, as Brax's networks have.

    Args:
        sizes: Width of the input, the hidden layers and the output.
    """
    layers: list[nn.Module] = []
    for k, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(fan_in, fan_out)
        bound = math.sqrt(3 / fan_in)
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.zeros_(linear.bias)
        layers += [linear] if k == len(sizes) - 2 else [linear, nn.SiLU()]
    return nn.Sequential(*layers)


class ObservationNormaliser(nn.Module):
    """Shifts and scales observations by statistics gathered in pre-training and frozen afterwards (Appendix H).

    The statistics are buffers: they travel with the policy's ingredient, but are never interpolated.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    def __init__(self, size: int) -> None:
        """Starts with no statistics, which leaves observations as they are.

        Args:
            size: O, values of one observation.
        """
        super().__init__()
        # float64: a float32 count stops growing at 2^24 steps, well before the paper's 5e8.
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(size, dtype=torch.float64))

    @torch.no_grad()
    def update(self, observations: Tensor) -> None:
        """Adds a batch of all ranks to the statistics (Chan et al. 1979, parallel variance).

        Args:
            observations: float32 (n, O), n > 0, the same n on every rank.
        """
        x = observations.double()
        count = sum_over_ranks(torch.tensor(float(len(x)), dtype=torch.float64, device=x.device))
        mean = sum_over_ranks(x.sum(0)) / count
        m2 = sum_over_ranks(((x - mean) ** 2).sum(0))
        total = self.count + count
        delta = mean - self.mean
        self.m2 += m2 + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count += count

    def forward(self, observations: Tensor) -> Tensor:
        """Normalises float32 (..., O), clipped to ±10 standard deviations against a simulator's rare outliers."""
        std = (self.m2 / self.count.clamp(min=1)).sqrt().clamp(min=1e-4)
        std = torch.where(self.count > 1, std, torch.ones_like(std))
        return ((observations - self.mean.float()) / std.float()).clamp(-CLIP, CLIP)


class GaussianPolicy(nn.Module):
    """A tanh-squashed diagonal Gaussian: observation → location and scale before the squashing."""

    def __init__(
        self, observation_size: int, action_size: int, hidden: Sequence[int], initial_scale: float = DEFAULT_SCALE
    ) -> None:
        """Builds the network.

        Args:
            observation_size: O.
            action_size: A.
            hidden: Widths of the hidden layers.
            initial_scale: Scale before the squashing where the network's output is 0, above 0.001.
        """
        super().__init__()
        if initial_scale <= MIN_SCALE:
            raise RslitError(f"initial_scale must be above {MIN_SCALE}, got {initial_scale}")
        # The inverse of softplus: an untrained output is near 0.
        self.shift = math.log(math.expm1(initial_scale - MIN_SCALE))
        self.normaliser = ObservationNormaliser(observation_size)
        self.net = mlp([observation_size, *hidden, 2 * action_size])

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Location (..., A) and scale (..., A) > 0 for observations (..., O), all float32."""
        return self.distribution(self.net(self.normaliser(observations)))

    def distribution(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale (..., A) from the network's output (..., 2 A)."""
        location, raw = output.chunk(2, dim=-1)
        return location, functional.softplus(raw + self.shift) + MIN_SCALE


class ValueNetwork(nn.Module):
    """The value of an observation; discarded after training, never souped."""

    def __init__(self, observation_size: int, hidden: Sequence[int]) -> None:
        """Builds the network.

        Args:
            observation_size: O.
            hidden: Widths of the hidden layers.
        """
        super().__init__()
        self.net = mlp([observation_size, *hidden, 1])

    def forward(self, normalised: Tensor) -> Tensor:
        """Value float32 (...,) of observations (..., O) that are normalised already."""
        value: Tensor = self.net(normalised).squeeze(-1)
        return value
