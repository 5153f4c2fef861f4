"""What callbacks that show samples share: when to look, what to keep of an evaluation, where a sweep's page goes."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from rslit.errors import RslitError
from rslit.front.files import write_bytes
from rslit.modules import InterpolationEvaluator, RewardedModule
from rslit.samples import Samples

__all__ = ["SamplesCallback", "bar_share", "point_rows", "sample_scores", "score_bounds"]

Row = Mapping[str, Any]
"""One answer at one point, as JSON has it: ``item``, ``point``, ``label``, ``scores`` and what the task adds."""


class SamplesCallback(Callback, ABC):
    """Shows samples of the last rollout, of a validation, and of a sweep; under several processes, the first's.

    Attributes:
        shows: The class of modules whose samples it can show. They have ``latest``, the samples of the last rollout.
    """

    shows: ClassVar[type[RewardedModule]]

    def __init__(self, count: int = 8, dirpath: str | None = None) -> None:
        """Takes how much to show.

        Args:
            count: Items: prompts, images, questions.
            dirpath: Folder of a sweep's page; default ``<default_root_dir>/samples``.
        """
        if count < 1:
            raise RslitError(f"{type(self).__name__}.count must be at least 1, got {count}")
        self.count = count
        self.dirpath = dirpath
        self._held: list[Any] = []

    # -- what a kind of samples says ------------------------------------------------------------------------------

    # Not `log`: Lightning puts the module's method of that name into every callback.
    @abstractmethod
    def log_samples(self, logger: TensorBoardLogger, name: str, samples: Samples, step: int) -> None:
        """Shows samples in TensorBoard under `name`."""

    @abstractmethod
    def describe(self, samples: Samples, k: int) -> dict[str, Any]:
        """What sample `k` adds to its row, as JSON can hold it."""

    @abstractmethod
    def files(self, experts: Sequence[str], rows: Sequence[Row], samples: Samples) -> dict[str, bytes]:
        """The files of a sweep by name, ``index.html`` among them.

        Args:
            experts: Names of the experts.
            rows: What :func:`point_rows` gives.
            samples: The samples at the first point, of all rows and perhaps more.
        """

    # -- when -----------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses modules of another kind."""
        module = getattr(pl_module, "module", pl_module)
        if not isinstance(module, self.shows):
            raise RslitError(
                f"{type(self).__name__} shows a {self.shows.__name__}'s samples, not a {type(module).__name__}'s; "
                "take it out of trainer.callbacks"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs answers of the last rollout."""
        module: Any = pl_module
        if module.latest is not None:
            self._log(trainer, "samples/rollout", module.latest)

    def _log(self, trainer: Trainer, name: str, samples: Samples) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                self.log_samples(logger, name, samples, trainer.global_step)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keeps the first batches until there are enough items."""
        self._keep(outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keeps the first batches until there are enough items."""
        self._keep(outputs)

    def _keep(self, outputs: Any) -> None:
        first = [batch[0] if isinstance(batch, list) else batch for batch in self._held]
        if sum(map(len, first)) < self.count:
            self._held.append(outputs["samples"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the samples, or writes the page of a sweep."""
        self._show(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the samples, or writes the page of a sweep."""
        self._show(trainer, pl_module)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        held, self._held = self._held, []
        if trainer.sanity_checking or not held:
            return
        if not isinstance(pl_module, InterpolationEvaluator):
            self._log(trainer, "samples/validation", _joined(held))
            return
        if not trainer.is_global_zero:
            return
        # What experts said on their way would crowd the page, and so would an expert that is MORL as well; a search
        # shows what it began with.
        begun, first = pl_module.points[: len(held[0])], held[0]
        twice = {k for k, own in enumerate(first) if any(own is other for other in first[:k])}
        shown = [k for k, (kind, _) in enumerate(begun) if kind != "trajectory" and k not in twice]
        points = [pl_module.points[k] for k in shown]
        held = [[batch[k] for k in shown] for batch in held]
        rows = point_rows(points, held, self.count, self.describe)
        files = self.files(list(pl_module.ingredients), rows, _joined([batch[0] for batch in held]))
        lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        root = Path(self.dirpath or Path(trainer.default_root_dir) / "samples")
        for name, data in {"samples.jsonl": lines.encode(), **files}.items():
            write_bytes(root / name, data)
        rank_zero_info(f"answers at every λ: {root / 'index.html'}")


def _joined(batches: Sequence[Samples]) -> Samples:
    first = batches[0]
    return Samples(
        [item for batch in batches for item in batch.items],
        {name: [value for batch in batches for value in batch[name]] for name in first.fields},
        {name: torch.cat([batch.scores[name] for batch in batches]) for name in first.scores},
    )


def point_rows(
    points: Sequence[tuple[str, str]],
    batches: Iterable[Sequence[Samples]],
    count: int,
    describe: Callable[[Samples, int], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One row per item and point, item by item.

    Args:
        points: Kind and label of each point.
        batches: For each batch, the samples of every point.
        count: Items.
        describe: What a sample adds to its row.

    Returns:
        Rows with ``item``, ``point`` (the kind), ``label``, what `describe` gives, and ``scores`` by name,
        None where a reward does not apply.
    """
    rows: list[dict[str, Any]] = []
    for samples in batches:
        for k in range(len(samples[0])):
            if len(rows) == count * len(points):
                return rows
            for (kind, label), own in zip(points, samples, strict=True):
                row = {"item": own.items[k], "point": kind, "label": label, **describe(own, k)}
                rows.append({**row, "scores": sample_scores(own, k)})
    return rows


def sample_scores(samples: Samples, k: int) -> dict[str, float | None]:
    """The scores of sample `k` by name, None where a reward does not apply."""
    scores = {name: float(values[k]) for name, values in samples.scores.items()}
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def score_bounds(scores: Sequence[Mapping[str, float | None]]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each score; 0 and 1 of one that never applies.

    Args:
        scores: Scores by name, the same names everywhere.
    """
    values = {name: [own[name] for own in scores] for name in scores[0]}
    applying = {name: [v for v in found if v is not None] for name, found in values.items()}
    return {name: (min(found, default=0.0), max(found, default=1.0)) for name, found in applying.items()}


def bar_share(value: float, bounds: tuple[float, float]) -> float:
    """How much of its bar a score fills, from 0 at the lowest to 1 at the highest; half where all are the same."""
    low, high = bounds
    return (value - low) / (high - low) if high > low else 0.5
