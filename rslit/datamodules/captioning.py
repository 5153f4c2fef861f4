"""Images with captions: the data of captioning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rslit.datamodules.vision import Pick, VisionDataModule
from rslit.datamodules.walk import Batch
from rslit.vision.files.base import CaptionSource
from rslit.vision.rows import CaptionRow

__all__ = ["CaptioningDataModule"]


class CaptioningDataModule(VisionDataModule[CaptionRow]):
    """Images to caption.

    A batch has ``items``, ``image``, ``references`` (all captions of each image) and ``target`` (one of them: in
    training drawn anew in each pass over the data, in evaluation the first).
    """

    def __init__(self, source: CaptionSource, **sizes: Any) -> None:
        """Takes a source and sizes.

        Args:
            source: Where images and captions come from.
            sizes: See the base class.
        """
        super().__init__(source, **sizes)

    def collate(self, rows: Sequence[CaptionRow], pick: Pick) -> Batch:
        """See the class."""
        return {
            "items": [row.item for row in rows],
            "image": [row.image for row in rows],
            "references": [list(row.captions) for row in rows],
            "target": [pick(row.item, row.captions) for row in rows],
        }
