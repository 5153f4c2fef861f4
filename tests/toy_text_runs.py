"""Training a text module without the command line, and looking at what each rank did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from toy_text import QUESTIONS, prompt_batch

from rslit.modules import TextModule
from rslit.rollouts import RolloutLoader


class Rounds:
    """The same batch some times over. Lightning takes a list for several loaders."""

    def __init__(self, batch: Any, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return iter([self.batch] * self.count)


class Ledger(DummyLogger):
    """Keeps what is logged once a rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, float]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if "objective/scores" in metrics:
            self.lines.append(dict(metrics))

    def column(self, name: str) -> list[float]:
        return [line[name] for line in self.lines]


def train(
    module: TextModule, root: Path, rollouts: int = 2, questions: Sequence[str] = QUESTIONS, **options: Any
) -> Ledger:
    """Trains for one Lightning epoch of some rollouts, all on the same prompts; `options` are the trainer's."""
    ledger = Ledger()
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": ledger,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": root,
        "limit_val_batches": 0,
    }
    resume = options.pop("ckpt_path", None)
    batches = Rounds(prompt_batch(module, questions), rollouts)
    loader = RolloutLoader(batches, module, epochs=module.epochs, minibatches=module.minibatches)
    Trainer(**given | options).fit(module, loader, batches, ckpt_path=resume)
    return ledger


class RankRecord(Callback):
    """Saves what each rank has at the end, and when its updates were stopped."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.stopped: list[bool] = []
        self.tokens: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.stopped.append(pl_module._stopped)
        self.tokens.append(batch["tokens"])

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        trained = {k: p.detach().clone() for k, p in pl_module.named_parameters() if p.requires_grad}
        state = pl_module.experience_state()
        held = {"trained": trained, "kl": state["kl"], "kl_logged": state["stats"]["objective/kl"]}
        torch.save(held | {"stopped": self.stopped, "tokens": self.tokens}, self.folder / f"{trainer.global_rank}.pt")
