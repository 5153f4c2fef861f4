"""Captioning: self-critical training of models that describe images (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rslit.language import Answers
from rslit.modules.vision import VisionModule
from rslit.rewards.cider import count_documents
from rslit.samples import Samples

__all__ = ["CaptioningModule"]


class CaptioningModule(VisionModule):
    """Captions of images. Samples have ``caption``, ``references`` and ``image``."""

    task = "captioning"

    def setup(self, stage: str) -> None:
        """Counts the document frequencies of CIDEr in the training references, where no file of theirs is given."""
        if getattr(self._trainer, "datamodule", None) is not None:
            count_documents([self.reward, *self.evaluation_rewards], self._training_references())

    def samples(self, batch: Mapping[str, Sequence[Any]], answers: Answers, group: int) -> Samples:
        """See :meth:`VisionModule.samples`."""
        said = self.parts.text(answers.tokens, answers.mask)
        return self.repeated(batch, group, ("references", "image"), caption=said)

    def targets(self, batch: Mapping[str, Sequence[Any]]) -> list[list[int]]:
        """One caption of each image, as the datamodule chose it."""
        return self.parts.tokens(batch["target"])

    def _training_references(self) -> Iterator[Sequence[str]]:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        for row in data.rows("train"):  # read when the first is asked for
            yield row.captions
