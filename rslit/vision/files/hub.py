"""Data sets of a hub, their local copies, and tables of one's own, through `datasets`.

Images stay in the table and are fetched row by row: as an `Image` column, as bytes, or as paths of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rslit.errors import RslitError
from rslit.tables import open_table
from rslit.vision.files.base import CaptionSource, Part, QuestionSource, RegionSource
from rslit.vision.files.parsing import locate, text
from rslit.vision.images import image_size
from rslit.vision.rows import CaptionRow, ImageSource, QuestionRow, RegionRow, StoredImage, region

__all__ = ["HubCaptions", "HubQuestions", "HubRegions"]

# Where data sets keep the text of a record.
_TEXT_KEYS = ("raw", "sent", "caption", "answer", "text")


@dataclass(frozen=True)
class TableImage(StoredImage):
    """A cell of a table that holds an encoded image.

    Attributes:
        place: The table, in words.
        row: Row of the table, from 0.
        column: Name of the column.
        table: The column, undecoded, as `datasets` has it.
    """

    place: str
    row: int
    column: str
    table: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.place}, row {self.row}"

    def read(self) -> bytes:
        """See the base class."""
        cell = self.table[self.row][self.column]
        if isinstance(cell, Mapping):  # what `datasets` keeps of an image: its bytes, or where it was
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, str):
            return Path(cell).read_bytes()
        if not isinstance(cell, bytes):
            raise RslitError(f"image {self}: column '{self.column}' has no image; take the row out")
        return cell


class _Table:
    """Where a source's two parts are, and their rows."""

    def __init__(
        self,
        path: str,
        image: str = "image",
        id: str | None = None,
        eval_path: str | None = None,
        subset: str | None = None,
        train_split: str = "train",
        eval_split: str = "test",
    ) -> None:
        """Takes places and columns.

        Args:
            path: Hub name, folder or file.
            image: Column of images: images, bytes, or paths beside the file.
            id: Column of ids; default the row's number.
            eval_path: Where the held-out rows are; default `path`.
            subset: Configuration on the hub; in a local copy the folder of that name.
            train_split: Split to train on; slices as in ``train[:90%]`` are fine.
            eval_split: Split that is held out.
        """
        bare = [split.partition("[")[0] for split in (train_split, eval_split)]
        if eval_path in (None, path) and bare[0] == bare[1] and not ("[" in train_split and "[" in eval_split):
            raise RslitError(
                f"data.source: '{train_split}' and '{eval_split}' share rows: slice both (train[:90%] and "
                f"train[90%:]), or name two splits"
            )
        if eval_path is None and "[" not in eval_split and Path(path).expanduser().is_file():
            raise RslitError(
                f"data.source: {path} is one file: give eval_path with the held-out rows, or slices "
                f"(train_split: train[:90%], eval_split: train[90%:])"
            )
        self.paths: dict[Part, str] = {"train": path, "eval": eval_path or path}
        self.subset = subset
        self.splits: dict[Part, str] = {"train": train_split, "eval": eval_split}
        self.image, self.id = image, id

    def place(self, part: Part) -> str:
        return f"{self.paths[part]} (split '{self.splits[part]}')"

    def entries(self, part: Part, columns: Sequence[str]) -> Iterator[tuple[str, ImageSource, Mapping[str, Any]]]:
        """Item, image and the other columns of each row."""
        table = open_table(self.paths[part], self.splits[part], subset=self.subset)
        needed = [name for name in (self.id, *columns) if name is not None]
        missing = [name for name in (self.image, *needed) if name not in table.column_names]
        if missing:
            raise RslitError(
                f"data.source: {self.place(part)} has no column '{missing[0]}'; it has: {', '.join(table.column_names)}"
            )
        rows = list(table.select_columns(needed))
        items = [str(k) if self.id is None else str(row[self.id]) for k, row in enumerate(rows)]
        yield from zip(items, self._images(table, part, items), rows, strict=True)

    def _images(self, table: Any, part: Part, items: list[str]) -> list[ImageSource]:
        import datasets

        column = table.select_columns([self.image])
        feature = column.features[self.image]
        if isinstance(feature, datasets.Value) and "string" in feature.dtype:
            place = Path(self.paths[part]).expanduser()
            root = place.parent if place.is_file() else place
            files = dict(zip(items, column[self.image], strict=True))
            found = locate(files, root, place)
            return [found[item] for item in items]
        if isinstance(feature, datasets.Image):
            column = column.cast_column(self.image, datasets.Image(decode=False))
        return [TableImage(self.place(part), row, self.image, column) for row in range(len(column))]


def _texts(value: Any, place: str, what: str) -> tuple[str, ...]:
    """Texts of a cell: a text, a list of them, or of records with one of the usual keys, or such records by column."""
    if isinstance(value, Mapping):
        keys = [key for key in _TEXT_KEYS if key in value]
        if not keys:
            raise RslitError(
                f"data.source: {place}: {what} has records without {', '.join(_TEXT_KEYS)} (they have: "
                f"{', '.join(map(str, value))}); make it a column of texts"
            )
        value = value[keys[0]]
    if isinstance(value, str) or value is None:
        return (text(value, place, what),)
    found = tuple(t for one in value for t in _texts(one, place, what))
    if not found:
        raise RslitError(f"data.source: {place}: {what} is empty; add its texts or take the row out")
    return found


class HubCaptions(_Table, CaptionSource):
    """Captions from a table: a hub's data set, a copy of one, or a file (parquet, JSONL, JSON, CSV, TSV)."""

    def __init__(self, path: str, captions: str | list[str] = "captions", **table: Any) -> None:
        """Takes places and columns.

        Args:
            path: Hub name, folder or file.
            captions: Column of captions (a text, a list of texts or of records), or several columns.
            table: See the base class.
        """
        super().__init__(path, **table)
        self.captions = [captions] if isinstance(captions, str) else list(captions)

    def read(self, part: Part) -> list[CaptionRow]:
        """See the class."""
        rows = []
        for item, image, row in self.entries(part, self.captions):
            what = f"the captions of item {item}"
            captions = tuple(t for name in self.captions for t in _texts(row[name], self.place(part), what))
            rows.append(CaptionRow(item, image, captions))
        return rows


class HubQuestions(_Table, QuestionSource):
    """Questions and answers from a table: a hub's data set, a copy of one, or a file."""

    def __init__(self, path: str, question: str = "question", answers: str = "answers", **table: Any) -> None:
        """Takes places and columns.

        Args:
            path: Hub name, folder or file.
            question: Column of questions.
            answers: Column of answers: a text, a list of texts or of records.
            table: See the base class.
        """
        super().__init__(path, **table)
        self.question, self.answers = question, answers

    def read(self, part: Part) -> list[QuestionRow]:
        """See the class."""
        place = self.place(part)
        return [
            QuestionRow(
                item,
                image,
                text(row[self.question], place, f"the question of item {item}"),
                _texts(row[self.answers], place, f"the answers of item {item}"),
            )
            for item, image, row in self.entries(part, [self.question, self.answers])
        ]


class HubRegions(_Table, RegionSource):
    """Expressions and boxes from a table: a hub's data set, a copy of one, or a file."""

    def __init__(
        self,
        path: str,
        expression: str = "expression",
        box: str = "bbox",
        box_format: Literal["xywh", "xyxy"] = "xywh",
        width: str | None = None,
        height: str | None = None,
        **table: Any,
    ) -> None:
        """Takes places and columns.

        Args:
            path: Hub name, folder or file.
            expression: Column of expressions: a text, or a list of texts or of records, each of which makes a row.
            box: Column of boxes in pixels.
            box_format: ``xywh`` (corner, width and height, as in COCO) or ``xyxy`` (two corners).
            width: Column of the image's width in pixels; default the image's own, read from its header.
            height: The same of its height.
            table: See the base class.
        """
        super().__init__(path, **table)
        if (width is None) != (height is None):
            raise RslitError("data.source: width and height are two columns: give both, or neither")
        self.expression, self.box, self.box_format = expression, box, box_format
        self.width, self.height = width, height

    def read(self, part: Part) -> list[RegionRow]:
        """See the class."""
        place = self.place(part)
        sizes = [name for name in (self.width, self.height) if name is not None]
        rows = []
        for item, image, row in self.entries(part, [self.expression, self.box, *sizes]):
            box = self._corners(row[self.box], item, place)
            size = (int(row[sizes[0]]), int(row[sizes[1]])) if sizes else image_size(image, item)
            expressions = _texts(row[self.expression], place, f"the expression of item {item}")
            many = not isinstance(row[self.expression], str)
            for k, expression in enumerate(expressions):
                rows.append(region(f"{item}-{k}" if many else item, image, expression, box, size, place))
        return rows

    def _corners(self, cell: Any, item: str, place: str) -> Sequence[float]:
        try:
            x0, y0, third, fourth = map(float, cell)
        except (TypeError, ValueError):
            raise RslitError(
                f"data.source: {place}: the box of item {item} must be a list of four numbers, got {cell!r:.60}; "
                f"mend it or take the row out"
            ) from None
        return (x0, y0, x0 + third, y0 + fourth) if self.box_format == "xywh" else (x0, y0, third, fourth)
