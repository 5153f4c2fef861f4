"""Two processes on gloo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_experiment import point_config

from rslit.front import read_scores
from rslit.soup import Ingredient

HERE = Path(__file__).parent
Write = Callable[..., Path]


def run(*command: str, cwd: Path, limit: float = 180) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PL_GLOBAL_SEED"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=limit, env=env, check=False
    )


def test_two_ranks_have_the_gradients_of_one_process_with_the_joined_batch(tmp_path: Path) -> None:
    for ranks in (1, 2):
        done = run(str(HERE / "ddp_run.py"), str(tmp_path), str(ranks), cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("1-0", "2-0", "2-1"))
    assert len(one["gradients"]) == 8
    for key, gradient in one["gradients"].items():
        assert float(gradient.abs().max()) > 0
        torch.testing.assert_close(first["gradients"][key], gradient, rtol=1e-5, atol=1e-7)
        assert torch.equal(first["gradients"][key], second["gradients"][key])
    for key, weight in one["weights"].items():
        torch.testing.assert_close(first["weights"][key], weight, rtol=1e-5, atol=1e-6)
        assert torch.equal(first["weights"][key], second["weights"][key]), "ranks stay equal"


@pytest.mark.slow
def test_the_command_line_on_two_ranks_trains_resumes_and_sweeps(tmp_path: Path, write_config: Write) -> None:
    config = write_config(point_config(trainer__devices=2, trainer__strategy="ddp"))

    def fit(name: str, *extra: str) -> None:
        args = ["-m", "rslit", "fit", "--config", str(config), "--trainer.default_root_dir", name, *extra]
        done = run(*args, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]

    fit("once")
    fit("twice", "--trainer.max_epochs", "1")
    fit("twice")
    once, twice = (tmp_path / n / "ingredients/last/weights.safetensors" for n in ("once", "twice"))
    assert once.read_bytes() == twice.read_bytes()
    # Two ranks act with different noise: twice the environments, twice the observations.
    count = Ingredient.load(once.parent).state_dict()["normaliser.count"]
    assert float(count) == 2 * 3 * 3 * 8 * 5
    for file in (once, twice):
        assert Ingredient.load(file.parent).info.config["samples"] == int(count)
    start = tmp_path / "once/ingredients/last"
    done = run(
        *["-m", "rslit", "fit", "--config", str(config), "--trainer.default_root_dir", "other"],
        *["--seed_everything", "4", "--model.init_args.initialisation", str(start)],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    module = point_config()["model"]
    sweep = {
        "seed_everything": 3,
        "trainer": point_config()["trainer"] | {"devices": 2, "strategy": "ddp", "callbacks": None},
        "data": point_config()["data"],
        "model": {
            "class_path": "rslit.modules.InterpolationEvaluator",
            "init_args": {
                "module": module,
                "lattice": [{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}],
                "ingredients": {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")},
            },
        },
    }
    sweep["trainer"].pop("max_epochs")
    import shutil

    third = run(
        *["-m", "rslit", "fit", "--config", str(config), "--trainer.default_root_dir", "third"],
        *["--seed_everything", "5", "--model.init_args.initialisation", str(start)],
        cwd=tmp_path,
    )
    assert third.returncode == 0, third.stderr[-3000:]
    shutil.copytree(tmp_path / "other/ingredients/last", tmp_path / "a")
    shutil.copytree(tmp_path / "third/ingredients/last", tmp_path / "b")
    path = write_config(sweep, "sweep.yaml")
    frames = []
    for ranks in ("1", "2"):
        args = ["--trainer.devices", ranks, "--trainer.strategy", "ddp" if ranks == "2" else "auto"]
        done = run(
            *["-m", "rslit", "validate", "--config", str(path), "--trainer.default_root_dir", f"sweep{ranks}", *args],
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        frame = read_scores(tmp_path / f"sweep{ranks}" / "scores.parquet").frame
        frames.append(frame.sort_values(["point", "reward", "item"])["score"].to_numpy())
    assert len(frames[0]) == 2 * 2 * 6
    torch.testing.assert_close(torch.tensor(frames[0]), torch.tensor(frames[1]), rtol=1e-5, atol=1e-5)

    # A search: both processes ask for the same λ.
    given = sweep["model"]["init_args"] | {"budget": 6}
    del given["lattice"]
    sweep["model"] = {"class_path": "rslit.modules.SearchEvaluator", "init_args": given}
    path = write_config(sweep, "search.yaml")
    tables = []
    for ranks, size in (("1", "6"), ("2", "2")):
        args = ["--trainer.devices", ranks, "--trainer.strategy", "ddp" if ranks == "2" else "auto"]
        args += ["--data.init_args.eval_batch_size", size, "--trainer.default_root_dir", f"search{ranks}{size}"]
        done = run("-m", "rslit", "validate", "--config", str(path), *args, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        frame = read_scores(tmp_path / f"search{ranks}{size}" / "scores.parquet").frame
        tables.append(frame.sort_values(["lam.a", "reward", "item"])[["lam.a", "score"]].to_numpy())
    assert len(tables[0]) == 6 * 2 * 6
    torch.testing.assert_close(torch.tensor(tables[0]), torch.tensor(tables[1]), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_ends_the_run_and_says_why(tmp_path: Path, write_config: Write, rank: int) -> None:
    config = point_config(
        trainer__devices=2, trainer__strategy="ddp", model__init_args__env__init_args__poison_rank=rank
    )
    began = time.perf_counter()
    done = run("-m", "rslit", "fit", "--config", str(write_config(config)), cwd=tmp_path)
    assert done.returncode != 0
    assert time.perf_counter() - began < 90
    assert "rslit: error: reward 'risky'" in done.stderr
    assert "environment 0, step 0" in done.stderr


@pytest.mark.slow
def test_a_checkpoint_of_another_number_of_ranks_is_refused(tmp_path: Path, write_config: Write) -> None:
    config = write_config(point_config(trainer__strategy="ddp"))
    args = ["-m", "rslit", "fit", "--config", str(config), "--trainer.default_root_dir", "run"]
    assert run(*args, "--trainer.devices", "2", cwd=tmp_path).returncode == 0
    done = run(*args, "--trainer.devices", "1", "--trainer.max_epochs", "5", cwd=tmp_path)
    assert done.returncode == 2
    assert "resume with 2 devices" in done.stderr
