"""The diffusion benchmark's contenders of rslit: training as `rslit fit` runs it, a sweep as `rslit validate` does."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _turns import report
from lightning import __version__
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from rslit.datamodules import RewardedDataModule
from rslit.datamodules.walk import EvaluationBatches
from rslit.diffusion.options import DiffusionOptions, DrawingOptions
from rslit.modules import InterpolationEvaluator, TextToImageModule
from rslit.rewards import ContrastReward

__all__ = ["Once", "training"]


def training(given: argparse.Namespace, rate: float, steps: int, warm_up: int) -> None:
    """Trains with TextToImageModule under Lightning's Trainer, and reports after each round.

    Args:
        given: Of the command line; the contender `kept` keeps latents and embeddings.
        rate: Learning rate.
        steps: Of a round.
        warm_up: Steps that do not count; of `kept` the first pass over the images, if it is longer.
    """
    batches = json.loads((given.folder / "batches.json").read_text())
    for batch in batches:
        batch["image"] = list(map(Path, batch["image"]))
    kept = given.contender == "kept"
    warm_up = max(warm_up, len(batches) * kept)
    total = warm_up + steps * given.rounds

    class Again(RewardedDataModule):
        """The batches again and again."""

        def batches(self) -> list[dict[str, Any]]:
            return [batches[k % len(batches)] for k in range(total)]

        def evaluation_batches(self) -> list[dict[str, Any]]:
            return []

    class Turns(Callback):
        """Times from the end of one round's last step to the end of the next one's."""

        began = 0.0

        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            done = batch_idx + 1 - warm_up
            if done < 0 or done % steps:
                return
            if done == 0:
                count = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
                report(what=f"lightning {__version__}, torch {torch.__version__}", trained=count)
            else:
                report(seconds=time.perf_counter() - self.began, loss=float(outputs["loss"]))
            self.began = time.perf_counter()

    module = TextToImageModule(
        DiffusionOptions(str(given.folder / "pipeline"), trained=given.trained),
        ContrastReward(),  # not asked
        prompt_dropout=0.0,
        cache_gib=4.0 * kept,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=rate),
    )
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        log_every_n_steps=1,
        logger=TensorBoardLogger(given.logs),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=given.logs,
        callbacks=[Turns()],
    ).fit(module, Again())


class Once:
    """A sweep with InterpolationEvaluator: the pipeline is loaded once.

    Args:
        folder: Of the setup.
        logs: Where the scores go.

    Attributes:
        loading: Seconds of the last sweep until the pipeline was there.
    """

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder, self.logs, self.loading = folder, logs, 0.0

    def sweep(self, batch: dict[str, list[Any]], lams: int, steps: int, guidance: float) -> np.ndarray[Any, Any]:
        """Images uint8 (λ, B, H, W, 3)."""
        found: list[np.ndarray[Any, Any]] = []

        class Keep(Callback):
            def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
                found.extend(samples["image"].permute(0, 2, 3, 1).numpy() for samples in outputs["samples"])

        class Prompts(RewardedDataModule):
            def batches(self) -> list[dict[str, Any]]:
                return []

            def evaluation_batches(self) -> EvaluationBatches[Any]:
                return EvaluationBatches([batch], 1, lambda rows: rows[0])

        began = time.perf_counter()
        module = TextToImageModule(
            DiffusionOptions(str(self.folder / "pipeline")),
            ContrastReward(),
            drawing=DrawingOptions(steps, guidance, rows=len(batch["items"])),
        )
        self.loading = time.perf_counter() - began
        grid = [{"a": 1 - k / max(lams - 1, 1), "b": k / max(lams - 1, 1)} for k in range(lams)]
        ingredients = {name: str(self.folder / name) for name in "ab"}
        off: dict[str, Any] = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "logger"), False)
        trainer = Trainer(accelerator="cpu", default_root_dir=self.logs, callbacks=[Keep()], **off)
        trainer.validate(InterpolationEvaluator(module, ingredients, grid), Prompts(), verbose=False)
        return np.stack(found)
