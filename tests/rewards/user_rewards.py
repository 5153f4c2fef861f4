"""Rewards as a user would write them in a package of their own, right and wrong; the tests name them in YAML."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rslit.samples import Samples


def brevity(samples: Samples) -> Tensor:
    """Minus the number of words."""
    return torch.tensor([-float(len(text.split())) for text in samples["text"]])


def politeness(samples):
    """1 for a polite text, 0 for another, NaN for an empty one; written without annotations."""
    return torch.tensor([float("please" in text) if text else math.nan for text in samples["text"]])


class Length:
    """Number of characters; a class that knows nothing of rslit but `Samples`."""

    unit = "characters"
    range = (0.0, math.inf)

    def __init__(self, scale: float = 1.0, name: str = "length") -> None:
        self.scale = scale
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        return self.scale * torch.tensor([float(len(text)) for text in samples["text"]])


class WrongParameterName(Length):
    def __call__(self, batch: Samples) -> Tensor:
        return super().__call__(batch)


class Unannotated(Length):
    def __call__(self, samples):
        return super().__call__(samples)


class NotCallable:
    name, unit, range = "nothing", "none", (0.0, 1.0)
