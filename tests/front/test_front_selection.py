"""Choosing λ: against quadratic rewards, where the best λ is known, and against folds done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_front_beside import save

from rslit.cli import main
from rslit.errors import RslitError
from rslit.front import write_front
from rslit.front.compositions import compositions
from rslit.front.quadratic import QuadraticReward
from rslit.front.selection import FOLDS, read_preference, select_lam

DRAWS = {"replicates": 200, "level": 0.95, "rng": 0}
LAMS = np.stack([np.linspace(1, 0, 11), np.linspace(0, 1, 11)], axis=1)
MUS = np.stack([np.linspace(0, 1, 11), np.linspace(1, 0, 11)], axis=1)


def test_compositions() -> None:
    assert compositions(2, 2).tolist() == [[0, 2], [1, 1], [2, 0]]
    found = compositions(4, 3)
    assert len(found) == len({tuple(row) for row in found.tolist()}) == 20
    assert (found.sum(axis=1) == 3).all()
    assert (found >= 0).all()


def quadratic(noise: float, scale: float = 1.0) -> np.ndarray:
    """Scores (3, 40, 11, 2) of soups of two experts; each reward 1 at its own expert, 0 (or 1 − scale) at the other."""
    rng = np.random.default_rng(0)
    rewards = [
        QuadraticReward(np.zeros(2), np.diag([0.9, 0.1]), 1.0),
        QuadraticReward(np.ones(2), scale * np.diag([0.3, 0.7]), 1.0),
    ]
    soups = LAMS @ np.array([[0.0, 0.0], [1.0, 1.0]])
    means = np.stack([reward(soups) for reward in rewards], axis=1)
    return means + noise * rng.normal(size=(3, 40, 11, 2)) + noise * rng.normal(size=(1, 40, 1, 2))


def test_lam_is_mu_for_quadratic_rewards() -> None:
    """Equal gaps: λ = μ is the best on the lattice and nothing is lost; thrice the gap: λ_2 ∝ 3 μ_2."""
    found = select_lam(quadratic(0), LAMS, MUS, DRAWS)
    assert (found.best == found.nearest).all()
    np.testing.assert_allclose(LAMS[found.best], MUS, atol=1e-12)
    np.testing.assert_allclose(found.regret.estimate, 0, atol=1e-12)
    np.testing.assert_allclose(found.at_mu.estimate, 1 - MUS[:, 0] * MUS[:, 1])  # Figure 8
    steeper = select_lam(quadratic(0, 3.0), LAMS, MUS, DRAWS)
    pull = MUS * [1, 3]
    np.testing.assert_allclose(LAMS[steeper.best], pull / pull.sum(1, keepdims=True), atol=0.05 + 1e-9)
    assert steeper.regret.estimate[3] > 0.05
    assert steeper.regret.low[3] > 0


def test_folds_by_hand() -> None:
    """A chosen λ is scored on items it was not chosen on, so it is no better than the best looks."""
    values = quadratic(1.0)
    found = select_lam(values, LAMS, MUS, DRAWS)
    fold = np.random.default_rng(0).permutation(40) % FOLDS
    for g, mu in enumerate(MUS):
        utility = values @ mu
        assert found.optimistic.estimate[g] == pytest.approx(utility.mean(axis=(0, 1)).max())
        total = 0.0
        for number in range(FOLDS):
            pick = utility[:, fold != number].mean(axis=(0, 1)).argmax()
            total += utility[:, fold == number, pick].mean() * (fold == number).mean()
        assert found.chosen.estimate[g] == pytest.approx(total)
        assert found.regret.estimate[g] == pytest.approx(total - utility[..., found.nearest[g]].mean())
    assert (found.chosen.estimate <= found.optimistic.estimate + 1e-12).all()
    assert (found.chosen.low < found.chosen.estimate).all()


def test_rewards_that_apply_to_some_items_only() -> None:
    values = quadratic(0.1)
    values[:, :20, :, 0] = np.nan
    values[:, 20:, :, 1] = np.nan
    found = select_lam(values, LAMS, MUS, DRAWS)
    assert np.abs(LAMS[found.best, 0] - MUS[:, 0]).max() < 0.25
    assert np.isfinite(found.chosen.estimate).all()


def test_preferences_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.parquet", experts=("fast", "calm"), parts=10)
    arguments = ["front", str(path), "--out", str(tmp_path / "out"), "--replicates", "50", "--preference"]
    assert main([*arguments, "fast=3,calm=1"]) == 0
    said = capsys.readouterr().out
    assert "best λ for fast=0.75,calm=0.25: fast=" in said
    assert "λ = μ loses at most" in said
    page = (tmp_path / "out" / "front.html").read_text()
    assert "For the preference fast 0.75, calm 0.25 take <b>λ: fast=" in page
    assert "<caption>Unit: μ-weighted sum of rewards, each 0 at the worst and 1 at the best expert;" in page
    bad = {
        "fast": "write reward=weight",
        "fast=-1,calm=2": "write reward=weight",
        "fast=0,calm=0": "all weights are 0",
        "slow=1": "no expert was trained on 'slow'; weigh fast, calm",
    }
    for text, message in bad.items():
        assert main([*arguments, text]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_section(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", parts=10)
    found = write_front([path], tmp_path / "out", replicates=50, preferences=[read_preference("calm=1")]).data[
        "selection"
    ]
    assert [row["mu"] for row in found["asked"]] == [{"fast": 0.0, "calm": 1.0}]
    assert [row["mu"]["fast"] for row in found["grid"]] == pytest.approx(np.linspace(1, 0, 11))
    assert found["grid"][3]["nearest"] == "fast=0.7,calm=0.3"
    others = save(tmp_path / "b.parquet", experts=("one", "two"))
    data = write_front([others], tmp_path / "out", replicates=50).data
    assert "has no evaluation reward of its own" in data["selection"]["skipped"]
    with pytest.raises(RslitError, match="has no evaluation reward of its own"):
        write_front([others], tmp_path / "out", preferences=[{"fast": 1.0}])
