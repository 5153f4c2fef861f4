"""Rows in the formats of the paper's five data sets."""

from __future__ import annotations

from typing import Any


def text(length: int, start: str = "") -> str:
    """A text of exactly `length` characters."""
    return (start + "word " * length)[:length].replace(" ", "_") if length else ""


def news(id: str, length: int = 200, mark: str = "LONDON (Reuters) - ", **more: Any) -> dict[str, Any]:
    """A row of argilla/news-summary."""
    body = text(length - len(mark))
    prediction = [{"text": "Worse one.", "score": 0.1}, {"text": "Shares fell 2.5 points. Badly.", "score": 0.9}]
    return {"id": id, "text": mark + body, "prediction": prediction, "status": "Default", **more}


def reddit(id: str | None, length: int = 200, choice: int = 1) -> dict[str, Any]:
    """A row of openai/summarize_from_feedback, comparisons."""
    summaries = [
        {"text": f" first of {id}", "policy": "sup4", "note": ""},
        {"text": f" second of {id}"} | {"policy": "ref", "note": ""},
    ]
    info = {"id": id, "post": text(length), "title": "A title", "subreddit": "AskReddit"}
    return {"info": info, "summaries": summaries, "choice": choice, "worker": "w", "batch": "batch3", "split": "train"}


def stack(qid: int, length: int = 100, answer: str = "Use a loop.") -> dict[str, Any]:
    """A row of lvwerra/stack-exchange-paired."""
    return {
        "qid": qid,
        "question": text(length),
        "date": "2013",
        "metadata": ["x"],
        "response_j": "j",
        "response_k": answer,
    }


def talk(*turns: str) -> dict[str, Any]:
    """A row of Anthropic/hh-rlhf: turns of the person and the assistant by turns."""
    who = ("Human", "Assistant")
    chosen = "".join(f"\n\n{who[k % 2]}: {turn}" for k, turn in enumerate(turns))
    return {"chosen": chosen, "rejected": chosen}
