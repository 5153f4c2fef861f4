"""Vision-language configs at the size of a second: their data and models where they look for them, a few items of each.

The stages of the recipes are run as they stand, with fewer items and steps: see `VisionRuns`.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from config_kit import label, load
from tiny_text_configs import leaves
from tiny_vision import random_images, save_tiny_vision
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import rslit.rewards
from rslit.cli import main
from rslit.recipes import load_recipe
from rslit.recipes.recipe import Recipe, config_files
from rslit.scenes import World, write_world
from rslit.scenes.grounded import write_grounded_captions
from rslit.scenes.models import CODEC, GROUNDED
from rslit.soup import Ingredient
from rslit.vision import BoxCodec, FlorenceBoxCodec
from rslit.vision.options import VisionOptions
from rslit.vision.policy import build_vision_policy

__all__ = ["MODELS", "SIZES", "Run", "VisionRuns", "check_unchanged", "name_of", "start_of"]

#: Every model that a config names: the kind of its stand-in, how it writes boxes, what it says.
MODELS: dict[str, tuple[str, BoxCodec | None, tuple[str, ...]]] = {
    "Salesforce/blip-image-captioning-base": ("blip-caption", None, ("captions",)),
    "florence-community/Florence-2-base": ("florence2", FlorenceBoxCodec(), ("answers", "boxes")),
    "models/scenes/captioner": ("vit-gpt2", None, ("captions",)),
    "models/scenes/unified": ("paligemma", CODEC, ("answers", "boxes")),
}

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

# A small, a medium and a large box as shares of the sides, by the paper's areas in 800 x 800 pixels and those
# of the small configs in 64 x 64. The medium one overlaps with each of the others by more than half, so that whoever
# says one of them is rewarded now and then.
_PLACES = tuple((0.29, 0.16, 0.29 + side, 0.16 + side) for side in (0.216, 0.296, 0.396))


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
        _write_data(root)
        for name, (kind, codec, says) in MODELS.items():
            _write_model(root, name, kind, codec, says)

    def of(self, path: Path) -> Run:
        """The stage that a file is for: the one called as the file, else the first that names it."""
        home = next(folder for folder in path.parents if (folder / "recipe.yaml").exists())
        settings = [f"data={path.stem}"] if path.parent.name == "data" else []
        recipe = load_recipe(home / "recipe.yaml").with_vars(settings)
        naming = [name for name in recipe.stages if str(path) in recipe.command(name, self.root)]
        assert naming, f"no stage of {label(recipe.path)} takes {label(path)}"
        return self.stage(recipe, path.stem if path.stem in naming else naming[0])

    def stage(self, recipe: Recipe, name: str) -> Run:
        """A stage of a recipe whose variables are set."""
        root = self.root / "runs" / "-".join([label(recipe.path.parent), *recipe.vars.values()])
        if root / name not in self._done:
            for need in recipe.stages[name].needs:
                self.stage(recipe, need)
            command = recipe.command(name, root)
            run = Run(root / name, recipe, command, (*command, *_fewer(command)))
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


# -- data and models --------------------------------------------------------------------------------------------------


def _write_data(root: Path) -> None:
    """Drawn scenes as models/scenes/world, as COCO and VQA v2, and, at the size of photographs, as RefCOCO+."""
    scenes = root / "models" / "scenes" / "world"
    coco, vqa, refs = (root / "data" / name for name in ("coco", "vqa", "refer/refcoco+"))
    for folder, size in ((scenes, 64), (coco, 64), (root / "large", 800)):
        write_world(folder, World(16, 4, 4, size))
    shutil.move(coco / "vqa", vqa)
    refs.parent.mkdir()
    shutil.move(root / "large" / "refcoco", refs)
    # As the authors give it: a pickle of Python 2, and all images among COCO's of train2014.
    content = refs / "refs(unc).json"
    (refs / "refs(unc).p").write_bytes(pickle.dumps(json.loads(content.read_text()), protocol=2))
    content.unlink()
    instances = refs / "instances.json"
    instances.write_text(_in_train2014(instances.read_text()))
    for image in root.glob("large/images/*/*"):
        shutil.copy(image, coco / "images" / "train2014" / _in_train2014(image.name))
    _place(instances)
    _place(scenes / "refcoco" / "instances.json")
    write_grounded_captions(scenes, scenes.parent / GROUNDED, CODEC)


def _in_train2014(text: str) -> str:
    """The text with other names for images: of train2014, and not those of COCO's captions."""
    return re.sub("COCO_(train|val)2014_0", "COCO_train2014_9", text)


def _place(path: Path) -> None:
    """Puts every object of ``instances.json`` at one of `_PLACES`, which a tiny model can learn."""
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for k, entry in enumerate(content["annotations"]):
        x0, y0, x1, y1 = (
            share * side for share, side in zip(_PLACES[k % 3], 2 * sizes[entry["image_id"]], strict=True)
        )
        entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    path.write_text(json.dumps(content))


def _answers(root: Path, codec: BoxCodec | None) -> dict[str, list[str]]:
    """What there is to say of the data: captions, answers, boxes."""
    images = json.loads((root / "data/coco/dataset_coco.json").read_text())["images"]
    asked = json.loads((root / "data/vqa/v2_mscoco_train2014_annotations.json").read_text())["annotations"]
    common = [text for text, _ in Counter(entry["multiple_choice_answer"] for entry in asked).most_common(2)]
    return {
        "captions": [" ".join(image["sentences"][0]["tokens"][:5]) for image in images[:4]],
        # Of single words BLEU-1 and METEOR are multiples of one another, and two experts would come out the same.
        "answers": [*common, " ".join(common)],
        "boxes": [codec.encode(place, (1, 1)) for place in _PLACES] if codec else [],
    }


def _write_model(root: Path, name: str, kind: str, codec: BoxCodec | None, says: Sequence[str]) -> None:
    """A tiny model that was shown answers until it gives such by itself, whatever it is asked: rewards differ then."""
    folder = save_tiny_vision(kind, root / name, locations=len(codec.locations) if codec else None)
    known = _answers(root, codec)
    policy = build_vision_policy(VisionOptions(str(folder)))
    tokens = [torch.tensor(row) for row in policy.tokens([text for part in says for text in known[part]])]
    ids = pad_sequence(tokens, batch_first=True, padding_value=policy.pad_id)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in tokens], batch_first=True)
    asked = policy.encode(random_images(len(ids)), [""] * len(ids))
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        (-policy.score(asked, ids, mask).logprobs.sum(1).mean()).backward()
        optimizer.step()
    model: Any = policy.model
    model.save_pretrained(folder)
