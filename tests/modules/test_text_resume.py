"""A text run that is interrupted and goes on writes the same bytes as one that is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_text import text_config

from rslit.cli import main

Write = Callable[..., Path]
#: Everything that has a state: momentum, an adaptive controller, updates that stop.
CONTROLLED = {
    "model__init_args__kl": {"coefficient": 0.1, "target": 0.2, "horizon": 20},
    "model__init_args__target_kl": 0.02,
    "model__init_args__epochs": 3,
}


def contents(folder: Path, end: str = "") -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(f"*{end}")) if p.is_file()}
    assert files
    return files


def test_interrupted_between_epochs_and_in_the_middle_of_one(
    text_root: Path, write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"every_n_train_steps": 1, "save_top_k": -1, "dirpath": "steps"},
    }
    config = text_config(text_root, trainer__max_epochs=2, **CONTROLLED)
    between = write_config(config, "between.yaml")
    config["trainer"]["callbacks"].append(own)
    config["ckpt_path"] = None
    middle = write_config(config, "middle.yaml")
    monkeypatch.chdir(text_root)

    def fit(path: Path, name: str, *extra: str) -> None:
        assert main(["fit", "--config", str(path), "--trainer.default_root_dir", name, *extra]) == 0

    fit(middle, "once")
    fit(between, "twice", "--trainer.max_epochs", "1")
    fit(between, "twice")
    # 12 steps an epoch, 6 a rollout: within the second rollout of the first epoch and the first of the second.
    for step in (8, 16):
        (checkpoint,) = (text_root / "steps").glob(f"*step={step}.ckpt")
        fit(middle, f"from{step}", "--ckpt_path", str(checkpoint))
    once = contents(text_root / "once/ingredients", ".safetensors")
    assert once.keys() == {
        f"{n}/{f}.safetensors" for n in ("last", "initialisation") for f in ("weights", "adapter_model")
    }
    assert once["last/weights.safetensors"] != once["initialisation/weights.safetensors"]
    assert contents(text_root / "twice/ingredients", ".safetensors") == once
    for step in (8, 16):
        assert contents(text_root / f"from{step}/ingredients/last", ".safetensors") == {
            name.removeprefix("last/"): data for name, data in once.items() if name.startswith("last/")
        }
    states = [torch.load(path, weights_only=True) for path in (text_root / "steps").glob("*.ckpt")]
    assert any(state["rslit"]["ranks"][0]["stopped"] for state in states), "updates were stopped"
    assert len({state["rslit"]["ranks"][0]["kl"]["coefficient"] for state in states}) == 4, "the coefficient moved"


@pytest.mark.slow
def test_killed_in_the_first_and_in_the_second_epoch(text_root: Path, write_config: Write) -> None:
    path = write_config(text_config(text_root, function="mortal", trainer__max_epochs=3, **CONTROLLED))

    def fit(name: str, death: int) -> int:
        (text_root / name).mkdir(exist_ok=True)
        env = {k: v for k, v in os.environ.items() if k != "PL_GLOBAL_SEED"}
        command = [sys.executable, "-m", "rslit", "fit", "--config", str(path), "--trainer.default_root_dir", "run"]
        done = subprocess.run(
            command,
            cwd=text_root / name,
            capture_output=True,
            text=True,
            timeout=300,
            env=env | {"OMP_NUM_THREADS": "1", "MORTAL": str(death)},
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
        return done.returncode

    assert fit("alone", 0) == 0
    # Two rollouts an epoch: in the second of the first epoch, in the second of the second, and then no more.
    assert [fit("killed", death) for death in (2, 4, 0)] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    alone, killed = (contents(text_root / name / "run/ingredients") for name in ("alone", "killed"))
    assert alone.keys() == killed.keys()
    for name, data in alone.items():
        assert data == killed[name], name
