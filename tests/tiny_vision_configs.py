"""Vision-language configs at the size of a second: their data and models where they look for them, a few items of each.

The stages of the recipes are run as they stand, with fewer items and steps: see `VisionRuns`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
import yaml
from config_kit import check_study, label, load, of_a_run, run_recipe
from tiny_text_configs import leaves
from tiny_vision_data import MODELS, write_data, write_model
from torch import Tensor

import rslit.rewards
from rslit.cli import main
from rslit.front import read_scores
from rslit.recipes import load_recipe
from rslit.recipes.recipe import Recipe, config_files
from rslit.soup import Ingredient

__all__ = [
    "SIZES",
    "Run",
    "VisionRuns",
    "check_beyond",
    "check_study_of_a_run",
    "check_unchanged",
    "name_of",
    "start_of",
]

#: Items of a rollout and an evaluation; an epoch has as many rollouts as an optimiser step takes. Grounding keeps the
#: file's own rollouts: with fewer boxes an expert may find nothing to be rewarded for.
SIZES = {"batch_size": 12, "eval_items": 6, "eval_batch_size": 6}

_TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "strategy": "auto",
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class Run:
    """A stage of a recipe that was run.

    Attributes:
        folder: The stage's folder.
        recipe: The recipe.
        command: The stage's command in the recipe.
        args: What was run.
    """

    folder: Path
    recipe: Recipe
    command: tuple[str, ...]
    args: tuple[str, ...]

    @property
    def name(self) -> str:
        """The stage."""
        return self.folder.name

    @property
    def configs(self) -> list[Path]:
        """The files that the recipe names, in order."""
        return [Path(word) for word in config_files(self.command)]

    @property
    def options(self) -> dict[str, str]:
        """Every option that was given beside the files, the recipe's included."""
        words = [(a[2:], b) for a, b in zip(self.args, self.args[1:], strict=False) if a.startswith("--")]
        return {name: value for name, value in words if name != "config"}

    @property
    def ingredients(self) -> dict[str, Path]:
        """The experts of a sweep."""
        mark = "model.init_args.ingredients."
        return {k.removeprefix(mark): Path(v) for k, v in self.options.items() if k.startswith(mark)}

    @property
    def morl(self) -> list[Path]:
        """What a sweep's fronts are held against, the experts among them."""
        return [Path(b) for a, b in zip(self.args, self.args[1:], strict=False) if a == "--model.init_args.morl+"]

    def ingredient(self, name: str = "last") -> Ingredient:
        """One of those that a training wrote."""
        return Ingredient.load(self.folder / "ingredients" / name)


class VisionRuns:
    """Stages of the recipes, each run when it is first asked for and after those that it needs.

    Args:
        root: Working folder of the runs, with data and models where the files name them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._done: dict[Path, Run] = {}
        write_data(root)
        for name, (kind, codec, says) in MODELS.items():
            write_model(root, name, kind, codec, says)

    def of(self, path: Path) -> Run:
        """The stage that a file is for: the one called as the file, else the first that names it."""
        home = next(folder for folder in path.parents if (folder / "recipe.yaml").exists())
        settings = [f"data={path.stem}"] if path.parent.name == "data" else []
        recipe = load_recipe(home / "recipe.yaml").with_vars(settings)
        naming = [name for name in recipe.stages if str(path) in recipe.command(name, self.root)]
        if not naming and (home / "study.yaml").exists():
            recipe = self.study(home / "study.yaml")
            naming = [name for name in recipe.stages if str(path) in recipe.command(name, self.root)]
        assert naming, f"no stage of {label(recipe.path)} takes {label(path)}"
        return self.stage(recipe, path.stem if path.stem in naming else naming[0])

    def study(self, path: Path) -> Recipe:
        """The study beside a recipe, of a run whose stages are there."""
        recipe = load_recipe(path.parent / "recipe.yaml")
        study = load_recipe(path)
        for name in of_a_run(study):
            self.stage(recipe, name)
        return study.with_vars([f"run={self.folder(recipe)}"])

    def folder(self, recipe: Recipe) -> Path:
        """Where a recipe's stages go."""
        values = [value for key, value in recipe.vars.items() if key != "run"]
        return self.root / "runs" / "-".join([label(recipe.path.with_suffix("")), *values])

    def besides(self, command: Sequence[str]) -> list[str]:
        """What a stage is given besides, to be done in a second."""
        return _fewer(command)

    def stage(self, recipe: Recipe, name: str) -> Run:
        """A stage of a recipe whose variables are set."""
        root = self.folder(recipe)
        if root / name not in self._done:
            for need in recipe.stages[name].needs:
                self.stage(recipe, need)
            command = recipe.command(name, root)
            run = Run(root / name, recipe, command, (*command, *self.besides(command)))
            assert main(list(run.args)) == 0
            self._done[run.folder] = run
        return self._done[root / name]

    def after(self, run: Run) -> list[Run]:
        """The stages that need this one, run."""
        return [self.stage(run.recipe, name) for name, stage in run.recipe.stages.items() if run.name in stage.needs]


def _fewer(command: Sequence[str]) -> list[str]:
    """What a stage is given besides: one optimisation step on few items, 3 λ, few replicates."""
    if command[0] == "soup":
        return []
    if command[0] == "front":
        return ["--replicates", "20"]
    configs = [load(Path(word)) for word in config_files(command)]
    options: dict[str, Any] = {f"trainer.{key}": value for key, value in _TRAINER.items()}
    steps = max(config.get("trainer", {}).get("accumulate_grad_batches", 1) for config in configs)
    sizes = {**SIZES, "rollouts_per_epoch": steps}
    if "Grounding" in str(configs[0]["model"]["class_path"]):
        del sizes["batch_size"]
    options |= {f"data.init_args.{key}": value for key, value in sizes.items()}
    lattice = [config["model"]["init_args"]["lattice"] for config in configs if "lattice" in str(config.get("model"))]
    if lattice and isinstance(lattice[-1], int):
        names = [word.rpartition(".")[2] for word in command if ".ingredients." in word]
        even = {name: 1 / len(names) for name in names}
        options["model.init_args.lattice"] = json.dumps([{names[0]: 1.0}, even, {names[-1]: 1.0}])
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def name_of(reward: Mapping[str, Any]) -> str:
    """The name that a reward of a file has."""
    given = reward.get("init_args", {})
    if "weights" in given:
        return str(given["name"])
    name: str = getattr(rslit.rewards, reward["class_path"].rpartition(".")[2])(**given).name
    return name


def start_of(run: Run) -> dict[str, Tensor]:
    """The weights that a training starts from: an ingredient's, or those of its base as plain transformers loads it."""
    last = run.ingredient()
    if "model.init_args.initialisation" in run.options:
        return Ingredient.load(Path(run.options["model.init_args.initialisation"])).state_dict()
    base = last.info.config["base"]
    state = getattr(transformers, base["class"]).from_pretrained(base["name"]).state_dict()
    return {key: state[key] for key in last.state_dict()}


def check_unchanged(run: Run) -> None:
    """The run was the files' own, but for what the recipe and the tests give as options."""
    done = leaves(yaml.safe_load((run.folder / "config.yaml").read_text()))
    wanted = {keys: value for path in run.configs for keys, value in leaves(load(path)).items()}
    given = {*run.options, "model.init_args.lattice"}
    for keys, value in wanted.items():
        if not any(".".join(keys[:k]) in given for k in range(1, len(keys) + 1)):
            assert done[keys] == value, ".".join(keys)


def check_study_of_a_run(path: Path, runs: VisionRuns, root: Path) -> None:
    """All stages of a study, of the run of the recipe beside it."""
    run_recipe(path, root)
    study = runs.study(path)
    *_, front = (runs.stage(study, name) for name in study.stages)
    beyond = load(path.parent / "beyond.yaml")["model"]["init_args"]["lattice"]
    check_study(front.folder, {*beyond[0]})


def check_beyond(path: Path, runs: VisionRuns, _: Path) -> None:
    """The λ of the file, outside [0, 1] too."""
    run = runs.of(path)
    frame = read_scores(run.folder / "scores.parquet").frame
    lams = load(path)["model"]["init_args"]["lattice"]
    assert frame.groupby("kind")["point"].nunique().to_dict() == {"soup": len(lams)}
    assert all(sum(lam.values()) == 1 and {*lam} == {*run.ingredients} for lam in lams)
