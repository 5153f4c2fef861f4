"""What to show of an answer about an image, or of an image that was drawn; a row's fields say which.

An answer is a caption, an answer to a question, or a box. A drawn image has a ``file``, a ``prompt`` and a ``seed``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rslit.callbacks.samples import sample_scores
from rslit.samples import Samples
from rslit.soup import parse_lam
from rslit.vision.boxes import iou
from rslit.vision.images import load_image
from rslit.vision.rows import ImageSource

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "answer_row",
    "asked",
    "by_item",
    "chosen_points",
    "given",
    "images_of",
    "number",
    "picture_of",
    "point_name",
    "said",
    "sample_rows",
    "shown_scores",
    "weights",
]

Row = Mapping[str, Any]
"""See :func:`answer_row`; beside it ``item``, ``scores`` and, in a sweep, ``point`` and ``label``."""


def answer_row(samples: Samples, k: int) -> dict[str, Any]:
    """What sample `k` says, as JSON can hold it.

    Returns:
        ``image``, its name, and for a caption ``references`` and ``caption``; for an answer ``question``, ``answers``
        and ``answer``; for a box ``expression``, ``image_size``, ``target``, ``box`` (None: the output was no box) and
        ``iou``, all in pixels of the original image.
    """
    row: dict[str, Any] = {"image": str(samples["image"][k])}
    if "box" in samples.fields:
        box, target = (torch.as_tensor(samples[name][k]).detach().float().cpu() for name in ("box", "target"))
        corners = [round(v, 2) for v in box.tolist()] if bool(box.isfinite().all()) else None
        size = [int(v) for v in samples["image_size"][k]]
        row |= {"expression": samples["expression"][k], "image_size": size, "target": target.tolist(), "box": corners}
        return {**row, "iou": float(iou(box[None], target[None]))}
    if "answer" in samples.fields:
        answers = list(samples["answers"][k])
        return {**row, "question": samples["question"][k], "answers": answers, "answer": samples["answer"][k]}
    return {**row, "references": list(samples["references"][k]), "caption": samples["caption"][k]}


def asked(row: Row) -> str:
    """What the policy was asked about the image, or to draw; nothing for captions."""
    return str(row.get("question", row.get("expression", row.get("prompt", ""))))


def picture_of(row: Row) -> Any:
    """What tells which image belongs to a row: of a drawn one its file, else the item that all points share."""
    return row.get("file", row["item"])


def said(row: Row) -> str:
    """What it said; nothing for a box, which is drawn, and for an image."""
    if "file" in row:
        return ""
    if "target" in row:
        return "" if row["box"] else "no box"
    return str(row.get("caption", row.get("answer"))).strip() or "(nothing)"


def given(row: Row) -> list[str]:
    """What people said: captions, or each answer with how many gave it."""
    if "answers" in row:
        return [f"{text} × {n}" if n > 1 else text for text, n in Counter(map(str, row["answers"])).most_common()]
    return list(row.get("references", ()))


def shown_scores(row: Row) -> dict[str, float | None]:
    """The scores by name, with the overlap of a box before them where it is none of them."""
    scores = dict(row["scores"])
    if "iou" in row and "iou" not in map(str.lower, scores):
        scores = {"IoU": row["iou"], **scores}
    return scores


def number(value: float | None) -> str:
    """A score as it is shown."""
    return "–" if value is None else f"{value:.2f}"


def by_item(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each item, in the order in which items come first."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row["item"], []).append(row)
    return list(found.values())


def sample_rows(samples: Samples, count: int) -> list[list[Row]]:
    """The rows of each of the first `count` items of samples, which may hold several answers to an item."""
    first = set(list(dict.fromkeys(samples.items))[:count])
    picked = [k for k, item in enumerate(samples.items) if item in first]
    return by_item(
        [{"item": samples.items[k], **answer_row(samples, k), "scores": sample_scores(samples, k)} for k in picked]
    )


def images_of(samples: Samples, rows: Sequence[Row]) -> dict[Any, Image.Image]:
    """The images of rows by item; one that several items share is loaded once.

    Raises:
        RslitError: As :func:`rslit.vision.images.load_image`.
    """
    sizes = {row["item"]: row.get("image_size") for row in rows}
    sources = {item: source for item, source in zip(samples.items, samples["image"], strict=True) if item in sizes}
    loaded: dict[ImageSource, Image.Image] = {}
    for item, source in sources.items():
        if source not in loaded:
            loaded[source] = load_image(source, str(item), sizes[item])
    return {item: loaded[source] for item, source in sources.items()}


def weights(row: Row) -> list[tuple[str, float]]:
    """λ of a soup, or μ of a MORL solution, by expert or reward; nothing for the initialisation."""
    if row["point"] == "initialisation":
        return []
    return [(name, float(value)) for name, value in parse_lam(row["label"].removeprefix("mu ")).items()]


def point_name(row: Row) -> str:
    """What a person calls a point: expert, soup, initialisation, MORL."""
    if row["point"] == "soup":
        shares = [value for _, value in weights(row)]
        return "expert" if shares.count(0) == len(shares) - 1 else "soup"
    return {"morl": "MORL"}.get(row["point"], str(row["point"]))


def chosen_points(rows: Sequence[Row], most: int = 5) -> list[int]:
    """Which soups a sheet with little room shows.

    Args:
        rows: The rows of one item, one per point.
        most: Points between two experts.

    Returns:
        Indices into `rows`: evenly spread between two experts; of more experts each of them, then the soup nearest to
        their uniform average, as far as they were evaluated.
    """
    lams = {k: [value for _, value in weights(row)] for k, row in enumerate(rows) if row["point"] == "soup"}
    order = list(lams)
    if len(order) <= most:
        return order
    experts = len(lams[order[0]])
    if experts > 2:
        uniform = min(order, key=lambda k: math.fsum((value - 1 / experts) ** 2 for value in lams[k]))
        alone = [k for k in order if point_name(rows[k]) == "expert"]
        return list(dict.fromkeys([*alone, uniform]))
    return [order[round(k * (len(order) - 1) / (most - 1))] for k in range(most)]
