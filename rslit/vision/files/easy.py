"""The package `easy_vqa`: 5,000 small images of one shape each, 48,000 questions, 13 answers."""

from __future__ import annotations

from pathlib import Path

from rslit.errors import RslitError
from rslit.vision.files.base import Part, QuestionSource
from rslit.vision.rows import QuestionRow

__all__ = ["EasyVqa"]


class EasyVqa(QuestionSource):
    """The package's own images and questions, each with a single answer; its test part is held out."""

    def place(self, part: Part) -> str:
        """See the base class."""
        return f"easy_vqa ({'train' if part == 'train' else 'test'})"

    def read(self, part: Part) -> list[QuestionRow]:
        """One row a question; `item` is its place in the package's list.

        Raises:
            RslitError: The package is not installed.
        """
        try:
            import easy_vqa
        except ImportError:
            raise RslitError("data.source: EasyVqa needs the package easy-vqa: pip install 'rslit[vision]'") from None
        if part == "train":
            asked, files = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
        else:
            asked, files = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
        images = {number: Path(file) for number, file in files.items()}
        return [
            QuestionRow(str(place), images[number], question, (answer,))
            for place, (question, answer, number) in enumerate(zip(*asked, strict=True))
        ]
