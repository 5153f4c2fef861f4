"""A simulator small enough to solve by hand: a point on a line, pushed by its action."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rslit.envs import ENERGY, Environment, Step

GAIN = 0.3


class PointEpisodes:
    def __init__(self, owner: PointEnvironment, seeds: Tensor, auto_reset: bool, elapsed: Tensor | None = None) -> None:
        self.owner = owner
        self.resumable = owner.resumable
        self.auto_reset = auto_reset
        first = [torch.rand(2, generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        self.first = (torch.stack(first) - 0.5).to(seeds.device)
        self.observations = self.first.clone()
        self.steps = torch.zeros(len(seeds), dtype=torch.int64) if elapsed is None else elapsed.clone()

    def step(self, actions: Tensor) -> Step:
        position, velocity = self.observations.unbind(-1)
        velocity = 0.9 * velocity + GAIN * actions.sum(-1)
        final = torch.stack([position + 0.1 * velocity, velocity], -1)
        self.steps = self.steps + 1
        truncated = self.steps >= self.owner.episode_length
        terminated = final[:, 0].abs() > self.owner.wall
        truncated &= ~terminated
        over = (truncated | terminated) & self.auto_reset
        self.observations = torch.where(over[:, None], self.first, final)
        self.steps = torch.where(over, 0, self.steps)
        poison = torch.full_like(velocity, float("nan")) if self.owner.poison else velocity
        terms = {"x_velocity": poison, ENERGY: (actions**2).sum(-1)}
        return Step(self.observations, final, terminated, truncated, terms)

    def state_dict(self) -> dict[str, Any]:
        return {"observations": self.observations.clone(), "steps": self.steps.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.observations, self.steps = state["observations"], state["steps"]


class PointEnvironment(Environment):
    """Observation: position and velocity; velocity' = 0.9 velocity + 0.3 Σ action; terminates beyond `wall`."""

    def __init__(
        self,
        episode_length: int = 20,
        wall: float = 1e9,
        resumable: bool = True,
        poison: bool = False,
        poison_rank: int | None = None,
    ) -> None:
        self.episode_length = episode_length
        self.wall = wall
        self.resumable = resumable
        self.poison = poison or (poison_rank is not None and os.environ.get("LOCAL_RANK", "0") == str(poison_rank))

    @property
    def observation_size(self) -> int:
        return 2

    @property
    def action_size(self) -> int:
        return 2

    @property
    def terms(self) -> tuple[str, ...]:
        return ("x_velocity", ENERGY)

    def episodes(self, seeds: Tensor, *, auto_reset: bool = True, elapsed: Tensor | None = None) -> PointEpisodes:
        return PointEpisodes(self, seeds, auto_reset, elapsed)
