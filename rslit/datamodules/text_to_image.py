"""Prompts and captioned images: the data of text-to-image; its generated images are in `generated_images`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_info

from rslit.datamodules.base import RewardedDataModule
from rslit.datamodules.vision import Pick, VisionDataModule
from rslit.datamodules.walk import Batch, EvaluationBatches, TrainingBatches
from rslit.diffusion.prompts import ImagePrompt, PromptColumns, image_seed, read_prompts, some_of
from rslit.errors import RslitError
from rslit.vision.files.base import CaptionSource
from rslit.vision.rows import CaptionRow

__all__ = ["CaptionedImagesDataModule", "DrawingDataModule", "PromptDataModule", "prompt_batch"]

T = TypeVar("T")


def prompt_batch(prompts: Sequence[ImagePrompt]) -> Batch:
    """A batch of prompts to draw: ``items``, ``prompt``, ``seed``."""
    return {
        "items": [p.item for p in prompts],
        "prompt": [p.prompt for p in prompts],
        "seed": [p.seed for p in prompts],
    }


class DrawingDataModule(RewardedDataModule):
    """The base of data with held-out prompts to draw."""

    def __init__(
        self,
        eval_prompts: str | None,
        columns: PromptColumns | None,
        image_seed: int,
        batch_size: int,
        eval_items: int,
        eval_batch_size: int | None,
    ) -> None:
        """Takes files and sizes, see the classes."""
        super().__init__()
        sizes = {"batch_size": batch_size, "eval_items": eval_items, "eval_batch_size": eval_batch_size}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise RslitError(f"data.{name} must be at least 1, got {value}")
        self.eval_prompts = eval_prompts
        self.columns = columns
        self.image_seed = image_seed
        self.batch_size = batch_size
        self.eval_items = eval_items
        self.eval_batch_size = eval_batch_size or batch_size
        self._held_out: list[ImagePrompt] | None = None

    def batches(self) -> TrainingBatches[Any]:
        """See the base class; there is nothing to train on.

        Raises:
            RslitError: Always.
        """
        raise RslitError(
            f"data: {type(self).__name__} has prompts without images; fit needs a GeneratedImagesDataModule "
            "(reward-weighted) or a CaptionedImagesDataModule (supervised)"
        )

    def evaluation_batches(self) -> EvaluationBatches[ImagePrompt]:
        """This rank's held-out prompts.

        Raises:
            RslitError: None are given, or they cannot be read.
        """
        if self._held_out is None:
            if self.eval_prompts is None:
                raise RslitError(
                    "data.eval_prompts is not given; name a file of held-out prompts, or set "
                    "trainer.limit_val_batches: 0 to train without evaluations"
                )
            found = _read_held_out(self.eval_prompts, self.image_seed, self.columns)
            self._held_out = some_of(found, self.eval_items)
            _report(len(self._held_out), len(found), self.eval_items)
        mine = self._held_out[self.rank :: self.world_size]
        return EvaluationBatches(mine, self.eval_batch_size, prompt_batch)

    def dealt(self, rows: Sequence[T]) -> list[T]:
        """This rank's share of rows in ``predict``.

        With fewer rows than ranks some ranks share one: Lightning refuses a rank without any, and what the ranks do
        together would wait for it. An image that is drawn or scored twice is the same.
        """
        mine = list(rows[self.rank :: self.world_size])
        return mine or [rows[k] for k in ([self.rank % len(rows)] if rows else [])]


def _read_held_out(place: str, seed: int, columns: PromptColumns | None) -> list[ImagePrompt]:
    return read_prompts(place, seed, "data.eval_prompts", columns, held_out=True)


def _is_one(place: str, columns: PromptColumns) -> bool:
    """Whether a place gives the same prompts to train on and to evaluate on; of one file only slices differ."""
    path = Path(place).expanduser()
    single = path.suffix in (".txt", ".jsonl", ".json") or path.is_file()
    return columns.split == columns.eval_split or (single and "[" not in columns.eval_split)


def _report(count: int, found: int, wanted: int) -> None:
    fewer = f" (eval_items asks for {wanted:,})" if count < wanted else ""
    rank_zero_info(f"data: {count:,} of {found:,} held-out prompts to evaluate on{fewer}")


class PromptDataModule(DrawingDataModule):
    """Prompts to draw: in ``predict`` those of `prompts`, in ``validate`` and ``test`` the held-out ones.

    A batch is a dict of equally long lists: ``items`` (ids), ``prompt``, ``seed`` (of the image's noise).

    Attributes:
        left: What of the prompts is still to be drawn; None is all. The callback that writes images sets it.
    """

    def __init__(
        self,
        prompts: str | None = None,
        eval_prompts: str | None = None,
        columns: PromptColumns | None = None,
        image_seed: int = 0,
        limit: int | None = None,
        batch_size: int = 8,
        eval_items: int = 200,
        eval_batch_size: int | None = None,
    ) -> None:
        """Takes files and sizes; nothing is read yet.

        Args:
            prompts: File of prompts: ``.txt`` (one a line), ``.jsonl`` (with ``prompt``; if wanted ``item``, ``seed``)
                or ``.json`` (COCO's captions, the first of each image); or a table: hub name, folder, or file.
            eval_prompts: The same for the held-out ones.
            columns: Where in a table they are; default the column ``prompt`` of the splits ``train`` and ``test``.
            image_seed: Seed that the prompts' seeds follow from, together with their ids. Not the run's: an image is
                drawn from the same noise by every expert, soup and stage.
            limit: Prompts to draw in ``predict``, spread over the file; a higher limit adds to those of a lower one.
            batch_size: Prompts of a batch in ``predict``, on each device.
            eval_items: Prompts of an evaluation, over all devices, spread over the file, always the same.
            eval_batch_size: Held-out prompts drawn side by side for each λ; default `batch_size`.

        Raises:
            RslitError: A size is below 1, or both files are one.
        """
        super().__init__(eval_prompts, columns, image_seed, batch_size, eval_items, eval_batch_size)
        if limit is not None and limit < 1:
            raise RslitError(f"data.limit must be at least 1, got {limit}")
        if prompts is not None and prompts == eval_prompts and _is_one(prompts, columns or PromptColumns()):
            raise RslitError(
                "data.prompts and data.eval_prompts are the same prompts; evaluate on some that are held out (of a "
                "table give columns.split and columns.eval_split)"
            )
        self.prompts = prompts
        self.limit = limit
        self.left: Sequence[ImagePrompt] | None = None
        self._wanted: list[ImagePrompt] | None = None

    def wanted(self) -> list[ImagePrompt]:
        """All prompts whose images ``predict`` makes, over all ranks.

        Raises:
            RslitError: There are none.
        """
        if self._wanted is None:
            if self.prompts is None:
                raise RslitError("data.prompts is not given; name a file of prompts to draw")
            found = read_prompts(self.prompts, self.image_seed, columns=self.columns)
            self._wanted = some_of(found, self.limit)
        return self._wanted

    def predict_dataloader(self) -> EvaluationBatches[ImagePrompt]:
        """This rank's prompts to draw."""
        left = self.wanted() if self.left is None else self.left
        return EvaluationBatches(self.dealt(left), self.batch_size, prompt_batch)


class CaptionedImagesDataModule(VisionDataModule[CaptionRow]):
    """Images with captions to train on, and held-out prompts to draw.

    A batch is a dict of equally long lists. In training: ``items`` (ids), ``prompt`` (one of the image's captions,
    drawn anew in each pass over the data), ``image`` (where it is) and ``weight`` (1: supervised training). In
    evaluation: ``items``, ``prompt``, ``seed`` as of a `PromptDataModule`.
    """

    def __init__(
        self,
        source: CaptionSource,
        eval_prompts: str | None = None,
        columns: PromptColumns | None = None,
        image_seed: int = 0,
        **sizes: Any,
    ) -> None:
        """Takes a source and sizes.

        Args:
            source: Where images and captions come from.
            eval_prompts: File of held-out prompts, see `PromptDataModule`; default the first caption of each held-out
                image of the source.
            columns: Where in a table the prompts are, see `PromptDataModule`.
            image_seed: Seed that the prompts' seeds follow from, see `PromptDataModule`.
            sizes: See the base class.
        """
        super().__init__(source, **sizes)
        self.eval_prompts = eval_prompts
        self.columns = columns
        self.image_seed = image_seed
        self._held_out: list[ImagePrompt] | None = None

    def collate(self, rows: Sequence[CaptionRow], pick: Pick) -> Batch:
        """See the class."""
        return {
            "items": [row.item for row in rows],
            "prompt": [pick(row.item, row.captions) for row in rows],
            "image": [row.image for row in rows],
            "weight": [1.0] * len(rows),
        }

    # A batch of another kind of row than in training, which the base class does not foresee.
    def evaluation_batches(self) -> EvaluationBatches[Any]:
        """This rank's held-out prompts."""
        if self._held_out is None:
            found = self._read_held_out()
            self._held_out = some_of(found, self.eval_items)
            if self.eval_prompts is not None:
                _report(len(self._held_out), len(found), self.eval_items)
        mine = self._held_out[self.rank :: self.world_size]
        return EvaluationBatches(mine, self.eval_batch_size, prompt_batch)

    def _read_held_out(self) -> list[ImagePrompt]:
        if self.eval_prompts is not None:
            return _read_held_out(self.eval_prompts, self.image_seed, self.columns)
        rows = self.rows("eval")
        return [ImagePrompt(row.item, row.captions[0], image_seed(self.image_seed, row.item)) for row in rows]
