"""FSDP2 by configs/strategy/fsdp2.yaml, on two gloo processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_experiment import CAUTIOUS, RISKY, point_config

from rslit.cli import main
from rslit.front import read_scores
from rslit.soup import Ingredient

STRATEGY = Path(__file__).parent.parent / "configs" / "strategy" / "fsdp2.yaml"
Write = Callable[..., Path]

pytestmark = pytest.mark.slow


def run(verb: str, config: Path, root: str, *extra: str, cwd: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PL_GLOBAL_SEED"} | {"OMP_NUM_THREADS": "1"}
    args = ["-m", "rslit", verb, "--config", str(config), "--trainer.default_root_dir", root, *extra]
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=180, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr


def test_sharded_interrupted_and_resumed_training_equals_ddp(tmp_path: Path, write_config: Write) -> None:
    """The odd width leaves ranks shards of unequal sizes; the tight clip shows a norm that is not that of the whole."""
    config = write_config(
        point_config(
            model__init_args__policy_layers=[7], trainer__gradient_clip_val=0.05, trainer__check_val_every_n_epoch=3
        )
    )
    run("fit", config, "whole", "--trainer.strategy", "ddp", "--trainer.devices", "2", cwd=tmp_path)
    sharded = ["--config", str(STRATEGY)]
    run("fit", config, "sharded", *sharded, "--trainer.max_epochs", "1", cwd=tmp_path)
    half = torch.load(tmp_path / "sharded/checkpoints/last.ckpt", weights_only=True)
    run("fit", config, "sharded", *sharded, cwd=tmp_path)
    whole, shards = (
        torch.load(tmp_path / n / "checkpoints/last.ckpt", weights_only=True) for n in ("whole", "sharded")
    )
    assert whole["state_dict"].keys() == shards["state_dict"].keys()
    assert len(whole["state_dict"]) == 4 + 4 + 3  # policy, value network, statistics
    moved = 0.0
    for key, value in whole["state_dict"].items():
        assert type(shards["state_dict"][key]) is torch.Tensor, "written whole"
        torch.testing.assert_close(shards["state_dict"][key], value, rtol=1e-5, atol=1e-5)
        moved = max(moved, float((value - half["state_dict"][key]).abs().max()))
    assert moved > 1e-2
    assert whole["rslit"]["fingerprint"] == shards["rslit"]["fingerprint"]

    one, two = (Ingredient.load(tmp_path / n / "ingredients/last") for n in ("whole", "sharded"))
    assert two.shapes() == one.shapes()
    assert two.shapes()["net.0.weight"] == (7, 2)
    assert two.info.trainable_keys == one.info.trainable_keys
    assert two.info.initialisation == one.info.initialisation
    assert two.info.step == one.info.step == 3 * 3 * 2 * 2
    for key, value in one.state_dict().items():
        torch.testing.assert_close(two.tensor(key), value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(two.tensor(key), shards["state_dict"][f"policy.{key}"], rtol=0, atol=0)
    assert one.info.scores["risky"] == pytest.approx(two.info.scores["risky"], abs=1e-4)


def sweep_config(root: Path, write: Write, **module: Any) -> Path:
    start = str(root / "start" / "ingredients" / "last")
    init = {"model__init_args__initialisation": start}
    for name, given in (
        ("start", {}),
        ("risky", {"reward": RISKY, **init}),
        ("cautious", {"reward": CAUTIOUS, **init}),
    ):
        path = write(point_config(**given), f"{name}.yaml")
        assert main(["fit", "--config", str(path), "--trainer.default_root_dir", str(root / name)]) == 0
    task = point_config()["model"]
    task["init_args"].update(module)
    return write(
        {
            "seed_everything": 3,
            "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
            # Episodes 0, 2, 4 are rank 0's, in two batches; 1 and 3 rank 1's, in one.
            "data": {
                "class_path": "rslit.datamodules.LocomotionDataModule",
                "init_args": {"eval_episodes": 5, "eval_batch_size": 2},
            },
            "model": {
                "class_path": "rslit.modules.InterpolationEvaluator",
                "init_args": {
                    "module": task,
                    "lattice": 3,
                    "ingredients": {n: str(root / n / "ingredients/last") for n in ("risky", "cautious")},
                    "initialisation": start,
                },
            },
        },
        "sweep.yaml",
    )


@pytest.mark.parametrize("batched", [True, False])
def test_a_sharded_sweep_scores_as_one_process_does(tmp_path: Path, write_config: Write, batched: bool) -> None:
    # A near wall ends episodes at different steps: ranks make different numbers of forward passes.
    env = {"class_path": "toy_env.PointEnvironment", "init_args": {"episode_length": 15, "wall": 0.7}}
    config = sweep_config(tmp_path, write_config, batched_soups=batched, env=env)
    assert main(["validate", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "one")]) == 0
    run("validate", config, "two", "--config", str(STRATEGY), cwd=tmp_path)
    one, two = (
        read_scores(tmp_path / n / "scores.parquet").frame.sort_values(["point", "reward", "item"])
        for n in ("one", "two")
    )
    assert len(one) == len(two) == (4 + 1) * 2 * 5
    assert list(one["point"]) == list(two["point"])
    assert list(one["item"]) == list(two["item"])
    np.testing.assert_allclose(two["score"], one["score"], rtol=1e-4, atol=1e-5)
    assert one.groupby("point")["score"].sum().nunique() == 5, "the points differ"
