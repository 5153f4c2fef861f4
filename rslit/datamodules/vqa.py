"""Images with questions and answers: the data of visual question answering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rslit.datamodules.vision import Pick, VisionDataModule
from rslit.datamodules.walk import Batch
from rslit.vision.files.base import QuestionSource
from rslit.vision.rows import QuestionRow

__all__ = ["VqaDataModule"]


class VqaDataModule(VisionDataModule[QuestionRow]):
    """Questions to answer.

    A batch has ``items``, ``image``, ``question``, ``answers`` (all annotators') and ``target`` (one of them: in
    training drawn anew in each pass over the data, so in proportion to the annotators; in evaluation the commonest).
    """

    def __init__(self, source: QuestionSource, **sizes: Any) -> None:
        """Takes a source and sizes.

        Args:
            source: Where images, questions and answers come from.
            sizes: See the base class.
        """
        super().__init__(source, **sizes)

    def collate(self, rows: Sequence[QuestionRow], pick: Pick) -> Batch:
        """See the class."""
        return {
            "items": [row.item for row in rows],
            "image": [row.image for row in rows],
            "question": [row.question for row in rows],
            "answers": [list(row.answers) for row in rows],
            "target": [pick(row.item, row.answers) for row in rows],
        }
