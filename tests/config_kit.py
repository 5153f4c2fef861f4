"""What the tests of configs/ share: where the files are, what is in them, and how a recipe is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rslit.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
TEXT = [path for path in FILES if path.is_relative_to(CONFIGS / "text")]


def load(path: Path) -> dict[str, Any]:
    config = yaml.safe_load(path.read_text())
    assert isinstance(config, dict), path
    return config


def label(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def rewards_of(path: Path) -> list[Path]:
    """The overlays of rewards/ beside a file."""
    return sorted((path.parent / "rewards").glob("*.yaml"))


def run_recipe(path: Path, root: Path) -> None:
    """Only says what it would run; the files its stages name are there."""
    assert main(["recipe", str(path), "--dry-run", "--root", str(root / "runs")]) == 0
    assert not (root / "runs").exists()
    for name, stage in load(path)["stages"].items():
        named = [word for word in stage["run"].split() if word.startswith("{recipe}/")]
        assert stage["run"].startswith("front") or named, name
        for word in named:
            assert (path.parent / word.removeprefix("{recipe}/")).is_file(), f"{name}: {word}"
        assert set(stage.get("needs", [])) == {
            n for n in load(path)["stages"] if n != name and f"{{{n}}}" in stage["run"]
        }
