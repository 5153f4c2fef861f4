"""A sweep of Fisher-weighted averages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_interpolation import ingredient, policy, state, sweep

from rslit.errors import RslitError
from rslit.front import Front
from rslit.modules.sweep_points import SweepPoints
from rslit.soup import Soup, fisher_mean, load_fisher


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
    fishers = {name: load_fisher(ingredient) for name, ingredient in soup.ingredients.items()}
    lam = soup.coefficients({"risky": 0.5, "cautious": 0.5})
    half = {**state(1), **fisher_mean(soup.states, soup.trainable_keys, lam, fishers)}
    written = {"half": ingredient(tmp_path, "half", half, "half"), "risky": paths["risky"]}
    alone = Front.from_table(sweep(tmp_path / "alone", written, lattice=1), "soup")
    assert found.scores[1] == pytest.approx(alone.scores[0], rel=1e-5)
    points = SweepPoints(soup, [soup.coefficients({"risky": 1, "cautious": 0})])
    points.average_by_fisher()
    assert points.points[0].state is None  # an expert stays itself


def test_refusals(tmp_path: Path) -> None:
    paths = with_fishers(tmp_path)
    with pytest.raises(RslitError, match="take ensemble and space delta out"):
        sweep(tmp_path / "run", paths, fisher=True, ensemble=True)
    save_file({"x": torch.ones(1)}, Path(paths["risky"]) / "fisher.safetensors")
    with pytest.raises(RslitError, match="the Fisher diagonal of expert 'risky' lacks"):
        sweep(tmp_path / "run", paths, fisher=True)
    (Path(paths["risky"]) / "fisher.safetensors").unlink()
    with pytest.raises(RslitError, match=r"fisher\.safetensors: no such file"):
        sweep(tmp_path / "run", paths, fisher=True)
