"""A page of answers about images, or of drawn images, over λ: no script, no network, each image in it once."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from rslit.callbacks.image_rows import (
    asked,
    by_item,
    given,
    number,
    picture_of,
    point_name,
    said,
    shown_scores,
    weights,
)
from rslit.callbacks.samples import bar_share, score_bounds

__all__ = ["image_page"]

Row = Mapping[str, Any]
Bounds = Mapping[str, tuple[float, float]]

_TEMPLATE = Path(__file__).with_name("image_samples.html")
# Longer side of an image in the file, pixels: twice what a cell shows, for dense screens.
_SIDE = 448
# Smaller images are shown with sharp pixels.
_SMALL = 128


def image_page(experts: Sequence[str], rows: Sequence[Row], images: Mapping[Any, Image.Image]) -> str:
    """A table with an item per row and a point per column, which scrolls under its headings.

    Args:
        experts: Names of the experts.
        rows: The rows of a sweep; see :func:`rslit.callbacks.samples.point_rows`.
        images: The image of each item, or of each file that was drawn.
    """
    bounds = score_bounds([shown_scores(row) for row in rows])
    items = by_item(rows)
    addresses = {key: _address(image) for key, image in images.items()}
    names = {address: f"i{hashlib.sha256(address.encode()).hexdigest()[:12]}" for address in addresses.values()}
    sizes = {address: images[key].size for key, address in addresses.items()}
    pictures = {key: _Picture(names[address], *images[key].size) for key, address in addresses.items()}
    body = []
    for own in items:
        cells = "".join(_cell(row, pictures[picture_of(row)], bounds) for row in own)
        body.append(f"<tr>{_item(own[0], pictures[picture_of(own[0])])}{cells}</tr>")
    drawn = "file" in rows[0]
    parts = {
        "title": html.escape(f"What the soups of {_listed(experts)} {'draw' if drawn else 'say'}"),
        "kind": "boxes" if drawn or "target" in rows[0] else "texts",
        "same": "prompts and the same noise of each prompt" if drawn else "images and the same sampling noise",
        "legend": _LEGEND if "target" in rows[0] else "",
        "images": "\n".join(_definition(names[a], a, *size) for a, size in sizes.items()),
        "head": "".join(map(_heading, items[0])),
        "body": "\n".join(body),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _TEMPLATE.read_text(encoding="utf-8"))


_LEGEND = (
    "<p class='legend'><svg viewBox='0 0 26 14'><path class='target under' d='M0 7H26'/><path class='target' "
    "d='M0 7H26'/></svg>right box <svg viewBox='0 0 26 14'><path class='answer under' d='M0 7H26'/>"
    "<path class='answer' d='M0 7H26'/></svg>answer</p>"
)


class _Picture:
    """An image of the page: its name there, and its size, in whose pixels boxes are."""

    def __init__(self, name: str, width: int, height: int) -> None:
        self.name, self.width, self.height = name, width, height

    def svg(self, label: str, **boxes: Sequence[float] | None) -> str:
        """The image with boxes, by class, over it."""
        outlines = ""
        for kind, box in boxes.items():
            if box is not None:
                x0, y0, x1, y1 = (f"{value:g}" for value in box)
                d = f"M{x0} {y0}H{x1}V{y1}H{x0}Z"
                outlines += f"<path class='{kind} under' d='{d}'/><path class='{kind}' d='{d}'/>"
        return (
            f"<svg class='picture' role='img' aria-label='{html.escape(label)}' "
            f"viewBox='0 0 {self.width} {self.height}' preserveAspectRatio='xMinYMin'><use href='#{self.name}'/>"
            f"<path class='edge' d='M0 0H{self.width}V{self.height}H0Z'/>{outlines}</svg>"
        )


def _definition(name: str, address: str, width: int, height: int) -> str:
    sharp = " class='sharp'" if max(width, height) <= _SMALL else ""
    return f"<image id='{name}'{sharp} href='{address}' width='{width}' height='{height}' preserveAspectRatio='none'/>"


def _address(image: Image.Image) -> str:
    """A data URI of the image, shrunk if it is large: PNG if it is small or that is shorter, else JPEG."""
    shrunk = image.copy()
    shrunk.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    png, jpeg = io.BytesIO(), io.BytesIO()
    shrunk.save(png, "PNG", optimize=True)
    shrunk.save(jpeg, "JPEG", quality=88)
    exact = max(image.size) <= _SMALL or png.tell() <= jpeg.tell()
    kind, data = ("png", png.getvalue()) if exact else ("jpeg", jpeg.getvalue())
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _heading(row: Row) -> str:
    bars = "".join(_bar(name, f"{value:.3g}", value) for name, value in weights(row))
    return f"<th scope='col' class='{row['point']}'><p>{point_name(row)}</p><table>{bars}</table></th>"


def _item(row: Row, picture: _Picture) -> str:
    question = f"<p class='question'>{html.escape(asked(row))}</p>" if asked(row) else ""
    texts = [html.escape(text) for text in given(row)]
    people = ""
    if "references" in row:
        people = "<details><summary>what people say</summary>" + "".join(f"<p>{t}</p>" for t in texts) + "</details>"
    elif texts:
        people = f"<p class='people'>people: {', '.join(texts)}</p>"
    svg = "" if "file" in row else picture.svg(f"image of item {row['item']}", target=row.get("target"))
    name = html.escape(f"{row['item']} · seed {row['seed']}" if "file" in row else str(row["item"]))
    return f"<th scope='row'>{svg}{question}{people}<p class='item'>{name}</p></th>"


def _cell(row: Row, picture: _Picture, bounds: Bounds) -> str:
    drawn = ""
    if "file" in row:
        drawn = picture.svg(f"{asked(row)}, {point_name(row)} {row['label']}")
    elif "target" in row:
        label = f"{asked(row)}: IoU {row['iou']:.2f}" if row["box"] else f"{asked(row)}: no box"
        drawn = picture.svg(label, target=row["target"], answer=row["box"])
    text = f"<p class='said'>{html.escape(said(row))}</p>" if said(row) else ""
    scores = "".join(
        _bar(name, number(value), 0 if value is None else bar_share(value, bounds[name]))
        for name, value in shown_scores(row).items()
    )
    return f"<td class='{row['point']}'>{drawn}{text}<table>{scores}</table></td>"


def _bar(name: str, value: str, share: float) -> str:
    filled = min(max(share, 0.0), 1.0)
    return f"<tr style='--share: {filled:.0%}'><th scope='row'>{html.escape(name)}</th><td>{value}</td></tr>"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
