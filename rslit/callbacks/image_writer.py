"""Writes the images that ``predict`` draws into a folder, and leaves out those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rslit.datamodules.text_to_image import PromptDataModule
from rslit.diffusion.image_folder import REWARDS, check_image, image_path, write_image, write_index
from rslit.diffusion.prompts import ImagePrompt
from rslit.distributed import gather_states
from rslit.errors import RslitError

__all__ = ["ImageWriter"]


class ImageWriter(Callback):
    """Keeps what ``predict`` draws of a `PromptDataModule` as a folder of images (see `rslit.diffusion.image_folder`).

    A run that was stopped goes on where it stopped: images that are there are checked, not drawn again, and the ranks
    share what is left. The module says with ``image_record()`` what draws (model, λ, steps, ...); this, the prompt and
    the seed are in every file, and a file that says something else stops the run.
    """

    def __init__(self, folder: str) -> None:
        """Takes the place.

        Args:
            folder: Where to write; it may hold the images of a run with the same prompts and model.
        """
        self.folder = Path(folder).expanduser()
        self._record: Mapping[str, str] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Looks at what is there and leaves the rest to the datamodule.

        Raises:
            RslitError: Data or module draw no images; or the folder holds an image that is broken or of something else,
                or rewards that would no longer be of all images.
        """
        if stage != "predict":
            return
        data = _data(trainer)
        record = getattr(pl_module, "image_record", None)
        if record is None:
            raise RslitError(
                f"ImageWriter keeps what a TextToImageModule draws, not a {type(pl_module).__name__}; take it out of "
                "trainer.callbacks"
            )
        self._record = {key: str(value) for key, value in record().items()}
        wanted = data.wanted()
        data.left = self._missing(wanted, data.rank, data.world_size)
        done = len(wanted) - len(data.left)
        rank_zero_info(f"images: {len(data.left):,} to draw into {self.folder}, {done:,} are there")
        # Lightning would keep every image in memory, to return them all.
        trainer.predict_loop.return_predictions = False
        if not data.left:
            trainer.limit_predict_batches = 0  # it warns of loaders without batches
            self._finish(trainer, wanted)
        elif (self.folder / REWARDS).exists():
            raise RslitError(
                f"{self.folder / REWARDS} has rewards, but {len(data.left):,} of {len(wanted):,} images are not drawn; "
                "delete it, draw the images, and score them again"
            )

    def _missing(self, wanted: Sequence[ImagePrompt], rank: int, world: int) -> list[ImagePrompt]:
        """The prompts without an image; each rank checks its share of the images that are there."""
        missing, fault = [], None
        for k in range(rank, len(wanted), world):
            path = image_path(self.folder, wanted[k].item)
            if not path.exists():
                missing.append(k)
                continue
            try:
                check_image(path, self._text(wanted[k]))
            except RslitError as error:  # all ranks are to stop: the others would wait
                fault = str(error)
                break
        shares = gather_states((missing, fault))
        faults = [found for _, found in shares if found is not None]
        if faults:
            raise RslitError(faults[0])
        return [wanted[k] for k in sorted(k for share, _ in shares for k in share)]

    def _text(self, prompt: ImagePrompt) -> dict[str, str]:
        own = {"item": prompt.item, "prompt": prompt.prompt, "seed": str(prompt.seed)}
        return {**self._record, **own}

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Writes a batch's images, one by one."""
        for item, image, prompt, seed in zip(
            outputs.items, outputs["image"], outputs["prompt"], outputs["seed"], strict=True
        ):
            write_image(self.folder, item, image, self._text(ImagePrompt(item, prompt, seed)))

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lists the images, once every rank has written its own."""
        trainer.strategy.barrier("images")
        self._finish(trainer, _data(trainer).wanted())

    def _finish(self, trainer: Trainer, wanted: Sequence[ImagePrompt]) -> None:
        if not trainer.is_global_zero:
            return
        there = sum(image_path(self.folder, prompt.item).exists() for prompt in wanted)
        if there < len(wanted):  # trainer.limit_predict_batches
            rank_zero_info(f"images: {there:,} of {len(wanted):,} are in {self.folder}; run again for the others")
            return
        write_index(self.folder, wanted)
        rank_zero_info(f"images: all {there:,} are in {self.folder}")


def _data(trainer: Trainer) -> PromptDataModule:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, PromptDataModule):
        raise RslitError(
            f"ImageWriter keeps what is drawn of a PromptDataModule, not of {type(data).__name__}; set data to one, or "
            "take it out of trainer.callbacks"
        )
    return data
