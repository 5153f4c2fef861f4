"""What a simulator must offer: batched episodes whose steps come with named reward terms.

Notation: B environments stepped together, O observation values, A action values.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["ENERGY", "Environment", "Episodes", "PosedEpisodes", "Step", "quiet_mujoco"]

ENERGY = "energy"
"""Term that every environment offers: Σ a² over the action's values, the paper's control cost (Section 3.6)."""


def quiet_mujoco() -> None:
    """Silences one warning that MuJoCo 4 prints on stderr for the XML files that Brax and Gymnasium ship.

    It says that the attribute ``settotalmass`` will go in a later release, which is its authors' business, not the
    user's. Any other warning is passed on.
    """
    try:
        import mujoco
    except ImportError:
        return
    mujoco.set_mju_user_warning(lambda text: None if "settotalmass" in text else print(text, file=sys.stderr))


@dataclass(frozen=True)
class Step:
    """One step of B environments.

    Attributes:
        observations: float32 (B, O), what the policy sees next: after the reset where an episode ended.
        final_observations: float32 (B, O), the true next observation, before any reset. Equal to ``observations``
            where the episode goes on.
        terminated: bool (B,), the episode ended for good: no value beyond.
        truncated: bool (B,), the episode was cut at its time limit: the value goes on.
        terms: named reward terms of this step, float32 (B,) each.
    """

    observations: Tensor
    final_observations: Tensor
    terminated: Tensor
    truncated: Tensor
    terms: Mapping[str, Tensor]


class Episodes(Protocol):
    """B environments that are under way."""

    observations: Tensor
    """float32 (B, O): what the policy sees now."""
    resumable: bool
    """Whether ``state_dict`` holds everything. If not, training starts its episodes anew in every epoch."""

    def step(self, actions: Tensor) -> Step:
        """Steps all environments.

        Args:
            actions: float32 (B, A) in [-1, 1].
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: tensors and primitives only (loads with ``weights_only=True``)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what ``state_dict`` gave."""
        ...


@runtime_checkable
class PosedEpisodes(Episodes, Protocol):
    """Episodes of bodies that can be drawn; not every simulator has any."""

    model: Any
    """The ``mujoco.MjModel`` whose geoms are drawn. Its body k + 1 is row k of a pose; body 0 is the world."""
    seconds: float
    """Simulated time of one step."""

    def pose(self) -> Tensor:
        """Where the bodies of the first environment are.

        Returns:
            float32 (L, 7) on the CPU: position in metres, then a unit quaternion (w, x, y, z), in the world.
        """
        ...


class Environment(ABC):
    """A simulator by name. Cheap to build; heavy work starts with the first ``episodes``.

    Attributes:
        episode_length: Steps after which an episode is truncated.
    """

    episode_length: int

    @property
    @abstractmethod
    def observation_size(self) -> int:
        """O, values of one observation."""

    @property
    @abstractmethod
    def action_size(self) -> int:
        """A, values of one action."""

    @property
    @abstractmethod
    def terms(self) -> tuple[str, ...]:
        """Names of the reward terms that each step carries."""

    @abstractmethod
    def episodes(self, seeds: Tensor, *, auto_reset: bool = True, elapsed: Tensor | None = None) -> Episodes:
        """Starts B environments.

        Args:
            seeds: int64 (B,). The same seed gives the same first state, whatever B is.
            auto_reset: Start a new episode where one ends (training). Off, an ended episode's further steps are
                undefined and the caller ignores them (evaluation).
            elapsed: int64 (B,) below ``episode_length``: steps that count as taken when the first episodes are cut at
                the time limit; 0 if left out.
        """
