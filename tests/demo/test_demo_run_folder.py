from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from demo_runs import SWEEPS

from rslit.cli import main
from rslit.demo.live import LiveSoup
from rslit.demo.run_folder import find_sweep, open_run
from rslit.errors import RslitError
from rslit.front import read_scores, write_scores

Runs = Callable[[str], Path]


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Path:
    """Runs of the ball that a test may spoil; the configuration names the copies."""
    shutil.copytree(runs("locomotion"), tmp_path / "runs")
    config = tmp_path / "runs" / "sweep" / "config.yaml"
    config.write_text(config.read_text().replace(str(runs("locomotion")), str(tmp_path / "runs")))
    return tmp_path / "runs"


@pytest.mark.parametrize("task", [pytest.param(task, id=task) for task in SWEEPS])
def test_every_task_is_opened(runs: Runs, task: str) -> None:
    run = open_run(runs(task))
    assert run.folder == runs(task) / "sweep"
    assert run.evaluator.module.task == task
    table = read_scores(run.folder / "scores.parquet")
    assert run.soups.experts == table.meta.experts == tuple(run.evaluator.ingredients)
    assert set(run.beside) == {"initialisation"}
    for label, lam, scores in zip(run.soups.labels, run.soups.lams, run.soups.scores, strict=True):
        rows = table.frame[table.frame["point"] == label]
        np.testing.assert_allclose(lam, rows[table.meta.lam_columns].to_numpy()[0])
        for reward, score in zip(run.soups.rewards, scores, strict=True):
            assert score == pytest.approx(rows.loc[rows["reward"] == reward, "score"].mean())
    assert list(LiveSoup(run).references) == ["initialisation", *(f"expert {name}" for name in run.soups.experts)]


def test_the_sweep_itself_is_a_run_folder_too(runs: Runs) -> None:
    assert find_sweep(runs("locomotion") / "sweep") == runs("locomotion") / "sweep"


def test_a_sweep_in_the_folder_of_a_training(copied: Path) -> None:
    """Where another verb wrote `config.yaml` before, `validate` writes a file of its own."""
    (copied / "sweep" / "config.yaml").rename(copied / "sweep" / "config.validate.yaml")
    shutil.copy(copied / "risky" / "config.yaml", copied / "sweep" / "config.yaml")
    assert open_run(copied).soups.experts == ("risky", "cautious")


def test_lam_outside_of_the_simplex_is_left_out(copied: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((copied / "sweep.yaml").read_text())
    init = config["model"]["init_args"]
    init["ingredients"] = {name: str(copied / name / "ingredients" / "last") for name in init["ingredients"]}
    init["lattice"] = [{"risky": x, "cautious": 1 - x} for x in (-0.5, 0.0, 0.5, 1.0, 1.5)]
    init["extrapolate"] = True
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(config))
    args = ["--config", str(tmp_path / "wide.yaml"), "--trainer.default_root_dir", str(tmp_path / "wide")]
    assert main(["validate", *args]) == 0
    run = open_run(tmp_path / "wide")
    assert run.soups.lams is not None
    assert run.soups.lams[:, 0].tolist() == [1.0, 0.5, 0.0]
    assert run.scores.weights[:, 0].tolist() == [1.0, 0.5, 0.0]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="none: no such folder; give the folder of a recipe's runs or of a sweep"):
        open_run(tmp_path / "none")


def test_no_ingredients(copied: Path) -> None:
    """Runs that were never swept, and a sweep whose experts are gone."""
    with pytest.raises(RslitError, match="holds no sweep, so no ingredients to interpolate; run its recipe to the end"):
        open_run(copied / "risky")
    shutil.rmtree(copied / "cautious")
    with pytest.raises(RslitError, match=r"config\.yaml: the ingredient of 'cautious' is not at .*; start rslit demo"):
        open_run(copied)


def test_several_sweeps(copied: Path) -> None:
    """The one with the most soups, then the most beside them, is opened; one without its scores is passed over."""
    few = shutil.copytree(copied / "sweep", copied / "few")
    table = read_scores(few / "scores.parquet")
    soups = table.frame[table.frame["kind"] == "soup"]
    write_scores(replace(table, frame=soups[soups["point"] == soups["point"].iloc[0]]), few / "scores.parquet")
    alone = shutil.copytree(copied / "sweep", copied / "alone")
    write_scores(replace(table, frame=soups), alone / "scores.parquet")
    (shutil.copytree(copied / "sweep", copied / "stopped") / "scores.parquet").unlink()
    ensembles = shutil.copytree(copied / "sweep", copied / "ensembles")
    config = yaml.safe_load((ensembles / "config.yaml").read_text())
    config["model"]["init_args"]["ensemble"] = True
    (ensembles / "config.yaml").write_text(yaml.safe_dump(config))
    assert find_sweep(copied) == copied / "sweep"
    with pytest.raises(RslitError, match="is a sweep with ensemble: true, whose points the page cannot pour"):
        open_run(ensembles)


def test_a_sweep_without_scores(copied: Path) -> None:
    (copied / "sweep" / "scores.parquet").unlink()
    with pytest.raises(
        RslitError, match=r"scores\.parquet does not exist; give the scores\.parquet of a finished sweep"
    ):
        open_run(copied)


def test_scores_of_another_sweep(copied: Path, runs: Runs) -> None:
    shutil.copy(runs("text") / "sweep" / "scores.parquet", copied / "sweep")
    with pytest.raises(RslitError, match=r"scores\.parquet: scores other ingredients than those of its configuration"):
        open_run(copied)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model:", "model: [", r"config\.yaml: is no YAML \("),
        ("policy_layers", "policy_layer", "policy_layer"),
        ("episode_length: 15", "episode_length: many", "episode_length"),
    ],
)
def test_a_spoilt_configuration(copied: Path, old: str, new: str, message: str) -> None:
    config = copied / "sweep" / "config.yaml"
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(RslitError, match=message) as caught:
        open_run(copied)
    assert "\n" not in str(caught.value)
