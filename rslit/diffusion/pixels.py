"""Images as tensors of the size that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rslit.vision.images import load_images

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["fitted", "load_pixels"]


def load_pixels(batch: Mapping[str, Sequence[Any]], size: tuple[int, int]) -> Tensor:
    """The images of a batch with ``items`` and ``image``, uint8 (B, 3, H, W).

    Args:
        batch: Of a datamodule.
        size: Height and width in pixels.

    Raises:
        RslitError: As :func:`rslit.vision.images.load_image`.
    """
    return torch.stack([fitted(image, size) for image in load_images(batch)])


def fitted(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An RGB image made to fill `size`, and of what is left over the middle; uint8 (3, H, W)."""
    from PIL import Image, ImageOps

    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
