"""The five text tasks of the paper: which data, which rows of them, and what is asked.

Filters, order and splits are those of the paper's code (alexrame/rewardedsoups); Table 1 of the paper names the data
and the instructions. One thing is put right: there the question of Stack Exchange and the assistant was looked for
after ``### Input:``, which their prompts have not, so that the reward models were given an empty one. Here question,
reference and instruction are fields of their own.
"""

from __future__ import annotations

import json
from typing import Any

from rslit.datamodules.text_prompts import Prompt, PromptSource
from rslit.errors import RslitError
from rslit.tables import Row

__all__ = ["HelpfulAssistant", "MovieReview", "NewsSummary", "RedditSummary", "StackExchange"]

SUMMARISE = "Generate a one-sentence summary of this post."
REVIEW = "Generate a movie review."

_NEWS_MARK = "(Reuters) -"


class NewsSummary(PromptSource):
    """Reuters news to be summarised: ``argilla/news-summary`` (`id`, `text`, `prediction`: summaries with scores).

    Articles of more than 100 and fewer than 1,500 characters, each id once, in the order of ids. The question is what
    follows "(Reuters) -", the whole text where that is missing (the paper's code made it empty). The reference is the
    summary with the best score, with commas for its full stops, as in the paper's code: a prefix of it must not end the
    sentence.

    Splits are swapped on purpose, as in the paper: training is on "test", the larger one, evaluation on "train".
    """

    columns = ("id", "text", "prediction")
    once = "id seen before"

    def __init__(
        self,
        path: str = "argilla/news-summary",
        eval_path: str | None = None,
        train_split: str = "test",
        eval_split: str = "train",
    ) -> None:
        """Takes the places.

        Args:
            path: Hub name, folder, or file in the data set's own columns.
            eval_path: Where the held-out articles are; default `path`.
            train_split: Split to train on: "test", the larger one.
            eval_split: Split that is held out: "train", the smaller one.
        """
        super().__init__(path, eval_path, train_split=train_split, eval_split=eval_split)

    def read(self, row: Row) -> Prompt | str:
        """See the class."""
        text = str(row["text"] or "")
        if not 100 < len(text) < 1500:
            return "article not of 101 to 1499 characters"
        _, mark, after = text.partition(_NEWS_MARK)
        summaries = _structure(row["prediction"], "prediction") or []
        best = max(summaries, key=lambda s: float(s["score"]), default={"text": ""})
        return Prompt(
            str(row["id"]), (after if mark else text).strip(), best["text"].strip().replace(".", ","), SUMMARISE
        )


class RedditSummary(PromptSource):
    """Reddit posts to be summarised: ``openai/summarize_from_feedback``, comparisons (`info`, `summaries`, `choice`).

    Posts of more than 100 and fewer than 1,200 characters that have an id, each once, in the order of ids. The
    reference is the summary that people chose, in the first comparison of the post.
    """

    columns = ("info", "summaries", "choice")
    once = "post seen before"

    def __init__(
        self,
        path: str = "openai/summarize_from_feedback",
        eval_path: str | None = None,
        subset: str | None = "comparisons",
        train_split: str = "train",
        eval_split: str = "validation",
    ) -> None:
        """Takes the places.

        Args:
            path: Hub name, folder, or file in the data set's own columns.
            eval_path: Where the held-out posts are; default `path`.
            subset: Configuration on the hub; in a local copy the folder of that name.
            train_split: Split to train on.
            eval_split: Split that is held out.
        """
        super().__init__(path, eval_path, subset=subset, train_split=train_split, eval_split=eval_split)

    def read(self, row: Row) -> Prompt | str:
        """See the class."""
        info = _structure(row["info"], "info")
        post = str(info.get("post") or "")
        if info.get("id") is None:
            return "no id"
        if not 100 < len(post) < 1200:
            return "post not of 101 to 1199 characters"
        chosen = _structure(row["summaries"], "summaries")[int(row["choice"])]
        return Prompt(str(info["id"]), post.strip(), chosen["text"].strip(), SUMMARISE)


class StackExchange(PromptSource):
    """Technical questions: ``lvwerra/stack-exchange-paired`` (`qid`, `question`, `response_j`, `response_k`).

    Questions of fewer than 300 characters: of those the first 40,000 rows to train on and 1,000 held out, then each
    question once, in the order of ids. No instruction. The reference is `response_k`, of which the paper's code takes
    the prefix (it is the answer with fewer votes). The paper's code also keeps to prompts of fewer than 512 tokens:
    ``data.max_prompt_tokens: 511``.
    """

    columns = ("qid", "question", "response_k")
    once = "question seen before"

    def __init__(
        self,
        path: str = "lvwerra/stack-exchange-paired",
        eval_path: str | None = None,
        folder: str | None = None,
        train_split: str = "train",
        eval_split: str = "test",
        train_rows: int | None = 40_000,
        eval_rows: int | None = 1_000,
        streaming: bool = True,
    ) -> None:
        """Takes the places.

        Args:
            path: Hub name, folder, or file in the data set's own columns.
            eval_path: Where the held-out questions are; default `path`.
            folder: Folder inside the data set to keep to, e.g. ``data/rl``; default all.
            train_split: Split to train on.
            eval_split: Split that is held out.
            train_rows: Rows that pass the filter to stop after, in training.
            eval_rows: The same of the held-out rows.
            streaming: Fetch no more of the hub's many gigabytes than these rows.
        """
        super().__init__(
            path, eval_path, folder=folder, train_split=train_split, eval_split=eval_split, streaming=streaming
        )
        self.limits = {"train": train_rows, "eval": eval_rows}

    def read(self, row: Row) -> Prompt | str:
        """See the class."""
        question = str(row["question"] or "")
        if len(question) >= 300:
            return "question of 300 characters or more"
        return Prompt(str(row["qid"]), question.strip(), str(row["response_k"] or "").strip())


class MovieReview(PromptSource):
    """Film reviews to be written: ``stanfordnlp/imdb`` (`text`, `label`).

    Every question is the same instruction; what differs are the first words of a person's review, the reference, so
    ``data.prefix_tokens`` belongs to this task. Reviews of more than 200 characters.
    """

    columns = ("text",)

    def __init__(
        self,
        path: str = "stanfordnlp/imdb",
        eval_path: str | None = None,
        train_split: str = "train",
        eval_split: str = "test",
    ) -> None:
        """Takes the places.

        Args:
            path: Hub name, folder, or file in the data set's own columns.
            eval_path: Where the held-out reviews are; default `path`.
            train_split: Split to train on.
            eval_split: Split that is held out.
        """
        super().__init__(path, eval_path, train_split=train_split, eval_split=eval_split)

    def read(self, row: Row) -> Prompt | str:
        """See the class."""
        text = str(row["text"] or "")
        return Prompt("", REVIEW, text.strip()) if len(text) > 200 else "review of 200 characters or fewer"


class HelpfulAssistant(PromptSource):
    """A person's requests to an assistant: ``Anthropic/hh-rlhf`` (`chosen`: a transcript).

    The first thing the person says, of more than 5 and fewer than 100 characters; the reference is the assistant's
    first answer in the transcript that was chosen. No instruction.
    """

    columns = ("chosen",)

    def __init__(
        self,
        path: str = "Anthropic/hh-rlhf",
        eval_path: str | None = None,
        folder: str | None = None,
        train_split: str = "train",
        eval_split: str = "test",
    ) -> None:
        """Takes the places.

        Args:
            path: Hub name, folder, or file in the data set's own columns.
            eval_path: Where the held-out requests are; default `path`.
            folder: Folder inside the data set to keep to, e.g. ``helpful-base``; default all.
            train_split: Split to train on.
            eval_split: Split that is held out.
        """
        super().__init__(path, eval_path, folder=folder, train_split=train_split, eval_split=eval_split)

    def read(self, row: Row) -> Prompt | str:
        """See the class."""
        _, human, rest = str(row["chosen"] or "").partition("\n\nHuman:")
        question, assistant, rest = rest.partition("\n\nAssistant:")
        question = question.strip()
        if not human or not assistant or "\n\nHuman:" in question:
            return "no first exchange"
        if not 5 < len(question) < 100:
            return "request not of 6 to 99 characters"
        return Prompt("", question, rest.partition("\n\nHuman:")[0].strip())


def _structure(value: Any, column: str) -> Any:
    """Lists and records as they are; from CSV, which has neither, as JSON in a cell."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise RslitError(
            f"data.source: column '{column}' must hold lists or records (in CSV: as JSON), got {value[:40]!r}"
        ) from None
