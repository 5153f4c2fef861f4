"""Cells of pictures, words and bars, drawn with Pillow.

Lengths are in units of a cell; a sheet's scale says how many pixels a unit has.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

__all__ = ["ANSWER", "CELL", "MUTED", "TARGET", "Bar", "Box", "Element", "Picture", "Words", "arrange", "fitted"]

CELL = 224
"""Width of a cell, and the longer side of its picture, in units."""

Box = Sequence[float]
"""x0, y0, x1, y1 in pixels of the original image."""

INK, MUTED, PAPER, RULE, FILL = "#1d2733", "#566272", "#ffffff", "#dde1e7", "#cfe1f5"
# Of Okabe and Ito's colours, two that everyone tells apart; line and dashes say the same without colour.
TARGET, ANSWER = "#009e73", "#e69f00"
_GAP, _PADDING = 5, 12


class Element(ABC):
    """A part of a cell."""

    @abstractmethod
    def image(self, width: int, scale: int) -> Image.Image:
        """Draws it `width` pixels wide, as high as it needs."""


@dataclass(frozen=True)
class Words(Element):
    """A paragraph, cut off after some lines."""

    text: str
    size: int = 13
    colour: str = INK
    bold: bool = False
    lines: int = 5

    def image(self, width: int, scale: int) -> Image.Image:
        """See the base class."""
        font, step = _font(self.size * scale, self.bold), round(1.3 * self.size * scale)
        lines = _wrapped(self.text, font, width, self.lines)
        drawn = Image.new("RGB", (width, step * len(lines)), PAPER)
        pen = ImageDraw.Draw(drawn)
        for k, line in enumerate(lines):
            pen.text((0, step * k), line, self.colour, font)
        return drawn


@dataclass(frozen=True)
class Bar(Element):
    """A number with its name, on a bar that is filled in part."""

    name: str
    value: str
    share: float

    def image(self, width: int, scale: int) -> Image.Image:
        """See the base class."""
        font, height = _font(12 * scale), 18 * scale
        drawn = Image.new("RGB", (width, height), PAPER)
        pen = ImageDraw.Draw(drawn)
        filled = round(min(max(self.share, 0), 1) * width)
        if filled:
            pen.rectangle((0, 0, filled - 1, height - 1), FILL)
        edge = 4 * scale
        room = width - 3 * edge - font.getlength(self.value)
        pen.text((edge, height // 2), _wrapped(self.name, font, room, 1)[0], MUTED, font, anchor="lm")
        pen.text((width - edge, height // 2), self.value, INK, font, anchor="rm")
        return drawn


@dataclass(frozen=True)
class Picture(Element):
    """An image with boxes: the right one as a line, answers dashed and, if there are several, numbered.

    Attributes:
        source: The image.
        target: The right box.
        answers: Boxes that were answered.
        numbers: The number of each, or none.
        side: Length of the longer side, in units.
    """

    source: Image.Image
    target: Box | None = None
    answers: Sequence[Box] = ()
    numbers: Sequence[int] = ()
    side: int = CELL

    def image(self, width: int, scale: int) -> Image.Image:
        """See the base class."""
        picture = fitted(self.source, min(self.side * scale, width))
        drawn = Image.new("RGB", (width, picture.height), PAPER)
        drawn.paste(picture)
        pen = ImageDraw.Draw(drawn)
        # White images would have no edge on white paper.
        pen.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=RULE, width=scale)
        ratio = picture.width / self.source.width, picture.height / self.source.height
        if self.target is not None:
            corners = _inside(self.target, ratio, picture.size, scale)
            _outline(pen, corners, PAPER, 4 * scale)
            _outline(pen, corners, TARGET, 2 * scale)
        places = [_inside(box, ratio, picture.size, scale) for box in self.answers]
        for corners in places:
            _outline(pen, corners, INK, 4 * scale)
            _outline(pen, corners, ANSWER, 2 * scale, dash=6 * scale)
        for k in range(len(self.numbers)):
            self._number(pen, places[k], k, scale)
        return drawn

    def _number(self, pen: ImageDraw.ImageDraw, corners: Sequence[float], k: int, scale: int) -> None:
        side = 14 * scale
        # Boxes that begin at the same corner have their numbers side by side.
        x, y = min(corners[0], corners[2]) + k * side, min(corners[1], corners[3])
        pen.rectangle((x, y, x + side, y + side), INK)
        pen.text((x + side / 2, y + side / 2), str(self.numbers[k]), ANSWER, _font(11 * scale, bold=True), anchor="mm")


def fitted(image: Image.Image, side: int) -> Image.Image:
    """An image whose longer side is `side` pixels; pixels of a small one stay sharp squares."""
    ratio = side / max(image.size)
    size = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    if ratio <= 1:
        return image.resize(size, Image.Resampling.LANCZOS)
    whole = -int(-ratio // 1)  # no factor but a whole one makes all squares alike
    squares = image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    return squares.resize(size, Image.Resampling.BOX)


def arrange(rows: Sequence[Sequence[Sequence[Element]]], scale: int = 1, rules: bool = True) -> Image.Image:
    """Draws rows of cells, each row as high as its highest cell.

    Args:
        rows: Cells by row, each a sequence of elements from top to bottom.
        scale: Pixels of a unit.
        rules: Whether there is a line between two rows.
    """
    drawn = [[[e.image(CELL * scale, scale) for e in cell] for cell in row] for row in rows]
    gap, padding = _GAP * scale, _PADDING * scale
    heights = [max(sum(part.height + gap for part in cell) for cell in row) + 2 * padding - gap for row in drawn]
    step = CELL * scale + padding
    sheet = Image.new("RGB", (max(map(len, drawn)) * step + padding, sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(drawn, heights, strict=True):
        if top and rules:
            pen.rectangle((0, top, sheet.width, top + scale - 1), RULE)
        for k, cell in enumerate(row):
            y = top + padding
            for part in cell:
                sheet.paste(part, (padding + k * step, y))
                y += part.height + gap
        top += height
    return sheet


@functools.cache
def _font(pixels: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # Pillow's own font has no λ, no é and no dash. Matplotlib, which plots the fronts, brings one that has.
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    # The other engine gives up on some control characters, and a policy may write any.
    return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float, most: int) -> list[str]:
    """Lines that fit; a word that is wider than a line is broken, a no-break space is none to break at."""
    lines = [""]
    for word in re.split(r"[ \t\r\n]+", text.strip()):
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
        if len(lines) > most:
            break
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(f"{last} …") > width:
        last = last[:-1]
    return [*lines[: most - 1], f"{last} …"]


def _inside(box: Box, ratio: tuple[float, float], size: tuple[int, int], scale: int) -> list[float]:
    """Corners in pixels of the picture, moved inwards where half of the line would be cut off."""
    edge = 2 * scale
    corners = [value * ratio[k % 2] for k, value in enumerate(box)]
    return [min(max(value, edge), size[k % 2] - 1 - edge) for k, value in enumerate(corners)]


def _outline(pen: ImageDraw.ImageDraw, corners: Sequence[float], colour: str, width: int, dash: int = 0) -> None:
    """A frame around the corners, `width` pixels thick, with dashes and gaps of `dash` pixels if that is not 0."""
    (x0, x1), (y0, y1) = (sorted(round(value) for value in corners[k::2]) for k in (0, 1))
    half = width // 2
    for low, high in _stretches(x0 - half, x1 + half, dash):
        for y in (y0, y1):
            pen.rectangle((low, y - half, high - 1, y + half - 1), colour)
    for low, high in _stretches(y0 - half, y1 + half, dash):
        for x in (x0, x1):
            pen.rectangle((x - half, low, x + half - 1, high - 1), colour)


def _stretches(low: int, high: int, dash: int) -> list[tuple[int, int]]:
    if not dash:
        return [(low, high)]
    return [(start, min(start + dash, high)) for start in range(low, high, 2 * dash)]
