"""Prompts to answer: what a source of them is, and the source for data of one's own."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rslit.errors import RslitError
from rslit.tables import Row, rows

__all__ = ["Part", "Prompt", "PromptSource", "PromptTable", "Tally"]

Part = Literal["train", "eval"]


@dataclass(frozen=True)
class Prompt:
    """One thing that the policy is asked.

    Attributes:
        item: Its id: the same in every run, unique within its part.
        question: What is asked, or the text to work on; never empty.
        reference: A good answer by a person, "" if there is none.
        instruction: What to do with the question, "" if it speaks for itself.
    """

    item: str
    question: str
    reference: str = ""
    instruction: str = ""


@dataclass
class Tally:
    """How many rows there were and which filter took how many."""

    rows: int = 0
    taken: dict[str, int] = field(default_factory=dict)

    def take(self, reason: str) -> None:
        """Counts one that is left out."""
        self.taken[reason] = self.taken.get(reason, 0) + 1

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} by '{reason}'" for reason, count in self.taken.items())
        return f"{self.rows:,} rows" + (f", of which filters took {reasons}" if reasons else "")


class PromptSource(ABC):
    """Reads the prompts of one task.

    A task says which `columns` it needs and makes a prompt of a row in :meth:`read`.

    Attributes:
        columns: Columns that every row must have.
        once: Name of the filter that keeps the first prompt of each id and puts them in the order of their ids, as the
            paper's code does; None keeps all in the order of the rows, and numbers repeated ids.
        limits: Rows to stop after, by part, counted after `read` and before `once`; None reads all.
    """

    columns: Sequence[str] = ()
    once: str | None = None

    def __init__(
        self,
        path: str,
        eval_path: str | None = None,
        *,
        subset: str | None = None,
        folder: str | None = None,
        train_split: str = "train",
        eval_split: str = "test",
        streaming: bool = False,
    ) -> None:
        """Takes the places; nothing is read yet.

        Args:
            path: Hub name, folder, or file (JSONL, JSON, CSV, TSV, parquet).
            eval_path: The same for the held-out prompts; default `path`.
            subset: Configuration on the hub; in a local copy the folder of that name.
            folder: Folder inside the data set to keep to.
            train_split: Split to train on; slices as in ``train[:90%]`` are fine.
            eval_split: Split that is held out.
            streaming: Fetch no more of a hub's data set than is read.
        """
        bare = [re.sub(r"\[.*", "", split) for split in (train_split, eval_split)]
        if eval_path in (None, path) and bare[0] == bare[1] and not ("[" in train_split and "[" in eval_split):
            raise RslitError(
                f"data.source: '{train_split}' and '{eval_split}' share rows: "
                f"slice both (train[:90%] and train[90%:]), or name two splits"
            )
        self.path = path
        self.eval_path = eval_path
        self.subset = subset
        self.folder = folder
        self.splits: dict[Part, str] = {"train": train_split, "eval": eval_split}
        self.streaming = streaming
        self.limits: dict[Part, int | None] = {"train": None, "eval": None}

    @abstractmethod
    def read(self, row: Row) -> Prompt | str:
        """A prompt from a row, with the id in `item` ("" if the data have none), or the filter that leaves it out."""

    def place(self, part: Part) -> str:
        """Where a part comes from, in words."""
        return f"{(part == 'eval' and self.eval_path) or self.path} (split '{self.splits[part]}')"

    def prompts(self, part: Part) -> tuple[list[Prompt], Tally]:
        """All prompts of a part, and what became of the other rows.

        Raises:
            RslitError: The data cannot be read, lack a column, or no row is left.
        """
        path = (part == "eval" and self.eval_path) or self.path
        if self.eval_path is None and "[" not in self.splits["eval"] and Path(path).expanduser().is_file():
            raise RslitError(
                f"data.source: {path} is one file: give eval_path with the held-out prompts, "
                f"or slices (train_split: train[:90%], eval_split: train[90%:])"
            )
        tally = Tally()
        found = list(self._read_all(path, part, tally))
        found = self._once(found, tally) if self.once else list(_numbered(found))
        if not found:
            raise RslitError(f"data.source: no prompt is left of {self.place(part)}: {tally}")
        return found, tally

    def _read_all(self, path: str, part: Part, tally: Tally) -> Iterator[Prompt]:
        kept, limit = 0, self.limits[part]
        read = rows(path, self.splits[part], subset=self.subset, folder=self.folder, streaming=self.streaming)
        for row in read:
            if not tally.rows:
                self._check_columns(row, part)
            tally.rows += 1
            got = self.read(row)
            if isinstance(got, Prompt) and not got.question:
                got = "empty question"
            if isinstance(got, str):
                tally.take(got)
                continue
            yield got if got.item else replace(got, item=_digest(got))
            kept += 1
            if kept == limit:
                return

    def _check_columns(self, row: Row, part: Part) -> None:
        missing = [name for name in self.columns if name not in row]
        if missing:
            raise RslitError(
                f"data.source: {self.place(part)} has no column '{missing[0]}'; it has: {', '.join(map(str, row))}"
            )

    def _once(self, found: list[Prompt], tally: Tally) -> list[Prompt]:
        first: dict[str, Prompt] = {}
        for prompt in found:
            if prompt.item in first:
                tally.take(str(self.once))
            else:
                first[prompt.item] = prompt
        # Ids that are numbers in order of their values, as NumPy's unique gives them, others as text.
        numbers = all(re.fullmatch(r"-?\d+", item) for item in first)
        return [first[item] for item in sorted(first, key=(lambda item: (int(item), "")) if numbers else None)]


def _digest(prompt: Prompt) -> str:
    text = "\0".join((prompt.instruction, prompt.question, prompt.reference))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _numbered(found: Iterable[Prompt]) -> Iterator[Prompt]:
    """Repeated ids get -2, -3, ...: a prompt that is in the data twice is asked twice."""
    seen: dict[str, int] = {}
    for prompt in found:
        seen[prompt.item] = count = seen.get(prompt.item, 0) + 1
        yield prompt if count == 1 else replace(prompt, item=f"{prompt.item}-{count}")


class PromptTable(PromptSource):
    """Prompts from a table of one's own: a column of questions, and more if there are."""

    def __init__(
        self,
        path: str,
        question: str,
        reference: str | None = None,
        id: str | None = None,
        instruction: str = "",
        eval_path: str | None = None,
        min_chars: int = 1,
        max_chars: int | None = None,
        subset: str | None = None,
        folder: str | None = None,
        train_split: str = "train",
        eval_split: str = "test",
        streaming: bool = False,
    ) -> None:
        """Takes places and columns.

        Args:
            path: Hub name, folder, or file (JSONL, JSON, CSV, TSV, parquet).
            question: Column of what is asked, or of the text to work on.
            reference: Column of reference answers.
            id: Column of ids; without one an item's id is a hash of its texts.
            instruction: What to do with each question: a text, no column.
            eval_path: Where the held-out prompts are; default `path`.
            min_chars: Shorter questions are left out.
            max_chars: Longer questions are left out.
            subset: Configuration on the hub; in a local copy the folder of that name.
            folder: Folder inside the data set to keep to.
            train_split: Split to train on; slices as in ``train[:90%]`` are fine.
            eval_split: Split that is held out.
            streaming: Fetch no more of a hub's data set than is read.
        """
        super().__init__(
            path,
            eval_path,
            subset=subset,
            folder=folder,
            train_split=train_split,
            eval_split=eval_split,
            streaming=streaming,
        )
        self.question, self.reference, self.id = question, reference, id
        self.columns = [name for name in (question, reference, id) if name is not None]
        self.instruction = instruction
        self.min_chars, self.max_chars = min_chars, max_chars

    def read(self, row: Row) -> Prompt | str:
        """The row's columns, stripped."""
        question, reference, item = (
            "" if name is None or row[name] is None else str(row[name]).strip()
            for name in (self.question, self.reference, self.id)
        )
        if len(question) < self.min_chars:
            return f"question shorter than {self.min_chars} characters" if question else "empty question"
        if self.max_chars is not None and len(question) > self.max_chars:
            return f"question longer than {self.max_chars} characters"
        return Prompt(item, question, reference, self.instruction)
