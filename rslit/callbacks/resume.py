"""Checkpoints to resume from, which a kill at any moment leaves whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rslit.errors import RslitError
from rslit.modules.rewarded import RewardedModule

__all__ = ["AtomicCheckpointIO", "ResumeCheckpoint"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it.

    Lightning's own writes to the system's temporary folder and moves the file, which copies it where that folder is
    another file system: a kill during the copy leaves half a checkpoint under the old name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves `checkpoint` to `path`.

        Raises:
            RslitError: The disk is full or read-only; the checkpoint that was there before is untouched.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its zip writer
            temporary.unlink(missing_ok=True)
            text = f"{target}: the checkpoint could not be written ({error}); make room or permit it"
            raise RslitError(text) from error


class ResumeCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint, ``last.ckpt``, of the last finished epoch; ``ckpt_path: last`` finds it.

    It is saved after the epoch's ingredient. A used folder holds no stale twin: the file is always replaced.
    """

    def __init__(
        self, dirpath: str | None = None, every_n_epochs: int = 1, every_n_rollouts: int | None = None
    ) -> None:
        """Takes where and how often.

        Args:
            dirpath: Folder; default ``<default_root_dir>/checkpoints``.
            every_n_epochs: Interval in epochs. A resumed run repeats what came after the last one.
            every_n_rollouts: Also save within an epoch, after so many rollouts: for epochs that take hours.

        Raises:
            RslitError: An interval is below 1.
        """
        if every_n_epochs < 1 or (every_n_rollouts is not None and every_n_rollouts < 1):
            raise RslitError("ResumeCheckpoint: every_n_epochs and every_n_rollouts must be at least 1")
        super().__init__(
            dirpath=dirpath,
            filename="last",
            auto_insert_metric_name=False,
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every_n_rollouts = every_n_rollouts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Turns rollouts into optimiser steps, which Lightning counts."""
        if self.every_n_rollouts is not None and isinstance(pl_module, RewardedModule):
            self._every_n_train_steps = self.every_n_rollouts * pl_module.epochs * pl_module.minibatches
        super().setup(trainer, pl_module, stage)
