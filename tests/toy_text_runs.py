"""Training a text module without the command line, and looking at what each rank did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import toy_runs
from lightning.pytorch import Callback
from torch import Tensor
from toy_runs import Ledger
from toy_text import QUESTIONS, prompt_batch

from rslit.modules import TextModule


def train(
    module: TextModule, root: Path, rollouts: int = 2, questions: Sequence[str] = QUESTIONS, **options: Any
) -> Ledger:
    """Trains for one Lightning epoch of some rollouts, all on the same prompts; `options` are the trainer's."""
    return toy_runs.train(module, prompt_batch(module, questions), root, rollouts, **options)


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
