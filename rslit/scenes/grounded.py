"""Grounded captions: every object of a scene by an expression and its box in location tokens, in Karpathy's format.

They are what grounders are pre-trained on (GRIT for Kosmos-2, FLD-5B for Florence-2): a row teaches the boxes of all
objects at once, where a row of RefCOCO teaches one. `CaptioningModule` learns them like any caption.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from rslit.vision.box_codecs import BoxCodec
from rslit.vision.files.base import Part
from rslit.vision.files.refcoco import RefCoco
from rslit.vision.rows import RegionRow

__all__ = ["write_grounded_captions"]

_PER_IMAGE = 5
_SPLITS: tuple[tuple[Part, str], ...] = (("train", "train"), ("eval", "val"))


def write_grounded_captions(world: Path, path: Path, codec: BoxCodec, seed: int = 0) -> None:
    """Writes captions such as ``red star <loc0003>... the small circle <loc0019>...`` about a world's images.

    Args:
        world: Folder that `python -m rslit.scenes` wrote; its RefCOCO files are read.
        path: The file to write, for :class:`rslit.datamodules.KarpathyCaptions` with `images` of the world.
        codec: How boxes are written.
        seed: Of the objects' order and of the choice among their expressions.
    """
    rng, images = Random(seed), list[dict[str, Any]]()
    source = RefCoco(str(world))
    for part, split in _SPLITS:
        scenes: dict[Path, dict[tuple[float, ...], list[RegionRow]]] = {}
        for row in source.rows(part):
            assert isinstance(row.image, Path)
            scenes.setdefault(row.image, {}).setdefault(row.box, []).append(row)
        for image, objects in scenes.items():
            captions = [_caption(rng, list(objects.values()), codec) for _ in range(_PER_IMAGE)]
            entry = {"filepath": image.parent.name, "filename": image.name, "split": split}
            sentences = [{"raw": text, "tokens": text.split()} for text in captions]
            images.append({**entry, "imgid": len(images), "cocoid": int(image.stem[-12:]), "sentences": sentences})
    part_file = path.with_name(f".{path.name}.part")
    part_file.write_text(json.dumps({"dataset": "scenes", "images": images}))
    part_file.replace(path)


def _caption(rng: Random, objects: list[list[RegionRow]], codec: BoxCodec) -> str:
    """The objects in any order, each by one of its expressions."""
    rows = [rng.choice(several) for several in rng.sample(objects, len(objects))]
    return " ".join(f"{row.expression} {codec.encode(row.box, row.size, row.item)}" for row in rows)
