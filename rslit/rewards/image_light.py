"""Rewards of images without a network: colourfulness, sharpness, contrast and size as JPEG.

All read the field `image`, uint8 (B, 3, H, W), RGB. Images are looked at one by one, in float64: a batch gives the same
bits as its images alone. Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, which Pillow and OpenCV use
too; they round it to whole numbers, we do not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from rslit.errors import RslitError
from rslit.rewards.image_field import images_of
from rslit.rewards.pretrained import require
from rslit.samples import Samples

__all__ = [
    "ColourfulnessReward",
    "ContrastReward",
    "JpegCompressibilityReward",
    "SharpnessReward",
    "colourfulness",
    "jpeg_kilobytes",
    "rms_contrast",
    "sharpness",
]


def colourfulness(image: Tensor) -> Tensor:
    """Colourfulness M^(3) of Hasler and Süsstrunk 2003, "Measuring colourfulness in natural images".

    With the opponent colours rg = R - G and yb = (R + G) / 2 - B of each pixel,
    M = sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2), variances over all pixels (1/n).

    Args:
        image: uint8 (3, H, W), RGB.

    Returns:
        float64 (), in units of 0..255: 0 for grey images; in the words of the paper 15 is slightly, 82 highly and 109
        extremely colourful.
    """
    red, green, blue = image.to(torch.float64)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = red_green.var(correction=0) + yellow_blue.var(correction=0)
    shift = red_green.mean().square() + yellow_blue.mean().square()
    return torch.sqrt(spread) + 0.3 * torch.sqrt(shift)


def sharpness(image: Tensor) -> Tensor:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy").

    The Laplacian of the grey image is the sum of the four neighbours minus four times the pixel. At the border the
    image is mirrored about its outermost pixels, as OpenCV's `Laplacian` does by default.

    Args:
        image: uint8 (3, H, W), RGB, H and W at least 2.

    Returns:
        float64 (), squared units of 0..255; 0 for an image of one colour.
    """
    padded = functional.pad(_grey(image)[None, None], (1, 1, 1, 1), mode="reflect")[0, 0]
    centre = padded[1:-1, 1:-1]
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * centre
    return laplacian.var(correction=0)


def rms_contrast(image: Tensor) -> Tensor:
    """Root-mean-square contrast (Peli 1990, "Contrast in complex images"): the standard deviation (1/n) of grey.

    Args:
        image: uint8 (3, H, W), RGB.

    Returns:
        float64 (), grey in 0..1: from 0 for an image of one grey to 0.5 for one half black, half white.
    """
    return (_grey(image) / 255).std(correction=0)


def jpeg_kilobytes(image: Tensor, quality: int = 95) -> Tensor:
    """Size as JPEG by Pillow, in thousands of bytes (Black et al. 2023, arXiv:2305.13301).

    Args:
        image: uint8 (3, H, W), RGB.
        quality: Pillow's.

    Returns:
        float64 ().
    """
    from PIL import Image  # only here: the other rewards need no Pillow

    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="JPEG", quality=quality)
    return torch.tensor(buffer.tell() / 1000, dtype=torch.float64)


class ColourfulnessReward:
    """Colourfulness of the image, see `colourfulness`.

    Args:
        name: Column name of its scores.
    """

    unit = "colourfulness"
    # No value is larger: neither opponent colour leaves [-255, 255].
    range = (0.0, 1.3 * 255 * math.sqrt(2))

    def __init__(self, name: str = "colourfulness") -> None:
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: `image` is missing or no uint8 (B, 3, H, W).
        """
        return _each(samples, f"ColourfulnessReward '{self.name}'", colourfulness)


class SharpnessReward:
    """Sharpness of the image, see `sharpness`. Noise is sharp too: pair this reward with one that dislikes it.

    Args:
        name: Column name of its scores.
    """

    unit = "variance of the Laplacian"
    # The Laplacian of values in 0..255 lies in [-1020, 1020].
    range = (0.0, 1020.0**2)

    def __init__(self, name: str = "sharpness") -> None:
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: `image` is missing or no uint8 (B, 3, H, W).
        """
        return _each(samples, f"SharpnessReward '{self.name}'", sharpness)


class ContrastReward:
    """Contrast of the image, see `rms_contrast`.

    Args:
        name: Column name of its scores.
    """

    unit = "RMS contrast"
    range = (0.0, 0.5)

    def __init__(self, name: str = "contrast") -> None:
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: `image` is missing or no uint8 (B, 3, H, W).
        """
        return _each(samples, f"ContrastReward '{self.name}'", rms_contrast)


class JpegCompressibilityReward:
    """Minus the size of the image as JPEG in thousands of bytes, see `jpeg_kilobytes`: simple images score high.

    Args:
        quality: Of the JPEG, 1 to 95; 95 is that of Black et al.
        name: Column name of its scores.

    Raises:
        RslitError: Pillow is not installed, or the quality is out of range.
    """

    unit = "kB"
    range = (-math.inf, 0.0)

    def __init__(self, quality: int = 95, name: str = "compressibility") -> None:
        self._owner = f"JpegCompressibilityReward '{name}'"
        require("PIL", "pillow", self._owner, "diffusion")
        if not 1 <= quality <= 95:
            raise RslitError(f"{self._owner}: quality is {quality}; give 1 to 95")
        self.quality = quality
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: `image` is missing or no uint8 (B, 3, H, W).
        """
        return _each(samples, self._owner, lambda image: -jpeg_kilobytes(image, self.quality))


def _each(samples: Samples, owner: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The function of each image, (B,) float32."""
    values = [function(image) for image in images_of(samples, owner)]
    return torch.stack(values).to(torch.float32) if values else torch.empty(0)


def _grey(image: Tensor) -> Tensor:
    """Luma (H, W) float64 in 0..255 of a uint8 image (3, H, W)."""
    red, green, blue = image.to(torch.float64)
    grey: Tensor = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey
