"""What the tests of configs/ share: where the files are, what is in them, and how a recipe is checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from rslit.cli import main
from rslit.recipes import Recipe, load_recipe

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
TEXT = [path for path in FILES if path.is_relative_to(CONFIGS / "text")]
VISION = [path for path in FILES if path.relative_to(CONFIGS).parts[0] in ("captioning", "vqa", "grounding")]
DIFFUSION = [path for path in FILES if path.is_relative_to(CONFIGS / "text_to_image")]


def load(path: Path) -> dict[str, Any]:
    config = yaml.safe_load(path.read_text())
    assert isinstance(config, dict), path
    return config


def label(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def rewards_of(path: Path) -> list[Path]:
    """The overlays of rewards/ beside a file."""
    return sorted((path.parent / "rewards").glob("*.yaml"))


def of_a_run(recipe: Recipe) -> list[str]:
    """The stages of another recipe's run that a study's stages take: it names the run's folder `{run}`."""
    words = "\n".join(word for stage in recipe.stages.values() for word in stage.run)
    return sorted(set(re.findall(r"\{run\}/([^/\n]+)", words)))


def check_study(front: Path, experts: set[str]) -> None:
    """The front that a study leaves: all that it sets beside the soups of the recipe's run, over its own experts."""
    data = json.loads((front / "front.json").read_text())
    assert set(data["experts"]) == experts
    beside = data["beside"]
    assert set(beside) == {"wise", "one-reward", "beyond", "ensembles"}
    assert "initialisation" in beside["wise"]["experts"]
    assert set(beside["wise"]["experts"]) & experts
    assert beside["one-reward"]["experts"] == ["first", "second"]
    assert all(set(other["experts"]) == experts for name, other in beside.items() if name in ("beyond", "ensembles"))
    assert min(min(point["lam"].values()) for point in beside["beyond"]["points"]) < 0
    for name, other in beside.items():
        assert set(other["soup_minus"]) >= {"estimate", "low", "high"}, name
        assert other["space"] == ("predictions" if name == "ensembles" else data["space"])


def run_recipe(path: Path, root: Path, **settings: str) -> None:
    """Only says what it would run; the files its stages name are there, whatever `settings` are made of its vars."""
    given = ["--set", *(f"{key}={value}" for key, value in settings.items())] if settings else []
    assert main(["recipe", str(path), "--dry-run", "--root", str(root / "runs"), *given]) == 0
    assert not (root / "runs").exists()
    recipe = load_recipe(path).with_vars([f"{key}={value}" for key, value in settings.items()])
    for name, stage in recipe.stages.items():
        words = recipe.portable_command(name)
        named = [word.removeprefix("{recipe}/") for word in words if word.startswith("{recipe}/")]
        assert named or words[0] in ("front", "soup"), name
        for word in named:
            assert (path.parent / word).is_file(), f"{name}: {word}"
        # That it needs all it names, itself or through others, was checked above. What it needs and does not name has
        # worked in a folder that it names, as the stage that scores images; or is an instance beside one that it names.
        folders = _folders(recipe, name)
        grids = {folder.partition("-")[0] for folder in folders}
        for need in stage.needs:
            assert need in folders or folders & _folders(recipe, need) or need.partition("-")[0] in grids, name


def _folders(recipe: Recipe, name: str) -> set[str]:
    """The other stages whose folders a stage's command names."""
    named = re.findall(r"\{root\}/([^/\n]+)", "\n".join(recipe.portable_command(name)))
    return {*named} & {*recipe.stages} - {name}
