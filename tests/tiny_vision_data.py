"""What vision-language configs name, at the size of a second: drawn scenes as their data, stand-ins of their models."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_vision import random_images, save_tiny_vision
from torch.nn.utils.rnn import pad_sequence

from rslit.scenes import World, write_world
from rslit.scenes.grounded import write_grounded_captions
from rslit.scenes.models import CODEC, GROUNDED
from rslit.vision import BoxCodec, FlorenceBoxCodec
from rslit.vision.options import VisionOptions
from rslit.vision.policy import build_vision_policy

__all__ = ["MODELS", "write_data", "write_model"]

#: Every model that a config names: the kind of its stand-in, how it writes boxes, what it says.
MODELS: dict[str, tuple[str, BoxCodec | None, tuple[str, ...]]] = {
    "Salesforce/blip-image-captioning-base": ("blip-caption", None, ("captions",)),
    "florence-community/Florence-2-base": ("florence2", FlorenceBoxCodec(), ("answers", "boxes")),
    "models/scenes/captioner": ("vit-gpt2", None, ("captions",)),
    "models/scenes/unified": ("paligemma", CODEC, ("answers", "boxes")),
}

# A small, a medium and a large box as shares of the sides, by the paper's areas in 800 x 800 pixels and those
# of the small configs in 64 x 64. The medium one overlaps with each of the others by more than half, so that whoever
# says one of them is rewarded now and then.
_PLACES = tuple((0.29, 0.16, 0.29 + side, 0.16 + side) for side in (0.216, 0.296, 0.396))


def write_data(root: Path) -> None:
    """Drawn scenes as models/scenes/world, as COCO and VQA v2, and, at the size of photographs, as RefCOCO+."""
    scenes = root / "models" / "scenes" / "world"
    coco, vqa, refs = (root / "data" / name for name in ("coco", "vqa", "refer/refcoco+"))
    for folder, size in ((scenes, 64), (coco, 64), (root / "large", 800)):
        write_world(folder, World(16, 4, 4, size))
    shutil.move(coco / "vqa", vqa)
    refs.parent.mkdir()
    shutil.move(root / "large" / "refcoco", refs)
    # As the authors give it: a pickle of Python 2, and all images among COCO's of train2014.
    content = refs / "refs(unc).json"
    (refs / "refs(unc).p").write_bytes(pickle.dumps(json.loads(content.read_text()), protocol=2))
    content.unlink()
    instances = refs / "instances.json"
    instances.write_text(_in_train2014(instances.read_text()))
    for image in root.glob("large/images/*/*"):
        shutil.copy(image, coco / "images" / "train2014" / _in_train2014(image.name))
    _place(instances)
    _place(scenes / "refcoco" / "instances.json")
    write_grounded_captions(scenes, scenes.parent / GROUNDED, CODEC)


def _in_train2014(text: str) -> str:
    """The text with other names for images: of train2014, and not those of COCO's captions."""
    return re.sub("COCO_(train|val)2014_0", "COCO_train2014_9", text)


def _place(path: Path) -> None:
    """Puts every object of ``instances.json`` at one of `_PLACES`, which a tiny model can learn."""
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for k, entry in enumerate(content["annotations"]):
        x0, y0, x1, y1 = (
            share * side for share, side in zip(_PLACES[k % 3], 2 * sizes[entry["image_id"]], strict=True)
        )
        entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    path.write_text(json.dumps(content))


def _answers(root: Path, codec: BoxCodec | None) -> dict[str, list[str]]:
    """What there is to say of the data: captions, answers, boxes."""
    images = json.loads((root / "data/coco/dataset_coco.json").read_text())["images"]
    asked = json.loads((root / "data/vqa/v2_mscoco_train2014_annotations.json").read_text())["annotations"]
    common = [text for text, _ in Counter(entry["multiple_choice_answer"] for entry in asked).most_common(2)]
    return {
        "captions": [" ".join(image["sentences"][0]["tokens"][:5]) for image in images[:4]],
        # Of single words BLEU-1 and METEOR are multiples of one another, and two experts would come out the same.
        "answers": [*common, " ".join(common)],
        "boxes": [codec.encode(place, (1, 1)) for place in _PLACES] if codec else [],
    }


def write_model(root: Path, name: str, kind: str, codec: BoxCodec | None, says: Sequence[str]) -> None:
    """A tiny model that was shown answers until it gives such by itself, whatever it is asked: rewards differ then."""
    folder = save_tiny_vision(kind, root / name, locations=len(codec.locations) if codec else None)
    known = _answers(root, codec)
    policy = build_vision_policy(VisionOptions(str(folder)))
    tokens = [torch.tensor(row) for row in policy.tokens([text for part in says for text in known[part]])]
    ids = pad_sequence(tokens, batch_first=True, padding_value=policy.pad_id)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in tokens], batch_first=True)
    asked = policy.encode(random_images(len(ids)), [""] * len(ids))
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        (-policy.score(asked, ids, mask).logprobs.sum(1).mean()).backward()
        optimizer.step()
    model: Any = policy.model
    model.save_pretrained(folder)
