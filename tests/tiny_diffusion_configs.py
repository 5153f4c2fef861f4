"""Text-to-image configs at the size of a second: prompts and models where they look for them, a few images of each.

The stages of the recipes are run as they stand, with fewer images and steps: see `DiffusionRuns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from config_kit import load
from image_kit import laion_head, save_tiny_clip, save_tiny_image_classifier
from tiny_pipelines import save_pipeline
from tiny_text_configs import leaves
from tiny_vision_configs import Run, VisionRuns
from torch import Tensor

from rslit.recipes.recipe import Recipe, config_files
from rslit.scenes import World, write_world
from rslit.scenes.classifier import LABELS
from rslit.scenes.models import caption_texts
from rslit.scenes.pipeline import fresh_pipeline

__all__ = [
    "CLIP_SIZE",
    "PIPELINES",
    "SDXL",
    "SIZES",
    "DiffusionRuns",
    "check_unchanged",
    "denoiser_of",
    "start_of",
    "write_head",
    "write_hub",
]

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"

#: Every pipeline that a config names or that the paper's are run with besides, and the kind of its stand-in; that of
#: the scenes is small enough to be itself.
PIPELINES = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd",
    SDXL: "sdxl",
    "models/scenes/pixel_diffusion": None,
}

#: Length of the stand-ins' CLIP embeddings.
CLIP_SIZE = 16

#: Images and prompts of a stage; an epoch has as many batches as an optimiser step takes.
SIZES = {"limit": 14, "batch_size": 4, "eval_items": 4, "eval_batch_size": 4}

_TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class DiffusionRuns(VisionRuns):
    """Stages of the recipes, each run when it is first asked for and after those that it needs.

    Args:
        root: Working folder of the runs, with prompts and models where the files name them: see `write_hub`.
        base: Pipeline to take in place of the files'.
    """

    def __init__(self, root: Path, base: str | None = None) -> None:
        self.root = root
        self.base = base
        self._done: dict[Path, Run] = {}

    def folder(self, recipe: Recipe) -> Path:
        """Where a recipe's stages go."""
        return self.root / "runs" / recipe.name / (self.base or "own").replace("/", "--")

    def besides(self, command: Sequence[str]) -> list[str]:
        """What a stage is given besides: one optimisation step on few images, few denoising steps, 3 λ."""
        if command[0] == "soup":
            return []
        if command[0] == "front":
            return ["--replicates", "20"]
        config = [load(Path(word)) for word in config_files(command)]
        trainer, data = config[0]["trainer"], config[0]["data"]["init_args"]
        options = {f"trainer.{key}": value for key, value in _TRAINER.items()}
        if "precision" in trainer:  # a CPU has no 16-mixed: Lightning takes this one, and warns
            options["trainer.precision"] = "bf16-mixed"
        options |= {f"data.init_args.{key}": value for key, value in SIZES.items() if key in data}
        if command[0] == "fit":
            steps = trainer.get("accumulate_grad_batches", 1)
            options |= {"trainer.max_epochs": 1, "trainer.check_val_every_n_epoch": 1}
            options["data.init_args.rollouts_per_epoch"] = steps
        if command[0] == "validate" and len(config) == 1:
            options["model.init_args.lattice"] = 2
        task = "model.init_args.module.init_args" if command[0] == "validate" else "model.init_args"
        if "Scorer" not in config[0]["model"]["class_path"]:
            options |= {f"{task}.drawing.steps": 2, f"{task}.drawing.rows": 4}
            if self.base is not None:
                options[f"{task}.policy.base"] = self.base
        return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def check_unchanged(run: Run) -> None:
    """The run was the files' own, but for what the recipe and the tests give as options."""
    done = leaves(yaml.safe_load((run.folder / "config.yaml").read_text()))
    wanted: dict[tuple[str, ...], Any] = {}
    for path in run.configs:
        config = load(path)
        if isinstance(callback := config.get("trainer", {}).get("callbacks"), dict):
            config["trainer"]["callbacks"] = [callback]  # as the command line writes it down
        own = leaves(config)
        # A list in place of a number, such as a lattice's.
        replaced = {keys[:k] for keys in own for k in range(len(keys))}
        wanted = {keys: value for keys, value in wanted.items() if keys not in replaced} | own
    for keys, value in wanted.items():
        names = {".".join(keys[:k]).replace("callbacks.0.", "callbacks.") for k in range(1, len(keys) + 1)}
        if not names & set(run.options):
            assert done[keys] == value, ".".join(keys)


def denoiser_of(name: str) -> Any:
    """The denoiser of a pipeline as plain diffusers loads it."""
    from diffusers import DiffusionPipeline

    pipe: Any = DiffusionPipeline.from_pretrained(name)
    return pipe.unet


def start_of(run: Run) -> dict[str, Tensor]:
    """The weights that a training starts from: of what is trained those of its base."""
    last = run.ingredient()
    state: Mapping[str, Tensor] = denoiser_of(last.info.config["base"]["name"]).state_dict()
    return {key: state[key] for key in last.state_dict()}


def write_hub(root: Path) -> None:
    """Stand-ins of all that configs name: pipelines, CLIPs, a classifier, LAION's head, COCO and drawn scenes."""
    scenes = root / "models" / "scenes"
    write_world(scenes / "single", World(20, 4, 4, 32, objects=1))
    save_tiny_clip(root / "openai/clip-vit-large-patch14", CLIP_SIZE)
    save_tiny_image_classifier(scenes / "classifier", list(LABELS))
    for name, kind in PIPELINES.items():
        if kind is None:
            fresh_pipeline(caption_texts(scenes / "single")).save_pretrained(root / name)
        else:
            save_pipeline(kind, root / name)
    save_tiny_image_classifier(root / "cafeai/cafe_aesthetic", ["aesthetic", "not_aesthetic"], "beit")
    write_head(root / "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth", CLIP_SIZE)
    write_world(root / "data" / "coco", World(20, 4, 4, 64))


def write_head(path: Path, size: int) -> Path:
    """An aesthetic head in LAION's format for embeddings of this length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({f"layers.{key}": value for key, value in laion_head(size).state_dict().items()}, path)
    return path
