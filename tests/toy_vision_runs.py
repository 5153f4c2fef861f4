"""Training on images through the command line, and looking at what each rank did."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor
from toy_runs import fit_config, run_config
from toy_vision import BINS, KINDS, TEXT_PARTS, Bases, reward_of

from rslit.scenes import World, write_world


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


class RankRecord(Callback):
    """Saves what each rank saw and has at the end.

    Args:
        folder: Where to; a file for each rank.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.advantages: list[Tensor] = []
        self.features: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if "advantages" in batch:
            self.advantages.append(batch["advantages"])
        self.features.append(batch.get("image_features", batch.get("pixel_values")))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        held = {
            "trained": pl_module.policy_state(),
            "scores": float(trainer.callback_metrics.get("objective/scores", 0)),
        }
        seen = {"advantages": self.advantages, "features": self.features}
        torch.save(held | seen, self.folder / f"{trainer.global_rank}.pt")


# -- runs through the command line ----------------------------------------------------------------------------------

_CONFIGS: dict[str, dict[str, Any]] = {
    "captioning": {
        "rewards": [
            {"class_path": "rslit.rewards.cider.CiderReward"},
            {"class_path": "rslit.rewards.bleu.BleuReward", "init_args": {"n": 1}},
            reward_of("letter_e"),
        ],
        "data": ("CaptioningDataModule", "KarpathyCaptions"),
        "module": "CaptioningModule",
    },
    "vqa": {
        "rewards": [{"class_path": "rslit.rewards.VqaAccuracyReward"}, reward_of("letter_e"), reward_of("letter_a")],
        "data": ("VqaDataModule", "VqaV2"),
        "module": "VqaModule",
        "init": {"prompt": "question: {} answer:"},
    },
    "grounding": {
        "rewards": [
            {"class_path": "rslit.rewards.IoUReward"},
            {"class_path": "rslit.rewards.BoxHitReward", "init_args": {"sizes": ["small"], "small_below": 150}},
        ],
        "data": ("GroundingDataModule", "RefCoco"),
        "module": "GroundingModule",
        "init": {
            "codec": {"class_path": "rslit.vision.box_codecs.FlorenceBoxCodec", "init_args": {"bins": BINS}},
            "cross_entropy": 1.0,
            "reinforce": 5.0,
        },
    },
}
_DATA = {
    "CaptioningDataModule": "rslit.datamodules.captioning",
    "VqaDataModule": "rslit.datamodules.vqa",
    "GroundingDataModule": "rslit.datamodules.grounding",
}


def vision_config(task: str, root: Path, reward: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    """A run on a tiny world in `root`/world that trains in about a second; `extra` is merged in, dotted keys by `__`.

    The image encoder is frozen; the training reward is the first of the evaluation's.
    """
    about, world = copy.deepcopy(_CONFIGS[task]), root / "world"
    if not world.exists():
        write_world(world, World(12, 6, 1, 32))
    module, source = about["data"]
    model = {
        "class_path": f"rslit.modules.{about['module']}",
        "init_args": {
            "policy": {"base": str(Bases(root)[KINDS[task]]), "trained": TEXT_PARTS[task]},
            "reward": reward or copy.deepcopy(about["rewards"][0]),
            "evaluation_rewards": about["rewards"],
            "sampling": {"samples": 2, "max_new_tokens": 6},
            "evaluation": {"max_new_tokens": 6},
            "minibatches": 2,
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
            **about.get("init", {}),
        },
    }
    data = {
        "class_path": f"{_DATA[module]}.{module}",
        "init_args": {
            "source": {"class_path": f"rslit.vision.files.{source}", "init_args": {"folder": str(world)}},
            "batch_size": 4,
            "rollouts_per_epoch": 2,
            "eval_items": 6,
        },
    }
    return run_config(model, data, extra)


def fit_vision(task: str, write: Callable[..., Path], root: Path, name: str, *extra: str, **config: Any) -> Path:
    """Trains through the command line and returns the ingredients' folder."""
    return fit_config(write, vision_config(task, root, **config), root, name, *extra)
