"""From training to a sweep of Fisher-weighted averages: what Adam remembers is written, read and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_interpolation import ingredient, policy, state, sweep
from toy_experiment import RISKY, fit, point_config

from rslit.cli import main
from rslit.errors import RslitError
from rslit.front import Front
from rslit.modules.sweep_points import SweepPoints
from rslit.soup import Soup, fisher_average, load_fishers


def with_fishers(root: Path) -> dict[str, str]:
    paths = {}
    for seed, name in ((1, "risky"), (2, "cautious")):
        paths[name] = ingredient(root, name, state(seed), name)
        generator = torch.Generator().manual_seed(seed)
        names = policy().trainable_keys
        fisher = {key: torch.rand(state(seed)[key].shape, generator=generator) * seed for key in names}
        save_file(fisher, Path(paths[name]) / "fisher.safetensors")
    return paths


def test_a_sweep(tmp_path: Path) -> None:
    paths = with_fishers(tmp_path)
    table = sweep(tmp_path / "run", paths, lattice=2, fisher=True)
    plain = sweep(tmp_path / "plain", paths, lattice=2)
    assert table.meta.space == "fisher"
    found, soups = Front.from_table(table, "soup"), Front.from_table(plain, "soup")
    assert found.labels == soups.labels
    assert found.scores[[0, 2]] == pytest.approx(soups.scores[[0, 2]], rel=1e-5)
    assert abs(found.scores[1] - soups.scores[1]).max() > 1e-3
    soup = Soup.load(paths)
    fishers = load_fishers(soup)
    assert torch.cat([f.flatten() for f in fishers["cautious"].values()]).mean() == pytest.approx(1, rel=1e-5)
    half = fisher_average(soup, fishers, {"risky": 0.5, "cautious": 0.5})
    written = {"half": ingredient(tmp_path, "half", half, "half"), "risky": paths["risky"]}
    alone = Front.from_table(sweep(tmp_path / "alone", written, lattice=1), "soup")
    assert found.scores[1] == pytest.approx(alone.scores[0], rel=1e-5)
    points = SweepPoints(soup, [soup.coefficients({"risky": 1, "cautious": 0})])
    points.average_by_fisher()
    assert points.points[0].state is None  # an expert stays itself


def test_adam_leaves_it(write_config: Any, tmp_path: Path) -> None:
    config = {"trainer__callbacks": [{"class_path": "rslit.callbacks.SoupCallback", "init_args": {"fisher": True}}]}
    path = fit(write_config, tmp_path, "risky", reward=RISKY, **config)
    fisher = load_file(path / "fisher.safetensors")
    checkpoint = torch.load(tmp_path / "risky" / "checkpoints" / "last.ckpt", weights_only=True)
    moments = [entry["exp_avg_sq"] for entry in checkpoint["optimizer_states"][0]["state"].values()]
    assert sorted(fisher) == Soup.load([path]).trainable_keys
    assert all(any(torch.equal(fisher[key], moment) for moment in moments) for key in fisher)
    assert sum(float(value.sum()) for value in fisher.values()) > 0


def test_refusals(write_config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = with_fishers(tmp_path)
    with pytest.raises(RslitError, match="take ensemble and space delta out"):
        sweep(tmp_path / "run", paths, fisher=True, ensemble=True)
    save_file({"x": torch.ones(1)}, Path(paths["risky"]) / "fisher.safetensors")
    with pytest.raises(RslitError, match="has no Fisher of the weight"):
        sweep(tmp_path / "run", paths, fisher=True)
    (Path(paths["risky"]) / "fisher.safetensors").unlink()
    with pytest.raises(RslitError, match="is not there; train with SoupCallback's option fisher: true"):
        sweep(tmp_path / "run", paths, fisher=True)
    config = point_config(
        trainer__callbacks=[{"class_path": "rslit.callbacks.SoupCallback", "init_args": {"fisher": True}}],
        model__init_args__optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}},
    )
    capsys.readouterr()
    run = [
        "fit",
        "--config",
        str(write_config(config, "sgd.yaml")),
        "--trainer.default_root_dir",
        str(tmp_path / "sgd"),
    ]
    assert main(run) == 2
    assert "use Adam, AdamW or RAdam" in capsys.readouterr().err
