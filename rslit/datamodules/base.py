"""The base of every task's data: what to act on in training, what to evaluate on."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, cast

from lightning.pytorch import LightningDataModule

from rslit.errors import RslitError
from rslit.modules.rewarded import RewardedModule
from rslit.rollouts import Batches, RolloutLoader

__all__ = ["RewardedDataModule"]


class RewardedDataModule(LightningDataModule, ABC):
    """Wraps a task's batches into a :class:`RolloutLoader` around the module that is being trained."""

    @abstractmethod
    def batches(self) -> Batches:
        """What to act on: a sized iterable, one rollout an element; one Lightning epoch is one pass over it."""

    @abstractmethod
    def evaluation_batches(self) -> Batches:
        """What this rank evaluates on: each held-out item once over all ranks."""

    @property
    def seed(self) -> int:
        """The run's seed, as ``seed_everything`` set it."""
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))

    @property
    def rank(self) -> int:
        """This process's rank, 0 without a trainer."""
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def world_size(self) -> int:
        """Number of processes, 1 without a trainer."""
        return 1 if self.trainer is None else self.trainer.world_size

    @property
    def epoch(self) -> int:
        """The Lightning epoch, 0 without a trainer."""
        return 0 if self.trainer is None else self.trainer.current_epoch

    def train_dataloader(self) -> RolloutLoader:
        """The rollouts of one Lightning epoch, as minibatches.

        Raises:
            RslitError: The module being trained is no RewardedModule.
        """
        assert self.trainer is not None, "Lightning sets the trainer before it asks for a loader"
        module = cast(Any, self.trainer.lightning_module)
        if not isinstance(module, RewardedModule):
            raise RslitError(f"fit trains a RewardedModule; {type(module).__name__} is for validate and test")
        return RolloutLoader(
            self.batches(),
            module,
            epochs=module.epochs,
            minibatches=module.minibatches,
            seed=module.seed,
            rank=self.rank,
            precision=self.trainer.precision_plugin.forward_context,
        )

    def val_dataloader(self) -> Batches:
        """What is held out."""
        return self.evaluation_batches()

    def test_dataloader(self) -> Batches:
        """What is held out."""
        return self.evaluation_batches()

    def predict_dataloader(self) -> Batches:
        """What is held out."""
        return self.evaluation_batches()
