"""The field that rewards of generated images read, and how networks get it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.samples import Samples

__all__ = ["images_of", "pixels", "refuse_nan", "texts_of"]


def images_of(samples: Samples, owner: str) -> Tensor:
    """The generated images.

    Args:
        samples: B samples with the field `image`.
        owner: The reward, for messages.

    Returns:
        uint8 (B, 3, H, W), RGB, on the CPU; H and W at least 2.

    Raises:
        RslitError: There is no such field, or it holds something else.
    """
    _check_field(samples, "image", owner)
    images = samples["image"]
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        what = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise RslitError(f"{owner}: field 'image' is {what}, not a uint8 tensor; give RGB values of 0 to 255")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[:2] != (len(samples), 3) or min(shape[2:]) < 2:
        raise RslitError(
            f"{owner}: field 'image' has shape {shape}, not ({len(samples)}, 3, H, W) with H and W of at least 2; "
            "give RGB images of one size"
        )
    return images.detach().cpu()


def texts_of(samples: Samples, owner: str) -> list[str]:
    """The prompts that the images were made from, B texts.

    Args:
        samples: B samples with the field `prompt`.
        owner: The reward, for messages.

    Raises:
        RslitError: There is no such field, or a prompt is empty.
    """
    _check_field(samples, "prompt", owner)
    texts = [str(text) for text in samples["prompt"]]
    for item, text in zip(samples.items, texts, strict=True):
        if not text.strip():
            raise RslitError(f"{owner}: the prompt of item {item!r} is empty; leave out this item")
    return texts


def pixels(processor: Any, images: Tensor) -> Tensor:
    """What an image model reads, float32 (B, 3, h, w), resized and normalised as its folder says.

    Args:
        processor: Image processor of transformers.
        images: uint8 (B, 3, H, W) on the CPU.
    """
    from PIL import Image  # only here: rewards of texts need no Pillow

    # Pictures leave no doubt about the order of the channels or the range of values.
    pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
    values: Tensor = processor(images=pictures, return_tensors="pt")["pixel_values"]
    return values


def refuse_nan(values: Tensor, samples: Samples, owner: str) -> Tensor:
    """The values of a model, which apply to every image.

    Args:
        values: (B,).
        samples: B samples.
        owner: The reward, for messages.

    Raises:
        RslitError: One is NaN.
    """
    missing = values.isnan()
    if missing.any():
        item = samples.items[int(missing.nonzero()[0, 0])]
        raise RslitError(f"{owner}: the model gave NaN for item {item!r}; set dtype: float32")
    return values


def _check_field(samples: Samples, field: str, owner: str) -> None:
    if field not in samples.fields:
        known = ", ".join(sorted(samples.fields)) or "none"
        raise RslitError(f"{owner}: no field '{field}'; the samples have: {known}")
