"""A small classifier of drawn scenes: `python -m rslit.scenes.models WORLD OUT --kinds classifier`.

It stands in for one of the hub, and says whether drawn images show what their prompts name. It is trained here by a
plain loop, on a world's training images and as many of shapes that stand anywhere: what a model draws varies more than
its world, where shapes stand at a few places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rslit.errors import RslitError
from rslit.scenes.draw import draw_scene
from rslit.scenes.shapes import SHAPES
from rslit.scenes.single import sample_anywhere
from rslit.scenes.world import COLOURS
from rslit.vision.files.coco import KarpathyCaptions
from rslit.vision.rows import CaptionRow

__all__ = ["LABELS", "accuracy", "processor", "train_classifier"]

LABELS = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))


def train_classifier(world: Path, seed: int = 0, steps: int = 1000, batch: int = 64, rate: float = 2e-3) -> Any:
    """Trains a ResNet to tell `LABELS` on a world of scenes of one shape.

    Args:
        world: Folder that `python -m rslit.scenes --objects 1` wrote.
        seed: Of weights and batches.
        steps: Of Adam.
        batch: Images per step.
        rate: The highest learning rate; it rises for a tenth of the steps and falls along a half cosine.

    Returns:
        A `ResNetForImageClassification` that was evaluated on none of the world's held-out images.

    Raises:
        RslitError: There is no such world.
    """
    import transformers

    rows = KarpathyCaptions(str(world)).rows("train")
    pixels, labels = _pixels(rows), _labels(rows)
    more = _anywhere(seed, len(rows), pixels.shape[-1])
    pixels, labels = torch.cat([pixels, more[0]]), torch.cat([labels, more[1]])
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config: Any = transformers.ResNetConfig(
            embedding_size=16,
            hidden_sizes=[32, 64, 128],
            depths=[1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(LABELS)),
            label2id={label: k for k, label in enumerate(LABELS)},
        )
        model: Any = transformers.ResNetForImageClassification(config)
        optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
        model.train()
        for _ in range(steps):
            chosen = torch.randint(len(labels), (batch,), generator=rng)
            loss: Any = functional.cross_entropy(model(_scaled(pixels[chosen])).logits, labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(world: Path, model: Any) -> float:
    """Share of the world's held-out images whose colour and shape are both told right."""
    rows = KarpathyCaptions(str(world), eval_split="test").rows("eval")
    found: Tensor = model(_scaled(_pixels(rows))).logits.argmax(1)
    return float((found == _labels(rows)).float().mean())


def processor(size: int) -> Any:
    """Its image processor: pixels from -1 to 1."""
    import transformers

    make: Any = transformers.ViTImageProcessorPil  # means and deviations of 0.5
    return make(size={"height": size, "width": size})


def _pixels(rows: Sequence[CaptionRow]) -> Tensor:
    from rslit.vision.images import load_image

    return _stacked(load_image(row) for row in rows)


def _stacked(images: Iterable[Any]) -> Tensor:
    """Pixels of Pillow's images of one size, uint8 (B, 3, H, W)."""
    import numpy as np

    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def _anywhere(seed: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Scenes whose shapes stand anywhere: pixels and labels."""
    scenes = [sample_anywhere(Random(f"{seed}/{k}/classifier"), size) for k in range(count)]
    labels = [LABELS.index(f"{thing.colour} {thing.shape}") for scene in scenes for thing in scene.things]
    return _stacked(map(draw_scene, scenes)), torch.tensor(labels)


def _scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def _labels(rows: Sequence[CaptionRow]) -> Tensor:
    words = [set(label.split()) for label in LABELS]
    found = []
    for row in rows:
        said = set(row.captions[0].lower().split())
        named = [k for k, label in enumerate(words) if label <= said]
        if len(named) != 1:
            raise RslitError(
                f"image {row.item}: '{row.captions[0]}' names no colour and shape; draw scenes of one shape "
                "(python -m rslit.scenes OUT --objects 1)"
            )
        found.append(named[0])
    return torch.tensor(found)
