"""VQA v2: a file of questions and a file of their annotators' answers."""

from __future__ import annotations

import sys
from pathlib import Path

from rslit.errors import RslitError
from rslit.vision.files.base import Part, QuestionSource, different
from rslit.vision.files.parsing import entries, get, image_root, images_by_number, read_json, some, text, whole
from rslit.vision.rows import QuestionRow

__all__ = ["VqaV2", "vqa_rows"]


def vqa_rows(questions: Path, annotations: Path, folder: Path) -> list[QuestionRow]:
    """Reads the two files of one split.

    Args:
        questions: `questions` with `question_id`, `image_id` and `question`.
        annotations: `annotations` with `question_id`, `image_id` and `answers`, each with `answer`.
        folder: Where the split's images are; their names end with the image's number.

    Returns:
        One row a question, in the order of the questions; `item` is its `question_id`.

    Raises:
        RslitError: A file is missing or of another kind, the two are of different splits, an image is missing.
    """
    asked = read_json(questions)
    if not annotations.exists() and "test" in questions.name:
        raise RslitError(
            f"data.source: {questions} has test questions, whose answers are not public ({annotations.name} does not "
            f"exist); give train2014 or val2014, whose answers are"
        )
    answers = _answers(annotations)
    images = images_by_number(folder)
    rows: list[QuestionRow] = []
    for entry in entries(asked, "questions", questions):
        item = str(get(entry, "question_id", questions, "a question"))
        what = f"question {item}"
        number = whole(entry, "image_id", questions, what)
        if item not in answers:
            raise _misfit(questions, annotations, f"{what} has no answers in it")
        about, given = answers[item]
        if about != number:
            raise _misfit(questions, annotations, f"{what} is about image {number}, its answers are about {about}")
        if number not in images:
            raise RslitError(
                f"data.source: {questions}: image {number} of {what} is not in {folder} (…{number:012}.jpg or .png); "
                f"put it there, or give the images and questions of one split"
            )
        question = text(get(entry, "question", questions, what), questions, what)
        rows.append(QuestionRow(item, images[number], question, given))
    more = answers.keys() - {row.item for row in rows}
    if more:
        raise _misfit(questions, annotations, f"it answers question {min(more)}, which is not asked")
    return rows


def _answers(path: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Image number and answers by question; 400,000 questions share few answers, so each is kept once."""
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for entry in entries(read_json(path), "annotations", path):
        item = str(get(entry, "question_id", path, "an annotation"))
        what = f"the annotation of question {item}"
        answers = [get(answer, "answer", path, f"an answer in {what}") for answer in get(entry, "answers", path, what)]
        given = some(answers, path, f"the answer in {what}", "add the answers, or take the question out of both files")
        found[item] = whole(entry, "image_id", path, what), tuple(map(sys.intern, given))
    return found


def _misfit(questions: Path, annotations: Path, why: str) -> RslitError:
    return RslitError(
        f"data.source: {annotations} does not fit {questions}: {why}; give questions and answers of one split"
    )


class VqaV2(QuestionSource):
    """VQA v2, or data in its format.

    ``<vqa>/v2_OpenEnded_mscoco_<split>_questions.json``, ``<vqa>/v2_mscoco_<split>_annotations.json`` and the images
    in ``<images>/<split>/``.
    """

    def __init__(
        self,
        folder: str,
        vqa: str = "vqa",
        images: str | None = None,
        train_split: str = "train2014",
        eval_split: str = "val2014",
    ) -> None:
        """Takes the places; nothing is read yet.

        Args:
            folder: The data folder.
            vqa: Folder of the questions and answers, inside `folder`; "." for `folder` itself.
            images: Folder with a folder of each split; default ``<folder>/images``, or `folder` without one.
            train_split: Split to train on.
            eval_split: Split that is held out.
        """
        different(train_split, eval_split, "train_split and eval_split")
        self.folder = Path(folder).expanduser()
        self.vqa = self.folder / vqa
        self.images = images
        self.splits: dict[Part, str] = {"train": train_split, "eval": eval_split}

    def place(self, part: Part) -> str:
        """See the base class."""
        return str(self.vqa / f"v2_OpenEnded_mscoco_{self.splits[part]}_questions.json")

    def read(self, part: Part) -> list[QuestionRow]:
        """See :func:`vqa_rows`."""
        annotations = self.vqa / f"v2_mscoco_{self.splits[part]}_annotations.json"
        folder = image_root(self.folder, self.images) / self.splits[part]
        return vqa_rows(Path(self.place(part)), annotations, folder)
