"""Configurations of runs on the point environment, and the runs, for tests of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rslit.cli import main


def terms(name: str, **weights: float) -> dict[str, Any]:
    return {"class_path": "rslit.rewards.TermsReward", "init_args": {"name": name, "terms": weights}}


RISKY = terms("risky", x_velocity=1.0)
CAUTIOUS = terms("cautious", x_velocity=1.0, energy=-1.0)


def merge(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value
    return base


def point_config(reward: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    """A run on the point environment that trains in about a second; `extra` is merged in, dotted keys by `__`."""
    config: dict[str, Any] = {
        "seed_everything": 3,
        "ckpt_path": "last",
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 3,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "rslit.callbacks.SoupCallback", "init_args": {"every_n_epochs": 1}}],
        },
        "model": {
            "class_path": "rslit.modules.LocomotionModule",
            "init_args": {
                "env": {"class_path": "toy_env.PointEnvironment", "init_args": {"episode_length": 15}},
                "reward": reward or RISKY,
                "evaluation_rewards": [RISKY, CAUTIOUS],
                "policy_layers": [8],
                "value_layers": [8],
                "unroll_length": 5,
                "epochs": 2,
                "minibatches": 2,
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
            },
        },
        "data": {
            "class_path": "rslit.datamodules.LocomotionDataModule",
            "init_args": {"num_envs": 8, "rollouts_per_epoch": 3, "eval_episodes": 6},
        },
    }
    return merge_dotted(config, extra)


def merge_dotted(config: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Merges values into a configuration, the parts of their keys joined by `__`."""
    for dotted, value in extra.items():
        node: dict[str, Any] = {}
        leaf = node
        *path, last = dotted.split("__")
        for key in path:
            leaf = leaf.setdefault(key, {})
        leaf[last] = value
        merge(config, node)
    return config


def rslit_apart(cwd: Path, *args: str, timeout: int = 300) -> None:
    """Runs the command line in processes of its own: a strategy leaves its process group behind."""
    done = subprocess.run(
        [sys.executable, "-m", "rslit", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={k: v for k, v in os.environ.items() if k != "PL_GLOBAL_SEED"} | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def fit(write: Callable[..., Path], root: Path, name: str, *extra: str, **config: Any) -> Path:
    """Trains on the point environment through the command line and returns the ingredient."""
    path = write(point_config(**config), f"{name}.yaml")
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", str(root / name), *extra]) == 0
    return root / name / "ingredients" / "last"
