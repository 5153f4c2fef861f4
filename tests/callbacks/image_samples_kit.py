"""Small samples about images, and a sweep and a trainer that give them to a callback."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from rslit.callbacks.samples import point_rows
from rslit.modules import InterpolationEvaluator
from rslit.samples import Samples
from rslit.vision.rows import ImageSource, StoredImage

RED, BLUE = (200, 30, 40), (20, 60, 220)
NASTY = "</p><script>alert('a & b')</script> café λ"
POINTS = [("soup", "a=1,b=0"), ("soup", "a=1/2,b=1/2"), ("soup", "a=0,b=1")]
POINTS += [("initialisation", "initialisation"), ("morl", "mu one=0.25,two=0.75")]


@dataclass(frozen=True)
class Stored(StoredImage):
    """An image of one colour, in memory."""

    size: tuple[int, int] = (32, 16)
    colour: tuple[int, int, int] = RED

    def read(self) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", self.size, self.colour).save(file, "PNG")
        return file.getvalue()


def _scores(count: int) -> dict[str, torch.Tensor]:
    return {"one": torch.arange(count) / 4, "two": torch.full((count,), torch.nan)}


def captions(tag: str, items: list[str], images: list[ImageSource] | None = None) -> Samples:
    fields: dict[str, Any] = {
        "caption": [f"{tag} says {item} {NASTY}" for item in items],
        "references": [[f"A thing of {item}.", "Another <thing>."] for item in items],
        "image": images or [Stored()] * len(items),
    }
    return Samples(items, fields, _scores(len(items)))


def answers(tag: str, items: list[str]) -> Samples:
    fields: dict[str, Any] = {
        "question": [f"How many in {item}?" for item in items],
        "answer": [tag for _ in items],
        "answers": [["two", "2", "two"] for _ in items],
        "image": [Stored()] * len(items),
    }
    return Samples(items, fields, _scores(len(items)))


def boxes(found: list[list[float]], items: list[str], **scores: torch.Tensor) -> Samples:
    """Targets are the left half of an image of 32 x 16 pixels."""
    count = len(items)
    fields: dict[str, Any] = {
        "expression": [f"left half of {item}" for item in items],
        "box": torch.tensor(found),
        "target": torch.tensor([[0.0, 0.0, 16.0, 16.0]] * count),
        "image_size": torch.tensor([[32, 16]] * count),
        "image": [Stored()] * count,
    }
    return Samples(items, fields, scores or _scores(count))


def sweep_of(make: Any, describe: Any, items: list[str], count: int = 8) -> tuple[list[dict[str, Any]], Samples]:
    """The rows over POINTS of the samples that `make` gives for a label, and those at the first point."""
    batch = [make(label, items) for _, label in POINTS]
    return point_rows(POINTS, [batch], count, describe), batch[0]


class Sweep(InterpolationEvaluator):
    """An evaluator of nothing, with the points of a sweep."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.ingredients = {"a": "", "b": ""}

    @property
    def points(self) -> list[tuple[str, str]]:
        return POINTS


def trainer_of(root: Path, **given: Any) -> Any:
    """What the callback asks of a trainer; `given` stands in for some of it."""
    usual = {"is_global_zero": True, "sanity_checking": False, "global_step": 7, "default_root_dir": str(root)}
    return SimpleNamespace(**{**usual, "loggers": [TensorBoardLogger(root, name=None, version="log")], **given})
