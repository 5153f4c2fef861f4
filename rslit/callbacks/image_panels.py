"""Answers about images, and drawn images, as pictures: a panel of a rollout or validation, a sheet of a few over λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from rslit.callbacks.drawing import ANSWER, CELL, MUTED, TARGET, Bar, Element, Picture, Words, arrange
from rslit.callbacks.image_rows import (
    asked,
    by_item,
    chosen_points,
    given,
    number,
    picture_of,
    point_name,
    said,
    shown_scores,
    weights,
)
from rslit.callbacks.samples import bar_share, score_bounds

__all__ = ["panel", "sheet"]

Row = Mapping[str, Any]

_COLUMNS, _ANSWERS, _ITEMS = 4, 5, 4
# Side of a picture that stands beside texts, units.
_SMALL = 150
_LEGEND = (("— right box", TARGET), ("- - answer", ANSWER))


def panel(items: Sequence[Sequence[Row]], images: Mapping[Any, Image.Image]) -> Image.Image:
    """A grid of images, each with what was asked, what was answered, every score, and what people said.

    Args:
        items: The rows of each item, one per answer; see :func:`rslit.callbacks.image_rows.sample_rows`.
        images: The image of each item, or of each file that was drawn.
    """
    cells = [_item(rows, images[picture_of(rows[0])]) for rows in items]
    columns = min(_COLUMNS, len(cells))
    rows: list[Sequence[Sequence[Element]]] = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    legend = _legend(items[0][0])
    return arrange([*rows, [legend]] if legend else rows)


def _item(rows: Sequence[Row], image: Image.Image) -> list[Element]:
    shown = rows[:_ANSWERS]
    boxes = {k: row["box"] for k, row in enumerate(shown, 1) if row.get("box")}
    several = len(shown) > 1
    cell: list[Element] = [
        Picture(image, rows[0].get("target"), list(boxes.values()), list(boxes) if several else ()),
        *_question(rows[0]),
    ]
    for k, row in enumerate(shown, 1):
        place = f"{k}. " if several else ""
        scores = [f"{name}\N{NO-BREAK SPACE}{number(value)}" for name, value in shown_scores(row).items()]
        if "file" in row:
            cell.append(Words(" · ".join(scores), 11, MUTED))
        elif "target" in row:
            cell.append(Words(place + " · ".join([said(row)] * bool(said(row)) + scores), 12))
        else:
            cell += [Words(place + said(row), 14), Words(" · ".join(scores), 11, MUTED)]
    if len(rows) > len(shown):
        cell.append(Words(f"and {len(rows) - len(shown)} more", 11, MUTED))
    return [*cell, *_people(rows[0], 1)]


def sheet(rows: Sequence[Row], images: Mapping[Any, Image.Image], scale: int = 2) -> Image.Image:
    """The first few items at a few λ: a row per item, a column per λ.

    Args:
        rows: The rows of a sweep; see :func:`rslit.callbacks.samples.point_rows`.
        images: The image of each item, or of each file that was drawn.
        scale: Pixels of a unit; a cell is 224 units wide.
    """
    bounds = score_bounds([shown_scores(row) for row in rows])
    items = by_item(rows)[:_ITEMS]
    points = chosen_points(items[0])
    head: list[list[Element]] = [
        [Words("λ of each expert →", 12, MUTED), *_legend(items[0][0])],
        *(_heading(items[0][k]) for k in points),
    ]
    table: list[Sequence[Sequence[Element]]] = [head]
    for own in items:
        side = CELL if "target" in own[0] else _SMALL
        shown = [] if "file" in own[0] else [Picture(images[picture_of(own[0])], own[0].get("target"), side=side)]
        first = [*shown, *_question(own[0]), *_people(own[0], 2)]
        table.append([first, *(_answer(own[k], images[picture_of(own[k])], bounds) for k in points)])
    return arrange(table, scale)


def _answer(row: Row, image: Image.Image, bounds: Mapping[str, tuple[float, float]]) -> list[Element]:
    cell: list[Element] = []
    if "file" in row:
        cell.append(Picture(image))
    if "target" in row:
        cell.append(Picture(image, row["target"], [row["box"]] if row["box"] else []))
    if said(row):
        cell.append(Words(said(row), 16 if "answer" in row else 14, lines=9))
    for name, value in shown_scores(row).items():
        cell.append(Bar(name, number(value), 0 if value is None else bar_share(value, bounds[name])))
    return cell


def _heading(row: Row) -> list[Element]:
    return [Words(point_name(row), 12, bold=True), *(Bar(name, f"{v:.3g}", v) for name, v in weights(row))]


def _legend(row: Row) -> list[Element]:
    return [Words(text, 12, colour, bold=True) for text, colour in _LEGEND] if "target" in row else []


def _question(row: Row) -> list[Element]:
    return [Words(asked(row), 13, bold=True)] if asked(row) else []


def _people(row: Row, most: int) -> list[Element]:
    texts = given(row)
    if "references" in row:
        return [Words(f"person: {text}", 11, MUTED) for text in texts[:most]]
    return [Words(f"people: {', '.join(texts)}", 11, MUTED)] if texts else []
