"""What the runs of tiny pretrained models share: training without the command line, and configurations for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from toy_experiment import merge_dotted

from rslit.cli import main
from rslit.modules import RewardedModule
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
        if any(name.startswith(("loss/", "objective/")) for name in metrics):
            self.lines.append(dict(metrics))

    def column(self, name: str) -> list[float]:
        return [line[name] for line in self.lines]


def adam(rate: float) -> Callable[..., Any]:
    return lambda p: torch.optim.Adam(p, lr=rate)


def train(module: RewardedModule, batch: Any, root: Path, rollouts: int, **options: Any) -> Ledger:
    """Trains for one Lightning epoch of some rollouts, all on the same batch; `options` are the trainer's."""
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
    batches = Rounds(batch, rollouts)
    loader = RolloutLoader(batches, module, epochs=module.epochs, minibatches=module.minibatches)
    Trainer(**given | options).fit(module, loader, batches, ckpt_path=resume)
    return ledger


def run_config(model: dict[str, Any], data: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A run of two epochs that keeps its initialisation; `extra` is merged in, dotted keys by `__`."""
    config: dict[str, Any] = {
        "seed_everything": 3,
        "ckpt_path": "last",
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "rslit.callbacks.SoupCallback", "init_args": {"initialisation": True}}],
        },
        "model": model,
        "data": data,
    }
    return merge_dotted(config, extra)


def fit_config(write: Callable[..., Path], config: dict[str, Any], root: Path, name: str, *extra: str) -> Path:
    """Trains through the command line and returns the ingredients' folder."""
    path = write(config, f"{name}.yaml")
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", str(root / name), *extra]) == 0
    return root / name / "ingredients"
