"""Seeds of episodes: the data of a simulator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rslit.datamodules.base import RewardedDataModule
from rslit.errors import RslitError
from rslit.seeds import generator

__all__ = ["LocomotionDataModule"]

_SEEDS = 2**31 - 1


class _SeedBatches:
    """`rollouts_per_epoch` batches of `num_envs` seeds, others in every epoch."""

    def __init__(self, owner: LocomotionDataModule) -> None:
        self.owner = owner

    def __len__(self) -> int:
        return self.owner.rollouts_per_epoch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        owner = self.owner
        for k in range(len(self)):
            # Named by their place in the run, the seeds need no cursor in the checkpoint: Lightning keeps the epoch.
            stream = generator(owner.seed, "episodes", owner.rank, owner.epoch, k)
            yield {"seeds": torch.randint(_SEEDS, (owner.num_envs,), generator=stream)}


class _EvaluationBatches:
    """This rank's episodes, batch by batch.

    No DataLoader: Lightning would give it a sampler that repeats episodes to even out the ranks, and counts them twice.
    """

    def __init__(self, seeds: Tensor, batch_size: int) -> None:
        self.parts = torch.split(seeds, batch_size) if len(seeds) else ()

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter([{"seeds": part} for part in self.parts])


class LocomotionDataModule(RewardedDataModule):
    """How many environments act, and on which episodes the policy is evaluated.

    A training batch holds ``seeds`` (num_envs,) of environments to start; an evaluation batch the seeds of its
    episodes, which are the items of the score table: always the same ones, so that scores can be paired.
    """

    def __init__(
        self,
        num_envs: int = 4096,
        rollouts_per_epoch: int = 16,
        eval_episodes: int = 128,
        eval_batch_size: int | None = None,
        eval_seed: int = 1_000_000,
    ) -> None:
        """Takes sizes.

        Args:
            num_envs: B, environments that act side by side, on each device.
            rollouts_per_epoch: Rollouts in one Lightning epoch.
            eval_episodes: Episodes of an evaluation, over all devices.
            eval_batch_size: Episodes run side by side for each λ; default all.
            eval_seed: Seed of the first episode; the others count up from it.
        """
        super().__init__()
        sizes = {"num_envs": num_envs, "rollouts_per_epoch": rollouts_per_epoch, "eval_episodes": eval_episodes}
        for name, value in {**sizes, "eval_batch_size": eval_batch_size}.items():
            if value is not None and value < 1:
                raise RslitError(f"data.{name} must be at least 1, got {value}")
        self.num_envs = num_envs
        self.rollouts_per_epoch = rollouts_per_epoch
        self.eval_episodes = eval_episodes
        self.eval_batch_size = eval_batch_size or eval_episodes
        self.eval_seed = eval_seed

    def batches(self) -> _SeedBatches:
        """Seeds to start environments with."""
        return _SeedBatches(self)

    def evaluation_batches(self) -> _EvaluationBatches:
        """See the base class."""
        seeds = torch.arange(self.eval_seed, self.eval_seed + self.eval_episodes)
        return _EvaluationBatches(seeds[self.rank :: self.world_size], self.eval_batch_size)
