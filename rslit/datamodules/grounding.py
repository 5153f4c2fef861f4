"""Images with expressions and boxes: the data of visual grounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rslit.datamodules.vision import Pick, VisionDataModule
from rslit.datamodules.walk import Batch
from rslit.vision.files.base import RegionSource
from rslit.vision.rows import RegionRow

__all__ = ["GroundingDataModule"]


class GroundingDataModule(VisionDataModule[RegionRow]):
    """Expressions to find the box of.

    A batch has ``items``, ``image``, ``expression``, ``box`` (the right x0, y0, x1, y1 in pixels of the original
    image), ``image_size`` (width, height) and ``target``, which is the box again.
    """

    def __init__(self, source: RegionSource, **sizes: Any) -> None:
        """Takes a source and sizes.

        Args:
            source: Where images, expressions and boxes come from.
            sizes: See the base class.
        """
        super().__init__(source, **sizes)

    def collate(self, rows: Sequence[RegionRow], pick: Pick) -> Batch:
        """See the class."""
        boxes = [row.box for row in rows]
        return {
            "items": [row.item for row in rows],
            "image": [row.image for row in rows],
            "expression": [row.expression for row in rows],
            "box": boxes,
            "image_size": [row.size for row in rows],
            "target": boxes,
        }
