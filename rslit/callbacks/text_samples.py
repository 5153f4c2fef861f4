"""What a language policy writes, where a person can read it: tables in TensorBoard, a page of every λ."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from rslit.errors import RslitError
from rslit.front.files import write_bytes
from rslit.modules import InterpolationEvaluator, TextModule
from rslit.samples import Samples

__all__ = ["TextSamplesCallback"]

_TEMPLATE = Path(__file__).with_name("text_samples.html")
_CELL = 400


class TextSamplesCallback(Callback):
    """Shows what is written, with every reward.

    While training, two tables go to TensorBoard (tab *Text*): ``samples/rollout``, answers of the epoch's last rollout
    with the training rewards, and ``samples/validation``, answers to held-out prompts with the evaluation rewards.
    After a sweep, ``<dirpath>/index.html`` shows the answers to the same prompts at every λ, at the initialisation and
    by MORL, and ``<dirpath>/samples.jsonl`` holds them for programs. Under several processes, those of the first.
    """

    def __init__(self, count: int = 8, dirpath: str | None = None) -> None:
        """Takes how much to show.

        Args:
            count: Prompts.
            dirpath: Folder of a sweep's page; default ``<default_root_dir>/samples``.
        """
        if count < 1:
            raise RslitError(f"TextSamplesCallback.count must be at least 1, got {count}")
        self.count = count
        self.dirpath = dirpath
        self._held: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what writes no text."""
        module = getattr(pl_module, "module", pl_module)
        if not isinstance(module, TextModule):
            raise RslitError(f"TextSamplesCallback shows what a TextModule writes, not a {type(module).__name__}")

    # -- while training -------------------------------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs answers of the last rollout."""
        assert isinstance(pl_module, TextModule), "setup refuses others"
        if pl_module.latest is not None:
            self._log(trainer, "samples/rollout", samples_table(pl_module.latest, self.count))

    def _log(self, trainer: Trainer, name: str, table: str) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.add_text(name, table, trainer.global_step)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keeps the first batches until there are enough prompts."""
        self._keep(outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keeps the first batches until there are enough prompts."""
        self._keep(outputs)

    def _keep(self, outputs: Any) -> None:
        first = [batch[0] if isinstance(batch, list) else batch for batch in self._held]
        if sum(map(len, first)) < self.count:
            self._held.append(outputs["samples"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the table, or writes the page of a sweep."""
        self._show(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the table, or writes the page of a sweep."""
        self._show(trainer, pl_module)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        held, self._held = self._held, []
        if trainer.sanity_checking or not held:
            return
        if not isinstance(pl_module, InterpolationEvaluator):
            self._log(trainer, "samples/validation", samples_table(held[0], self.count))
            return
        if not trainer.is_global_zero:
            return
        rows = sweep_rows(pl_module.points, held, self.count)
        root = Path(self.dirpath or Path(trainer.default_root_dir) / "samples")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(root / "samples.jsonl", lines.encode())
        title = f"What the soups of {' and '.join(pl_module.ingredients)} write"
        write_bytes(root / "index.html", samples_page(title, rows).encode())
        rank_zero_info(f"answers at every λ: {root / 'index.html'}")


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
    """One row per prompt and point, prompt by prompt.

    Args:
        points: Kind and label of each point.
        batches: For each batch, the samples of every point.
        count: Prompts.
    """
    rows: list[dict[str, Any]] = []
    for samples in batches:
        for k in range(len(samples[0])):
            if len(rows) == count * len(points):
                return rows
            for (kind, label), own in zip(points, samples, strict=True):
                scores = {name: float(values[k]) for name, values in own.scores.items()}
                rows.append(
                    {
                        "item": own.items[k],
                        "point": kind,
                        "label": label,
                        "question": own["question"][k],
                        "prefix": own["prefix"][k],
                        "response": own["response"][k],
                        "scores": {name: None if math.isnan(v) else v for name, v in scores.items()},
                    }
                )
    return rows


def samples_page(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A page that needs no script and no network: a card per prompt, a line per point.

    Args:
        title: Heading.
        rows: What :func:`sweep_rows` gives.
    """
    names = list(rows[0]["scores"])
    values = {name: [r["scores"][name] for r in rows if r["scores"][name] is not None] for name in names}
    bounds = {name: (min(found, default=0.0), max(found, default=1.0)) for name, found in values.items()}
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
    cells = "".join(_score(row["scores"][name], *bounds[name]) for name in names)
    answer = html.escape(row["response"]) or "<i>nothing</i>"
    label = html.escape(row["label"].replace(",", ", "))
    return f"<tr class='{html.escape(row['point'])}'><th>{label}</th><td>{answer}</td>{cells}</tr>"


def _score(value: float | None, low: float, high: float) -> str:
    if value is None:
        return "<td class='score'>–</td>"
    share = 100 * (value - low) / (high - low) if high > low else 50
    return f"<td class='score' style='--share: {share:.0f}%'>{value:.2f}</td>"
