"""Trains on one fixed experience, split over the ranks; saves each rank's first gradients and last weights.

Usage: python ddp_run.py OUT RANKS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensordict import TensorDict
from toy_env import PointEnvironment

from rslit.datamodules import LocomotionDataModule
from rslit.modules import LocomotionModule
from rslit.rewards import TermsReward
from rslit.rollouts import Experience

torch.set_num_threads(1)
ROWS = 48


class Fixed(LocomotionModule):
    """Instead of acting, takes its share of an experience that all runs have in common."""

    def rollout(self, batch: Any) -> Experience:
        stream = torch.Generator().manual_seed(self.rollouts_done)
        rows = {
            "observations": torch.randn(ROWS, 2, generator=stream),
            "raw_actions": torch.randn(ROWS, 2, generator=stream),
            "logprobs": torch.randn(ROWS, generator=stream) - 2,
            "advantages": torch.randn(ROWS, generator=stream) * 3 + 1,
            "returns": torch.randn(ROWS, generator=stream),
            "noise": torch.randn(ROWS, 2, generator=stream),
        }
        self.rollouts_done += 1
        self._rollout_stats = {"objective/scores": 0.0}
        share = {k: v[self.global_rank :: self.trainer.world_size] for k, v in rows.items()}
        self._pending_statistics = share["observations"]
        return TensorDict(share, batch_size=[ROWS // self.trainer.world_size])


class Record(Callback):
    def __init__(self, out: Path) -> None:
        self.out = out
        self.gradients: dict[str, torch.Tensor] | None = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self.gradients is None:
            self.gradients = {k: p.grad.clone() for k, p in pl_module.named_parameters() if p.grad is not None}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        held = {"gradients": self.gradients, "weights": pl_module.state_dict()}
        torch.save(held, self.out / f"{trainer.world_size}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    out, ranks = Path(sys.argv[1]), int(sys.argv[2])
    torch.manual_seed(0)
    module = Fixed(
        PointEnvironment(),
        TermsReward({"x_velocity": 1.0}, "risky"),
        policy_layers=[8],
        value_layers=[8],
        epochs=1,
        minibatches=1,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=2,
        gradient_clip_val=0.5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Record(out)],
    )
    trainer.fit(module, LocomotionDataModule(num_envs=4, rollouts_per_epoch=3))
