"""What a source of vision-language rows is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Literal, TypeVar

from rslit.errors import RslitError
from rslit.vision.rows import CaptionRow, ImageRow, QuestionRow, RegionRow

__all__ = ["CaptionSource", "Part", "QuestionSource", "RegionSource", "RowT", "Source", "different"]

Part = Literal["train", "eval"]
RowT = TypeVar("RowT", bound=ImageRow)


class Source(ABC, Generic[RowT]):
    """Rows to train on and rows that are held out."""

    @abstractmethod
    def read(self, part: Part) -> list[RowT]:
        """All rows of a part, in an order that is always the same."""

    @abstractmethod
    def place(self, part: Part) -> str:
        """Where a part comes from, in words."""

    def rows(self, part: Part) -> list[RowT]:
        """All rows of a part.

        Raises:
            RslitError: The files are missing, broken, do not fit one another, or hold no rows, or two of one id.
        """
        found = self.read(part)
        if not found:
            raise RslitError(f"data.source: {self.place(part)} has no rows; give a split or file that has")
        seen: set[str] = set()
        for row in found:
            if row.item in seen:
                raise RslitError(f"data.source: {self.place(part)} has item {row.item} twice; keep one of the two")
            seen.add(row.item)
        return found


class CaptionSource(Source[CaptionRow]):
    """Images with captions."""


class QuestionSource(Source[QuestionRow]):
    """Images with questions and answers."""


class RegionSource(Source[RegionRow]):
    """Images with expressions that refer to boxes."""


def different(train: object, held_out: object, names: str) -> None:
    """Refuses to evaluate on what is trained on.

    Raises:
        RslitError: Both are the same.
    """
    if train == held_out:
        raise RslitError(f"data.source: training and evaluation are both '{train}'; give two in {names}")
