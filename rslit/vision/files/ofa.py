"""OFA's TSV files: one row a line, the image in it as base64.

Images stay in the file, which may have many gigabytes: reading notes where each one is.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rslit.errors import RslitError
from rslit.vision.files.base import CaptionSource, Part, QuestionSource, RegionSource, different
from rslit.vision.files.parsing import text
from rslit.vision.images import image_size
from rslit.vision.rows import CaptionRow, QuestionRow, RegionRow, StoredImage, region

__all__ = ["OfaCaptions", "OfaQuestions", "OfaRegions"]


@dataclass(frozen=True)
class TsvImage(StoredImage):
    """A base64 cell of a TSV file.

    Attributes:
        path: The file.
        line: Line of the file, from 1.
        start: The cell's first byte in the file.
        length: Bytes of the cell.
    """

    path: Path
    line: int
    start: int
    length: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    def read(self) -> bytes:
        """See the base class."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            cell = file.read(self.length)
        try:
            return base64.b64decode(cell.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        except binascii.Error as error:
            raise RslitError(
                f"{self}: the image is no base64 ({error}); is it in another column? Set data.source's columns"
            ) from error


@dataclass(frozen=True)
class _Line:
    where: str
    item: str
    image: TsvImage
    texts: tuple[str, ...]


def _lines(path: Path, columns: Sequence[int]) -> Iterator[_Line]:
    """Lines with the columns (id, image, texts…)."""
    start = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                cells = line.rstrip(b"\r\n").split(b"\t")
                if max(columns) >= len(cells):
                    raise RslitError(
                        f"data.source: {path}:{number} has {len(cells)} columns, and columns {list(columns)} (from 0: "
                        f"id, image, …) need {max(columns) + 1}; set data.source's columns as the file has them"
                    )
                before = sum(len(cell) + 1 for cell in cells[: columns[1]])
                image = TsvImage(path, number, start + before, len(cells[columns[1]]))
                item, *texts = (cells[k].decode() for k in (columns[0], *columns[2:]))
                yield _Line(f"{path}:{number}", item.strip(), image, tuple(texts))
                start += len(line)
    except FileNotFoundError:
        raise RslitError(f"data.source: {path} does not exist; put it there or give its place") from None
    except UnicodeDecodeError as error:
        raise RslitError(f"data.source: {path} is no UTF-8 text ({error.reason}); fetch it again") from error


class _Files:
    """The two files of a source, and the columns of what is in them."""

    def __init__(self, train: str, eval: str, columns: Sequence[int], names: str) -> None:
        different(train, eval, "train and eval")
        if len(columns) != names.count(",") + 1 or min(columns) < 0:
            raise RslitError(f"data.source: columns are the places of {names}, from 0, got {list(columns)}")
        self.files: dict[Part, Path] = {"train": Path(train).expanduser(), "eval": Path(eval).expanduser()}
        self.columns = tuple(columns)

    def place(self, part: Part) -> str:
        return str(self.files[part])

    def lines(self, part: Part) -> Iterator[_Line]:
        return _lines(self.files[part], self.columns)

    def grouped(self, part: Part) -> Iterator[list[_Line]]:
        """Lines of one id together, in the order of their first."""
        groups: dict[str, list[_Line]] = {}
        for line in self.lines(part):
            groups.setdefault(line.item, []).append(line)
        yield from groups.values()


class OfaCaptions(_Files, CaptionSource):
    """OFA's captions: id, image id, captions joined by ``&&``, objects, image.

    Lines of one id, as in OFA's first stage with one caption each, make one row.
    """

    def __init__(self, train: str, eval: str, columns: Sequence[int] = (0, 4, 2)) -> None:
        """Takes the places; nothing is read yet.

        Args:
            train: The TSV file to train on.
            eval: The one that is held out.
            columns: Places of id, image and captions, from 0: OFA's ``selected_cols``.
        """
        super().__init__(train, eval, columns, "id, image, captions")

    def read(self, part: Part) -> list[CaptionRow]:
        """See the class."""
        rows = []
        for lines in self.grouped(part):
            parts = [(line, caption) for line in lines for caption in line.texts[0].split("&&")]
            captions = tuple(text(caption, line.where, "a caption") for line, caption in parts)
            rows.append(CaptionRow(lines[0].item, lines[0].image, captions))
        return rows


class OfaQuestions(_Files, QuestionSource):
    """OFA's VQA: id, image id, question, answers as ``confidence|!+answer`` joined by ``&&``, objects, image.

    A confidence is the VQA accuracy of an answer: 0.3, 0.6, 0.9, 1.0 for one, two, three, four or more of the ten
    annotators. The row gets each answer that often; if one has 1.0 it fills up to ten, so VQA accuracy is what the file
    says. Lines of one id make one row.
    """

    def __init__(self, train: str, eval: str, columns: Sequence[int] = (0, 5, 2, 3)) -> None:
        """Takes the places; nothing is read yet.

        Args:
            train: The TSV file to train on.
            eval: The one that is held out.
            columns: Places of id, image, question and answers, from 0: OFA's ``selected_cols`` without objects.
        """
        super().__init__(train, eval, columns, "id, image, question, answers")

    def read(self, part: Part) -> list[QuestionRow]:
        """See the class."""
        rows = []
        for lines in self.grouped(part):
            first = lines[0]
            confidences = {answer: c for line in lines for answer, c in _confidences(line)}
            question = text(first.texts[0], first.where, "the question")
            rows.append(QuestionRow(first.item, first.image, question, _annotators(confidences)))
        return rows


class OfaRegions(_Files, RegionSource):
    """OFA's RefCOCO: id, image id, expression, box as ``x0,y0,x1,y1`` in pixels, image."""

    def __init__(self, train: str, eval: str, columns: Sequence[int] = (0, 4, 2, 3)) -> None:
        """Takes the places; nothing is read yet.

        Args:
            train: The TSV file to train on.
            eval: The one that is held out.
            columns: Places of id, image, expression and box, from 0: OFA's ``selected_cols``.
        """
        super().__init__(train, eval, columns, "id, image, expression, box")

    def read(self, part: Part) -> list[RegionRow]:
        """See the class."""
        rows = []
        for line in self.lines(part):
            expression = text(line.texts[0], line.where, "the expression")
            try:
                box = [float(value) for value in line.texts[1].split(",")]
            except ValueError:
                raise RslitError(
                    f"data.source: {line.where}: the box must be x0,y0,x1,y1, got {line.texts[1]!r:.60}; is it in "
                    f"another column? Set data.source's columns"
                ) from None
            size = image_size(line.image, line.item)
            rows.append(region(line.item, line.image, expression, box, size, line.where))
        return rows


def _confidences(line: _Line) -> Iterator[tuple[str, float]]:
    for part in line.texts[1].split("&&"):
        confidence, mark, answer = part.partition("|!+")
        try:
            value = float(confidence) if mark else math.nan
        except ValueError:
            value = math.nan
        if not 0 < value <= 1 or not answer.strip():
            raise RslitError(
                f"data.source: {line.where}: an answer must be confidence|!+answer, the confidence in (0, 1], "
                f"got {part!r:.60}; is it in another column? Set data.source's columns"
            )
        yield answer.strip(), value


def _annotators(confidences: dict[str, float]) -> tuple[str, ...]:
    times = {answer: math.ceil(round(10 * value / 3, 6)) for answer, value in confidences.items()}
    best = max(confidences, key=lambda answer: confidences[answer])
    if confidences[best] == 1.0:
        times[best] = max(times[best], 10 - sum(times.values()) + times[best])
    return tuple(answer for answer in sorted(times, key=lambda a: -times[a]) for _ in range(times[answer]))
