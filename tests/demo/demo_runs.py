"""Finished sweeps of tiny models, as a recipe leaves them, for each task that the demo plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tiny_pipelines import save_pipeline
from toy_experiment import CAUTIOUS, RISKY, fit, point_config
from toy_runs import fit_config, run_config
from toy_text import text_config
from toy_vision_runs import vision_config

from rslit.cli import main
from rslit.scenes import World, write_world

__all__ = ["SWEEPS", "finished"]

Config = dict[str, Any]


def _writer(root: Path) -> Callable[..., Path]:
    def write(config: Mapping[str, Any], name: str = "config.yaml") -> Path:
        (root / name).write_text(yaml.safe_dump(dict(config), sort_keys=False))
        return root / name

    return write


def _sweep(root: Path, config: Config, experts: Mapping[str, Path], start: Path, **evaluator: Any) -> Path:
    """Sweeps λ between experts with the module and data of one of their runs."""
    named = {name: str(path) for name, path in experts.items()}
    init = {"module": config["model"], "lattice": 4, "ingredients": named, "initialisation": str(start), **evaluator}
    sweep = {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False},
        "model": {"class_path": "rslit.modules.InterpolationEvaluator", "init_args": init},
        "data": config["data"],
    }
    path = _writer(root)(sweep, "sweep.yaml")
    assert main(["validate", "--config", str(path), "--trainer.default_root_dir", str(root / "sweep")]) == 0
    return root


def _locomotion(root: Path) -> Path:
    """A ball on a line, from experts of the point environment."""
    write = _writer(root)
    start = fit(write, root, "pretrain", trainer__max_epochs=1)
    init = {"model__init_args__initialisation": str(start), "model__init_args__optimizer__init_args__lr": 0.05}
    experts = {
        name: fit(write, root, name, reward=own, **init) for name, own in (("risky", RISKY), ("cautious", CAUTIOUS))
    }
    config = point_config()
    config["model"]["init_args"]["env"]["class_path"] = "toy_posed.PosedPointEnvironment"
    return _sweep(root, config, experts, start)


def _text(root: Path) -> Path:
    """A tiny LLaMA with LoRA, sampled."""
    experts, start = {}, Path()
    for letter in ("letter_e", "letter_a"):
        config = text_config(root, letter, model__init_args__evaluation={"max_new_tokens": 6, "sample": True})
        callback = _callback(letter)
        made = fit_config(_writer(root), config | {"trainer": config["trainer"] | callback}, root, letter)
        experts[letter], start = made / "last", made / "initialisation"
    return _sweep(root, config, experts, start)


def _vision(task: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        experts, start, config = {}, Path(), {}
        rewards = vision_config(task, root)["model"]["init_args"]["evaluation_rewards"]
        for k, name in enumerate(("first", "second")):
            config = vision_config(task, root, rewards[-1 - k], trainer__max_epochs=1, seed_everything=k)
            made = fit_config(_writer(root), config | {"trainer": config["trainer"] | _callback(name)}, root, name)
            experts[name], start = made / "last", made / "initialisation"
        return _sweep(root, config, experts, start)

    return make


def _images(root: Path) -> Path:
    """A tiny pipeline."""
    save_pipeline("pixel", root / "base")
    write_world(root / "world", World(12, 6, 1, 32))
    source = {"class_path": "rslit.datamodules.KarpathyCaptions", "init_args": {"folder": str(root / "world")}}
    data = {"source": source, "batch_size": 4, "rollouts_per_epoch": 1, "eval_items": 3}
    rewards = [{"class_path": f"rslit.rewards.{name}Reward"} for name in ("Colourfulness", "JpegCompressibility")]
    model = {
        "policy": {"base": str(root / "base")},
        "reward": rewards[0],
        "evaluation_rewards": rewards,
        "drawing": {"steps": 2, "rows": 2},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
    }
    experts, start, config = {}, Path(), {}
    for seed, name in enumerate(("colourful", "small")):
        config = run_config(
            {"class_path": "rslit.modules.TextToImageModule", "init_args": model},
            {"class_path": "rslit.datamodules.CaptionedImagesDataModule", "init_args": data},
            {"seed_everything": seed, "trainer__max_epochs": 1},
        )
        made = fit_config(_writer(root), config | {"trainer": config["trainer"] | _callback(name)}, root, name)
        experts[name], start = made / "last", made / "initialisation"
    return _sweep(root, config, experts, start, lattice=2)


def _callback(expert: str) -> Config:
    init = {"expert": expert, "initialisation": True}
    return {"callbacks": [{"class_path": "rslit.callbacks.SoupCallback", "init_args": init}]}


SWEEPS: dict[str, Callable[[Path], Path]] = {
    "locomotion": _locomotion,
    "text": _text,
    "captioning": _vision("captioning"),
    "vqa": _vision("vqa"),
    "grounding": _vision("grounding"),
    "text_to_image": _images,
}


def finished(task: str, root: Path) -> Path:
    """The folder of a tiny recipe's runs, its sweep in `sweep`."""
    root.mkdir(parents=True)
    return SWEEPS[task](root)
