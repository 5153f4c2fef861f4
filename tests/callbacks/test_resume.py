from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from toy_experiment import RISKY, point_config

from rslit.callbacks import AtomicCheckpointIO, ResumeCheckpoint
from rslit.cli import main
from rslit.errors import RslitError

HERE = Path(__file__).parent.parent
Write = Callable[..., Path]


def contents(folder: Path) -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    assert files
    return files


def killed_run(cwd: Path, seed: int, kills: int, least: float, most: float, config: Path) -> None:
    cwd.mkdir()
    args = ["fit", "--config", str(config), "--trainer.default_root_dir", "run"]
    done = subprocess.run(
        [sys.executable, str(HERE / "fork_runs.py"), str(seed), str(kills), str(least), str(most), *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.rsplit("killed ", 1)[1]) >= kills


@pytest.mark.slow
@pytest.mark.parametrize("resumable", [True, False])
def test_killed_at_random_moments_and_resumed_equals_left_alone(
    tmp_path: Path, write_config: Write, resumable: bool
) -> None:
    config = point_config(
        trainer__max_epochs=40,
        trainer__check_val_every_n_epoch=2,
        trainer__callbacks=[
            {
                "class_path": "rslit.callbacks.SoupCallback",
                "init_args": {"every_n_epochs": 2, "keep": 4, "monitor": "val/locomotion/risky"},
            }
        ],
        model__init_args__env__init_args__resumable=resumable,
    )
    path = write_config(config)
    killed_run(tmp_path / "alone", 0, 0, 0, 0, path)
    killed_run(tmp_path / "killed", 17 + resumable, 12, 0.05, 0.9, path)
    alone, killed = (contents(tmp_path / name / "run" / "ingredients") for name in ("alone", "killed"))
    assert alone.keys() == killed.keys()
    # Every second of 40 epochs would be 20 snapshots; at most 4 are kept: every 16th (40 // 16 = 2; 40 // 8 = 5).
    assert {k.split("/")[0] for k in alone} == {"best", "last", "epoch=0016", "epoch=0032"}
    for name, data in alone.items():
        assert data == killed[name], name


class Crash(Callback):
    """The power goes after some minibatches."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.after:
            raise SystemError("no power")


def test_resumed_within_an_epoch_equals_uninterrupted(tmp_path: Path, write_config: Write, monkeypatch: Any) -> None:
    """One epoch of 3 rollouts of 4 minibatches, saved after the second rollout, broken off within the third."""
    own = [
        {"class_path": "rslit.callbacks.SoupCallback"},
        {"class_path": "rslit.callbacks.ResumeCheckpoint", "init_args": {"every_n_rollouts": 2}},
    ]
    crash = {"class_path": "test_resume.Crash", "init_args": {"after": 9}}
    whole = write_config(point_config(trainer__callbacks=own, trainer__max_epochs=1))
    broken = write_config(point_config(trainer__callbacks=[*own, crash], trainer__max_epochs=1), "broken.yaml")
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if name == "twice":
            with pytest.raises(SystemError, match="no power"):
                main(["fit", "--config", str(broken), "--trainer.default_root_dir", "run"])
            assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
        assert main(["fit", "--config", str(whole), "--trainer.default_root_dir", "run"]) == 0
        assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 12
    once, twice = (contents(tmp_path / n / "run" / "ingredients") for n in ("once", "twice"))
    assert once == twice


def test_intervals_of_checkpoints_are_at_least_1() -> None:
    with pytest.raises(RslitError, match="every_n_rollouts must be at least 1"):
        ResumeCheckpoint(every_n_rollouts=0)


@pytest.mark.parametrize("resumable", [True, False])
def test_resumed_equals_uninterrupted(tmp_path: Path, write_config: Write, monkeypatch: Any, resumable: bool) -> None:
    config = point_config(model__init_args__env__init_args__resumable=resumable)
    path = write_config(config)
    for name, lengths in (("once", [4]), ("twice", [1, 3, 4])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for epochs in lengths:
            args = ["--config", str(path), "--trainer.default_root_dir", "run", "--trainer.max_epochs", str(epochs)]
            assert main(["fit", *args]) == 0
    once, twice = (contents(tmp_path / n / "run" / "ingredients") for n in ("once", "twice"))
    for name, data in once.items():
        if name.endswith(".safetensors"):
            assert data == twice[name]
    states = [
        torch.load(tmp_path / n / "run" / "checkpoints" / "last.ckpt", weights_only=True) for n in ("once", "twice")
    ]
    assert states[0]["rslit"]["rollouts_done"] == states[1]["rslit"]["rollouts_done"] == 12
    for key, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][key])
    one, two = (s["optimizer_states"][0]["state"] for s in states)
    assert all(torch.equal(one[k]["exp_avg_sq"], two[k]["exp_avg_sq"]) for k in one)


def test_resuming_in_the_middle_of_an_epoch(tmp_path: Path, write_config: Write, monkeypatch: Any) -> None:
    """A user's own step-wise checkpoint: the experience under way travels with it."""
    own = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"every_n_train_steps": 5, "save_top_k": -1, "dirpath": "steps"},
    }
    config = point_config(trainer__max_epochs=2, ckpt_path=None)
    config["trainer"]["callbacks"].append(own)
    path = write_config(config)
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", "once"]) == 0
    (middle,) = (tmp_path / "steps").glob("*step=5.ckpt")  # 12 steps an epoch, 4 a rollout
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", "twice", "--ckpt_path", str(middle)]) == 0
    weights = [(tmp_path / n / "ingredients/last/weights.safetensors").read_bytes() for n in ("once", "twice")]
    assert weights[0] == weights[1]


def test_the_command_line_wins_over_the_checkpoint(tmp_path: Path, write_config: Write, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(point_config())
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", "run"]) == 0
    checkpoint = "run/checkpoints/last.ckpt"
    args = ["--trainer.max_epochs", "4", "--model.init_args.gamma", "0.5", "--ckpt_path", checkpoint]
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", "run", *args]) == 0
    info = json.loads((tmp_path / "run/ingredients/last/ingredient.json").read_text())
    assert info["config"]["run"]["model"]["init_args"]["gamma"] == 0.5
    assert info["config"]["run"]["model"]["init_args"]["reward"] == RISKY | {
        "init_args": {**RISKY["init_args"], "unit": "reward per step"}
    }


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(3)}, path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RslitError, match=r"last.ckpt: the checkpoint could not be written \(.*No space left"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_global_generators_are_restored(tmp_path: Path) -> None:
    import random

    import numpy as np

    from rslit.callbacks import RNGCallback

    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    np.random.randn()  # leaves a cached gaussian
    first = RNGCallback()
    torch.save(first.state_dict(), tmp_path / "rng.pt")
    drawn = (random.random(), np.random.randn(), torch.randn(3))
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    second = RNGCallback()
    second.load_state_dict(torch.load(tmp_path / "rng.pt", weights_only=True))
    second.on_fit_start(None, None)  # type: ignore[arg-type]  # it looks at neither
    again = (random.random(), np.random.randn(), torch.randn(3))
    assert drawn[:2] == again[:2]
    assert torch.equal(drawn[2], again[2])
