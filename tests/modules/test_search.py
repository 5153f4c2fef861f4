"""A sweep that chooses its λ: its budget, its scores, two processes' agreement on paper, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_interpolation import START, ingredient, state, sweep

from rslit.cli import main
from rslit.errors import RslitError
from rslit.front import Front, ScoreTable, read_scores
from rslit.modules import SearchEvaluator
from rslit.soup import fingerprint


@pytest.fixture
def three(tmp_path: Path) -> dict[str, str]:
    seeds = {"risky": 1, "cautious": 2, "third": 4}
    return {name: ingredient(tmp_path, name, state(seed), name) for name, seed in seeds.items()}


def search(root: Path, ingredients: dict[str, str], **kwargs: Any) -> ScoreTable:
    return sweep(root, ingredients, evaluator=SearchEvaluator, **kwargs)


def test_no_more_than_the_budget_and_the_same_scores_as_a_sweep(three: dict[str, str], tmp_path: Path) -> None:
    start = ingredient(tmp_path, "start", START, initialisation=fingerprint({}))
    table = search(tmp_path / "run", three, budget=9, initialisation=start)
    front = Front.from_table(table, "soup")
    assert len(front) == len(set(front.labels)) == 9
    assert front.labels[3] == "risky=1/3,cautious=1/3,third=1/3"
    assert table.kinds() == ["soup", "initialisation"]
    assert front.lams is not None
    lams = [dict(zip(front.experts, row, strict=True)) for row in front.lams.tolist()]
    plain = sweep(tmp_path / "plain", three, lattice=lams)
    np.testing.assert_allclose(Front.from_table(plain, "soup").scores, front.scores, rtol=1e-5)


def test_a_preference_is_reached(three: dict[str, str], tmp_path: Path) -> None:
    """As good as the best of a lattice of 66, with 12."""
    table = search(tmp_path / "run", three, budget=12, preference={"cautious": 1.0})
    lattice = sweep(tmp_path / "lattice", three, lattice=10)
    found, whole = Front.from_table(table, "soup"), Front.from_table(lattice, "soup")
    column = found.rewards.index("cautious")
    best = whole.scores[:, column]
    assert len(found) == 12 < len(whole) == 66
    assert found.scores[:, column].max() >= best.max() - 0.03 * np.ptp(best)


def test_refusals(three: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="a budget of 3 does not hold the 3 experts"):
        search(tmp_path / "run", three, budget=3)
    with pytest.raises(RslitError, match="preference: 'far' is no evaluation reward; weigh risky, cautious"):
        search(tmp_path / "run", three, budget=9, preference={"far": 1.0})
    with pytest.raises(RslitError, match="not be negative"):
        search(tmp_path / "run", three, budget=9, preference={"risky": -1.0})
    five = {f"e{k}": "nowhere" for k in range(5)}
    message = r"10 parts over 5 experts are 1001 soups, more than the budget of 500; take at most 8 parts \(495 soups\)"
    with pytest.raises(RslitError, match=message):
        sweep(tmp_path / "run", five)
    with pytest.raises(RslitError, match="66 soups, more than the budget of 2; take a list of λ, a SearchEvaluator"):
        sweep(tmp_path / "run", three, lattice=10, budget=2)


def test_from_a_yaml(
    experiment: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = yaml.safe_load(experiment["sweep.yaml"].read_text())
    given = config["model"]["init_args"]
    del given["lattice"]
    model = {"class_path": "rslit.modules.SearchEvaluator", "init_args": {**given, "budget": 6}}
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump({**config, "model": model}))
    run = ["validate", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*run, "--model.init_args.preference", "{risky: 0.5, cautious: 0.5}"]) == 0
    assert "best λ for the preference: " in caplog.text
    table = read_scores(tmp_path / "run" / "scores.parquet")
    assert len(Front.from_table(table, "soup")) == 6
    assert table.kinds() == ["soup", "initialisation", "morl"]
    assert main([*run, "--model.init_args.budget", "2"]) == 2
    assert "a budget of 2 does not hold the 2 experts" in capsys.readouterr().err
