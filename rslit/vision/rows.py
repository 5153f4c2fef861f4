"""Rows of vision-language data: an image and what people said about it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rslit.errors import RslitError

__all__ = ["Box", "CaptionRow", "ImageRow", "ImageSource", "QuestionRow", "RegionRow", "Size", "StoredImage", "region"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the original image, the origin at its upper left corner."""

Size = tuple[int, int]
"""Width and height in pixels."""


class StoredImage(ABC):
    """An encoded image that is no file of its own. Its ``str()`` is what a person calls it."""

    @abstractmethod
    def read(self) -> bytes:
        """The encoded bytes, fetched when asked for.

        Raises:
            RslitError: The store is gone or its content is no image.
        """


ImageSource = Path | StoredImage


@dataclass(frozen=True)
class ImageRow:
    """What every row has.

    Attributes:
        item: Its id: the same in every run, unique within its part.
        image: Where the image is; ``rslit.vision.images`` loads it.
    """

    item: str
    image: ImageSource


@dataclass(frozen=True)
class CaptionRow(ImageRow):
    """An image with all its captions, as people wrote them."""

    captions: tuple[str, ...]


@dataclass(frozen=True)
class QuestionRow(ImageRow):
    """A question about an image, with every annotator's answer, normally ten."""

    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class RegionRow(ImageRow):
    """An expression, the box it refers to and the size of the image that the box is in."""

    expression: str
    box: Box
    size: Size


def region(item: str, image: ImageSource, expression: str, box: Sequence[float], size: Size, file: object) -> RegionRow:
    """A row whose box has been checked.

    COCO's boxes are rounded to hundredths, so that some end a little outside: up to one pixel is cut off.

    Args:
        item: The row's id.
        image: Its image.
        expression: What refers to the box.
        box: x0, y0, x1, y1 in pixels.
        size: The image's width and height in pixels.
        file: Where the box was read, for messages.

    Raises:
        RslitError: The box has no four finite numbers, no area, or leaves the image by more than a pixel.
    """
    where = f"data.source: {file}: item {item}"
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise RslitError(f"{where}: a box is four finite numbers, got {list(box)}; mend it or take the item out")
    (x0, y0, x1, y1), (width, height) = box, size
    shown = ", ".join(f"{value:g}" for value in box)
    if min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1:
        raise RslitError(
            f"{where}: the box {shown} (x0, y0, x1, y1) is outside its image of {width} x {height}; "
            f"give the boxes of this image, as the file's format has them, or take the item out"
        )
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if x1 <= x0 or y1 <= y0:
        raise RslitError(
            f"{where}: the box {shown} (x0, y0, x1, y1) has no area; is it given as corners where the format has "
            f"width and height, or the other way round? Mend it or take the item out"
        )
    return RegionRow(item, image, expression, (float(x0), float(y0), float(x1), float(y1)), size)
