"""The base of the vision-language data: rows of a source, dealt out to rollouts and evaluations."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Generic

from lightning.pytorch.utilities import rank_zero_info

from rslit.datamodules.base import RewardedDataModule
from rslit.datamodules.walk import Batch, EvaluationBatches, TrainingBatches
from rslit.errors import RslitError
from rslit.seeds import stream_seed
from rslit.vision.files.base import Part, RowT, Source

__all__ = ["Pick", "VisionDataModule"]

Pick = Callable[[str, Sequence[str]], str]
"""Chooses one of an item's texts as what a supervised model is to say."""


def _commonest(item: str, texts: Sequence[str]) -> str:
    """The text that most people gave, of several the first."""
    return Counter(texts).most_common(1)[0][0]


class VisionDataModule(RewardedDataModule, Generic[RowT]):
    """Images with texts to train on and held-out ones to evaluate on.

    A batch, in training and evaluation, is a dict of equally long lists: ``items`` (ids), ``image`` (where each image
    is; ``rslit.vision.images.load_images(batch)`` loads them), ``target`` (what a supervised model is to answer) and
    what the task adds. Images are not loaded here: features that a policy has cached need none.
    """

    def __init__(
        self,
        source: Source[RowT],
        batch_size: int = 32,
        rollouts_per_epoch: int | None = None,
        eval_items: int = 200,
        eval_batch_size: int | None = None,
        train_part: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Takes a source and sizes.

        Args:
            source: Where rows come from.
            batch_size: Rows of a rollout (images, questions, expressions), on each device.
            rollouts_per_epoch: Rollouts in one Lightning epoch; default one pass over the data. Shorter epochs go on
                where the one before stopped.
            eval_items: Rows of an evaluation, over all devices: one of each of so many equal stretches of the held-out
                part, always the same. Neighbours are about the same image, and in some data every image has the same
                kinds of questions in the same order, of which equal steps would meet a few only.
            eval_batch_size: Held-out rows answered side by side for each λ; default `batch_size`.
            train_part: Which of the training images to use, in the order of the data, as the fractions where the part
                begins and ends: supervised training on [0, 0.8] leaves [0.8, 1] for reinforcement learning on images
                that the model has not seen (the paper's VQA). All rows about an image are in one part.
        """
        super().__init__()
        sizes = {"batch_size": batch_size, "rollouts_per_epoch": rollouts_per_epoch, "eval_items": eval_items}
        for name, value in (sizes | {"eval_batch_size": eval_batch_size}).items():
            if value is not None and value < 1:
                raise RslitError(f"data.{name} must be at least 1, got {value}")
        begin, end = train_part
        if not 0 <= begin < end <= 1:
            raise RslitError(f"data.train_part must be two fractions, the smaller first, got [{begin:g}, {end:g}]")
        self.source = source
        self.train_part = (begin, end)
        self.batch_size = batch_size
        self.rollouts_per_epoch = rollouts_per_epoch
        self.eval_items = eval_items
        self.eval_batch_size = eval_batch_size or batch_size
        self._rows: dict[Part, list[RowT]] = {}

    @abstractmethod
    def collate(self, rows: Sequence[RowT], pick: Pick) -> Batch:
        """A batch of rows; `pick` chooses among the texts of an item that has several."""

    # -- loaders --------------------------------------------------------------------------------------------------

    def batches(self) -> TrainingBatches[RowT]:
        """Rows to act on in training.

        Raises:
            RslitError: No data, or too few for one batch on each device.
        """
        rows = self.rows("train")
        if len(rows) < self.batch_size * self.world_size:
            raise RslitError(
                f"data.batch_size: {self.batch_size} items on each of {self.world_size} devices are more than the "
                f"{len(rows)} of {self.source.place('train')}"
            )
        return TrainingBatches(self, rows, "images", lambda chosen, number: self.collate(chosen, self._pick(number)))

    def _pick(self, number: int) -> Pick:
        """Draws one of the texts, in each pass over the data anew."""
        seed = self.seed
        return lambda item, texts: texts[stream_seed(seed, "target", number, item) % len(texts)]

    def evaluation_batches(self) -> EvaluationBatches[RowT]:
        """See the base class."""
        rows = self.rows("eval")
        count = min(self.eval_items, len(rows))
        ends = [k * len(rows) // count for k in range(count + 1)]
        spread = [
            rows[start + stream_seed(0, "held out", k) % (end - start)] for k, (start, end) in enumerate(pairwise(ends))
        ]
        mine = spread[self.rank :: self.world_size]
        return EvaluationBatches(mine, self.eval_batch_size, lambda chosen: self.collate(chosen, _commonest))

    # -- rows -----------------------------------------------------------------------------------------------------

    def rows(self, part: Part) -> list[RowT]:
        """All rows of a part, read once. What needs the whole data, such as document frequencies, asks here.

        Raises:
            RslitError: The source cannot be read.
        """
        if part not in self._rows:
            found = self.source.rows(part)
            place = self.source.place(part)
            if part == "train":
                found, all_of_it = self._part_of(found), len(found)
                share = "" if len(found) == all_of_it else f" of {all_of_it:,}"
                rank_zero_info(f"data: {len(found):,}{share} items to train on from {place}")
            else:
                count = min(self.eval_items, len(found))
                fewer = f" (eval_items asks for {self.eval_items:,})" if count < self.eval_items else ""
                rank_zero_info(f"data: {count:,} of {len(found):,} items to evaluate on{fewer} from {place}")
            self._rows[part] = found
        return self._rows[part]

    def _part_of(self, rows: list[RowT]) -> list[RowT]:
        """The rows of `train_part`."""
        place = {image: k for k, image in enumerate(dict.fromkeys(row.image for row in rows))}
        begin, end = (round(fraction * len(place)) for fraction in self.train_part)
        chosen = [row for row in rows if begin <= place[row.image] < end]
        if not chosen:
            raise RslitError(f"data.train_part: none of the {len(place)} training images is in that part; widen it")
        return chosen
