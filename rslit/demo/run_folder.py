"""From a run folder to what the page shows: a sweep's module, ingredients and scores, whatever its task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import LightningDataModule

from rslit.errors import RslitError
from rslit.front import Front, ScoreTable, read_scores
from rslit.front.arrays import ScoreArray, score_array
from rslit.front.page.runs import CONFIGS
from rslit.lightning_cli import instantiate
from rslit.modules import InterpolationEvaluator, SearchEvaluator

__all__ = ["SweepRun", "find_sweep", "open_run"]

_SCORES = "scores.parquet"


@dataclass(frozen=True)
class SweepRun:
    """A finished sweep, opened.

    Attributes:
        folder: The sweep's folder.
        evaluator: Its evaluator, set up: policy and all ingredients are loaded, on the device it will run on.
        data: Its datamodule.
        scores: Scores of the soups whose λ is on the simplex; others (extrapolation) no slider reaches.
        soups: Front of the same soups.
        beside: Fronts of what was scored beside them, by kind: `initialisation`, `morl`.
    """

    folder: Path
    evaluator: InterpolationEvaluator
    data: LightningDataModule
    scores: ScoreArray
    soups: Front
    beside: Mapping[str, Front]


def find_sweep(folder: Path) -> Path:
    """The folder of the sweep that a run folder is, or of the one with the most soups among those in it.

    Of those with as many soups, the one with the most beside them: the initialisation, MORL.

    Raises:
        RslitError: There is no such folder, no sweep in it, or the scores of one of several cannot be read.
    """
    if not folder.is_dir():
        raise RslitError(f"{folder}: no such folder; give the folder of a recipe's runs or of a sweep")
    if _config(folder) is not None:
        return folder
    found = [inner for inner in sorted(folder.iterdir()) if inner.is_dir() and _config(inner) is not None]
    if not found:
        raise RslitError(
            f"{folder}: holds no sweep, so no ingredients to interpolate; run its recipe to the end, or give the "
            "folder of an rslit validate with an InterpolationEvaluator"
        )
    if len(found) == 1:
        return found[0]
    poured = [inner for inner in found if (inner / _SCORES).is_file() and _not_poured(inner) is None]
    return max(poured, key=_points, default=found[0])


def _not_poured(sweep: Path) -> str | None:
    """The option by which a sweep's points are no soups that can be poured; None if there is none."""
    given = (_config(sweep) or ("", {}))[1].get("model", {}).get("init_args", {})
    return next((option for option in ("ensemble", "fisher") if given.get(option)), None)


def _points(sweep: Path) -> tuple[int, int]:
    """How many are soups, and how many are not."""
    points = read_scores(sweep / _SCORES).frame.groupby("kind")["point"].nunique()
    return int(points.get("soup", 0)), int(points.sum() - points.get("soup", 0))


def open_run(folder: Path) -> SweepRun:
    """Opens a sweep: builds its module from its own configuration and loads its ingredients and scores.

    Args:
        folder: The sweep's folder, or a folder with sweeps in it: see `find_sweep`.

    Raises:
        RslitError: There is no sweep, an ingredient or the scores are missing or of another sweep, or the module cannot
            be built.
    """
    folder = find_sweep(folder)
    name, config = _config(folder) or ("", {})
    given = config["model"].get("init_args", {})
    if (option := _not_poured(folder)) is not None:
        raise RslitError(f"{folder}: is a sweep with {option}: true, whose points the page cannot pour; give another")
    _check_ingredients(folder / name, given)
    path = Path(given.get("out") or folder) / _SCORES
    table = read_scores(path)  # before the module, which may take long to build
    evaluator, data = instantiate(config)
    assert isinstance(evaluator, InterpolationEvaluator), "find_sweep looked"
    evaluator.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    evaluator.setup("validate")
    _check_scores(path, table, evaluator)
    scores = _on_simplex(score_array(table, "soup"))
    front = Front.from_table(table, "soup")
    kept = [front.labels.index(point) for point in scores.points]
    meta = table.meta
    soups = Front(front.scores[kept], scores.weights, meta.rewards, meta.experts, scores.points)
    beside = {kind: Front.from_table(table, kind) for kind in table.kinds() if kind != "soup"}
    return SweepRun(folder, evaluator, data, scores, soups, beside)


def _config(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Name and content of the configuration of the sweep that was run in a folder; None if none was."""
    for name in CONFIGS:
        path = folder / name
        if not path.is_file():
            continue
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RslitError(f"{path}: is no YAML ({' '.join(str(error).split())}); sweep again") from None
        model = config.get("model") if isinstance(config, dict) else None
        kind = str(model.get("class_path", "")) if isinstance(model, dict) else ""
        if kind.rpartition(".")[2] in (InterpolationEvaluator.__name__, SearchEvaluator.__name__):
            return name, config
    return None


def _check_ingredients(config: Path, given: Mapping[str, Any]) -> None:
    """Says at once which folder is gone: paths of a run are relative to where it was started."""
    named = dict(given.get("ingredients") or {})
    if given.get("initialisation"):
        named["initialisation"] = given["initialisation"]
    if not given.get("ingredients"):
        raise RslitError(f"{config}: names no ingredients; sweep again with model.init_args.ingredients")
    for name, path in named.items():
        if not Path(path).is_dir():
            raise RslitError(
                f"{config}: the ingredient of '{name}' is not at {path}; start rslit demo where the sweep was started, "
                "or sweep again"
            )


def _check_scores(path: Path, table: ScoreTable, evaluator: InterpolationEvaluator) -> None:
    mine, scored = evaluator.meta, table.meta
    if any(getattr(mine, name) != getattr(scored, name) for name in ("task", "experts", "initialisation", "space")):
        raise RslitError(f"{path}: scores other ingredients than those of its configuration; sweep again")


def _on_simplex(scores: ScoreArray) -> ScoreArray:
    inside = np.asarray((scores.weights >= 0).all(axis=1))
    points = tuple(point for point, keep in zip(scores.points, inside, strict=True) if keep)
    return replace(scores, values=scores.values[:, :, inside], points=points, weights=scores.weights[inside])
