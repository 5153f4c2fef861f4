"""What a language policy writes, where a person can read it: tables in TensorBoard, a page of every λ."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from rslit.callbacks.samples import SamplesCallback, bar_share, point_rows, score_bounds
from rslit.modules import TextModule
from rslit.samples import Samples

__all__ = ["TextSamplesCallback"]

_TEMPLATE = Path(__file__).with_name("text_samples.html")
_CELL = 400


class TextSamplesCallback(SamplesCallback):
    """Shows what is written, with every reward.

    While training, two tables go to TensorBoard (tab *Text*): ``samples/rollout``, answers of the epoch's last rollout
    with the training rewards, and ``samples/validation``, answers to held-out prompts with the evaluation rewards.
    After a sweep, ``<dirpath>/index.html`` shows the answers to the same prompts at every λ, at the initialisation and
    by MORL, and ``<dirpath>/samples.jsonl`` holds them for programs. Under several processes, those of the first.
    """

    shows = TextModule

    def log_samples(self, logger: TensorBoardLogger, name: str, samples: Samples, step: int) -> None:
        """A table, in the tab *Text*."""
        logger.experiment.add_text(name, samples_table(samples, self.count), step)

    def describe(self, samples: Samples, k: int) -> dict[str, Any]:
        """Question, the answer's given beginning, and the answer."""
        return _texts(samples, k)

    def files(self, experts: Sequence[str], rows: Sequence[Mapping[str, Any]], samples: Samples) -> dict[str, bytes]:
        """The page."""
        return {"index.html": samples_page(f"What the soups of {' and '.join(experts)} write", rows).encode()}


def samples_table(samples: Samples, count: int) -> str:
    """A Markdown table of the first samples: question, answer, and one column per score."""
    names = list(samples.scores)
    lines = [["question", "answer", *names], ["---"] * (2 + len(names))]
    for row in range(min(count, len(samples))):
        numbers = [f"{float(samples.scores[name][row]):.3g}" for name in names]
        lines.append([_cell(samples["question"][row]), _cell(samples["response"][row]), *numbers])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    short = text if len(text) <= _CELL else f"{text[:_CELL]} …"
    return html.escape(" ".join(short.split())).replace("|", "&#124;")


def sweep_rows(
    points: Sequence[tuple[str, str]], batches: Sequence[Sequence[Samples]], count: int
) -> list[dict[str, Any]]:
    """The rows of text samples; see :func:`rslit.callbacks.samples.point_rows`."""
    return point_rows(points, batches, count, _texts)


def _texts(samples: Samples, k: int) -> dict[str, Any]:
    return {name: samples[name][k] for name in ("question", "prefix", "response")}


def samples_page(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A page that needs no script and no network: a card per prompt, a line per point.

    Args:
        title: Heading.
        rows: What :func:`sweep_rows` gives.
    """
    names = list(rows[0]["scores"])
    bounds = score_bounds([row["scores"] for row in rows])
    cards: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cards.setdefault(str(row["item"]), []).append(row)
    body = "\n".join(_card(own, names, bounds) for own in cards.values())
    text = _TEMPLATE.read_text(encoding="utf-8")
    return text.replace("{{title}}", html.escape(title)).replace("{{cards}}", body)


def _card(rows: Sequence[Mapping[str, Any]], names: Sequence[str], bounds: Mapping[str, tuple[float, float]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = "\n".join(_line(row, names, bounds) for row in rows)
    question, prefix = html.escape(rows[0]["question"]), html.escape(rows[0]["prefix"].strip())
    begun = f"<p class='given'>Begun with: <b>{prefix}</b></p>" if prefix else ""
    return (
        f"<article><h2>{html.escape(str(rows[0]['item']))}</h2><p class='question'>{question}</p>{begun}"
        f"<table><thead><tr><th>model</th><th>answer</th>{head}</tr></thead><tbody>{lines}</tbody></table></article>"
    )


def _line(row: Mapping[str, Any], names: Sequence[str], bounds: Mapping[str, tuple[float, float]]) -> str:
    cells = "".join(_score(row["scores"][name], bounds[name]) for name in names)
    answer = html.escape(row["response"]) or "<i>nothing</i>"
    label = html.escape(row["label"].replace(",", ", "))
    return f"<tr class='{html.escape(row['point'])}'><th>{label}</th><td>{answer}</td>{cells}</tr>"


def _score(value: float | None, bounds: tuple[float, float]) -> str:
    if value is None:
        return "<td class='score'>–</td>"
    return f"<td class='score' style='--share: {bar_share(value, bounds):.0%}'>{value:.2f}</td>"
