"""Scores a folder of generated images with every reward: the stage between drawing and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from rslit.diffusion.image_folder import read_index, write_rewards
from rslit.distributed import gather_states
from rslit.errors import RslitError
from rslit.rewards import Reward, reward_name, score
from rslit.samples import Samples
from rslit.vision.images import load_images

__all__ = ["ImageScorer"]


class ImageScorer(LightningModule):
    """Under ``predict`` on a `GeneratedImagesDataModule`, writes the rewards of its images to ``rewards.parquet``.

    A reward's column is added, or replaced if it is there; the others stay. Nothing is trained. Rewards see ``image``
    (uint8 (B, 3, H, W)), ``prompt`` and ``seed``.
    """

    def __init__(self, rewards: list[Reward]) -> None:
        """Takes what to score with.

        Args:
            rewards: Rewards of an image, with names that differ.

        Raises:
            RslitError: There are none, or two of one name.
        """
        super().__init__()
        names = [reward_name(reward) for reward in rewards]
        if not names:
            raise RslitError("rewards: the list is empty; name at least one")
        if "item" in names or len(set(names)) != len(names):
            raise RslitError(f"rewards: names must differ, and none be 'item', got {', '.join(names)}")
        self.rewards = list(rewards)
        self._scores: dict[str, dict[str, float]] = {}

    def setup(self, stage: str) -> None:
        """Refuses verbs and data that it is not for."""
        if stage != "predict":
            raise RslitError(f"model: ImageScorer is for predict, not for {stage}")
        self._scores = {reward.name: {} for reward in self.rewards}
        self._folder()

    def _folder(self) -> Path:
        data = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "images") or not isinstance(folder := getattr(data, "folder", None), Path):
            raise RslitError(
                f"data: ImageScorer scores the images of a GeneratedImagesDataModule, not of {type(data).__name__}; "
                "set data to one"
            )
        return folder

    @torch.no_grad()
    def predict_step(self, batch: Mapping[str, Sequence[Any]], batch_idx: int) -> dict[str, Tensor]:
        """Scores a batch.

        Returns:
            float32 (B,) by the reward's name, on the CPU.
        """
        fields: dict[str, Any] = {"image": _pixels(batch), "prompt": list(batch["prompt"]), "seed": list(batch["seed"])}
        samples = Samples(list(batch["items"]), fields)
        found = {reward.name: score(reward, samples, batch_idx).cpu() for reward in self.rewards}
        for name, values in found.items():
            self._scores[name].update(zip(batch["items"], values.tolist(), strict=True))
        return found

    def on_predict_epoch_end(self) -> None:
        """Writes the table, from the first rank."""
        shares = gather_states(self._scores)
        if not self.trainer.is_global_zero:
            return
        columns = {name: {k: v for share in shares for k, v in share[name].items()} for name in self._scores}
        folder = self._folder()
        items = [image.item for image in read_index(folder)]
        write_rewards(folder, items, columns)
        for name, values in columns.items():
            known = np.asarray([value for value in values.values() if value == value])
            spread = f"mean {known.mean():.4g}, from {known.min():.4g} to {known.max():.4g}" if known.size else "none"
            rank_zero_info(f"rewards: {name} of {known.size:,} of {len(items):,} images in {folder}: {spread}")


def _pixels(batch: Mapping[str, Sequence[Any]]) -> Tensor:
    """The images of a batch as they are, uint8 (B, 3, H, W)."""
    images = load_images(batch)
    sizes = {image.size: item for item, image in zip(batch["items"], images, strict=True)}
    if len(sizes) > 1:
        said = ", ".join(f"item {item} has {width} x {height}" for (width, height), item in sizes.items())
        raise RslitError(f"data.folder: images differ in size ({said:.200}); draw all of them with one size")
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() for image in images])
