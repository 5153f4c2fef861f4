"""Text-to-image through the command line: draw, score, train, resume, two processes, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_pipelines import SIZE, save_pipeline
from toy_experiment import rslit_apart
from toy_runs import fit_config, run_config

from rslit.cli import main
from rslit.diffusion.image_folder import image_text, read_index, read_rewards
from rslit.front import read_scores

Write = Callable[..., Path]

PROMPTS = ["a good film", "a bad film", "the story was long", "great actors", "boring", "a wonderful ending"]
LIGHT = [{"class_path": f"rslit.rewards.{name}Reward"} for name in ("Contrast", "Sharpness")]
DRAWING = {"steps": 2, "guidance": 2.0, "rows": 4}


def module(root: Path, reward: Any = None, **policy: Any) -> dict[str, Any]:
    given = {
        "policy": {"base": str(root / "pipeline"), **policy},
        "reward": reward or LIGHT[0],
        "evaluation_rewards": LIGHT,
        "drawing": DRAWING,
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
    }
    return {"class_path": "rslit.modules.TextToImageModule", "init_args": given}


def predict(root: Path, name: str, model: Any, data: Any, callbacks: Any, **trainer: Any) -> dict[str, Any]:
    given = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "logger": False, **trainer}
    folder = str(root / f"run-{name}")
    return {"trainer": {**given, "default_root_dir": folder, "callbacks": callbacks}, "model": model, "data": data}


def generation(root: Path, out: Path, batch_size: int = 3, **trainer: Any) -> dict[str, Any]:
    writer = {"class_path": "rslit.callbacks.ImageWriter", "init_args": {"folder": str(out)}}
    data = {"prompts": str(root / "prompts.txt"), "batch_size": batch_size}
    prompts = {"class_path": "rslit.datamodules.PromptDataModule", "init_args": data}
    return predict(root, out.name, module(root), prompts, [writer], **trainer)


def pixels(folder: Path) -> list[bytes]:
    return [image.path.read_bytes() for image in read_index(folder)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, prompts, images of it, and their rewards."""
    root = tmp_path_factory.mktemp("text_to_image")
    save_pipeline("sd", root / "pipeline")
    (root / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    (root / "eval.txt").write_text("another film\nan egg\nseven minutes\n")
    images = {
        "class_path": "rslit.datamodules.GeneratedImagesDataModule",
        "init_args": {"folder": str(root / "images")},
    }
    scorer = {"class_path": "rslit.modules.ImageScorer", "init_args": {"rewards": LIGHT}}
    for name, config in {
        "draw": generation(root, root / "images"),
        "score": predict(root, "score", scorer, images, None),
    }.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump(config))
        assert main(["predict", "--config", str(root / f"{name}.yaml")]) == 0
    return root


def training(root: Path, reward: Any = None, policy: Any = None, **extra: Any) -> dict[str, Any]:
    data = {
        "folder": str(root / "images"),
        "batch_size": 2,
        "rollouts_per_epoch": 2,
        "eval_prompts": str(root / "eval.txt"),
    }
    images = {"class_path": "rslit.datamodules.GeneratedImagesDataModule", "init_args": data}
    return run_config(module(root, reward, **(policy or {})), images, extra)


def test_images_are_the_same_whatever_the_batch_size(root: Path, tmp_path: Path, write_config: Write) -> None:
    assert main(["predict", "--config", str(write_config(generation(root, tmp_path / "one", 1), "one.yaml"))]) == 0
    assert pixels(tmp_path / "one") == pixels(root / "images")
    text = image_text(read_index(root / "images")[0].path)
    assert (text["prompt"], text["lam"]) == (PROMPTS[0], "initialisation")
    assert f"size={SIZE}x{SIZE}" in text["drawing"]


@pytest.mark.slow
def test_images_are_the_same_on_two_processes(root: Path, tmp_path: Path, write_config: Write) -> None:
    config = generation(root, tmp_path / "two", devices=2, strategy="ddp")
    rslit_apart(tmp_path, "predict", "--config", str(write_config(config, "two.yaml")))
    assert pixels(tmp_path / "two") == pixels(root / "images")


def test_images_of_other_weights_or_drawn_otherwise_are_refused(
    root: Path, tmp_path: Path, write_config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    config = generation(root, root / "images")
    config["model"]["init_args"]["drawing"] = {**DRAWING, "steps": 3}
    assert main(["predict", "--config", str(write_config(config, "other.yaml"))]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is another image: it says drawing 'steps=2" in error


def test_a_resumed_training_is_the_uninterrupted_one(root: Path, tmp_path: Path, write_config: Write) -> None:
    whole = fit_config(write_config, training(root), tmp_path, "whole")
    fit_config(write_config, training(root), tmp_path, "parts", "--trainer.max_epochs", "1")
    parts = fit_config(write_config, training(root), tmp_path, "parts")
    weights = (whole / "last" / "weights.safetensors").read_bytes()
    assert weights == (parts / "last" / "weights.safetensors").read_bytes()
    assert weights != (whole / "initialisation" / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_two_ranks_stay_equal(root: Path, tmp_path: Path, write_config: Write) -> None:
    """Each has images and noise of its own; their weights are the same all the time."""
    record = {"class_path": "toy_vision_runs.RankRecord", "init_args": {"folder": str(tmp_path / "ranks")}}
    config = training(root, trainer__devices=2, trainer__strategy="ddp", data__init_args__batch_size=1)
    config["trainer"]["callbacks"].append(record)
    path = write_config(config, "two.yaml")
    rslit_apart(tmp_path, "fit", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "two"))
    one, two = (torch.load(tmp_path / "ranks" / f"{rank}.pt", weights_only=True)["trained"] for rank in (0, 1))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


@pytest.mark.parametrize("how", ["cross_attention", "lora"])
def test_from_experts_to_a_pipeline_of_diffusers(root: Path, tmp_path: Path, write_config: Write, how: str) -> None:
    """Two experts, a sweep, and the soup as a folder that draws what the sweep drew."""
    policy: dict[str, Any] = {"trained": how}
    if how == "lora":
        policy["lora"] = {"r": 2}
    paths = {
        name: fit_config(write_config, training(root, reward, policy), tmp_path, name)
        for name, reward in zip(("contrast", "sharpness"), LIGHT, strict=True)
    }
    sweep = {
        "class_path": "rslit.modules.InterpolationEvaluator",
        "init_args": {
            "module": module(root, None, **policy),
            "ingredients": {name: str(path / "last") for name, path in paths.items()},
            "initialisation": str(paths["contrast"] / "initialisation"),
            "lattice": 2,
        },
    }
    data = {"class_path": "rslit.datamodules.PromptDataModule", "init_args": {"eval_prompts": str(root / "eval.txt")}}
    callbacks = [{"class_path": "rslit.callbacks.DrawnImagesCallback"}]
    config = write_config(predict(tmp_path, "sweep", sweep, data, callbacks), "sweep.yaml")
    assert main(["validate", "--config", str(config)]) == 0
    frame = read_scores(tmp_path / "run-sweep" / "scores.parquet").frame
    assert len(frame) == 3 * 4 * 2  # prompts, points, rewards
    out = tmp_path / "soup"
    given = [str(path / "last") for path in paths.values()]
    lam = "contrast=0.5,sharpness=0.5"
    assert main(["soup", "--ingredients", *given, "--lam", lam, "--merged", "--out", str(out)]) == 0
    assert "library_name: diffusers" in (out / "README.md").read_text()
    from rslit.diffusion.options import DiffusionOptions, DrawingOptions
    from rslit.diffusion.policy import build_diffusion_policy

    policy_again = build_diffusion_policy(DiffusionOptions(str(out)))
    samples = tmp_path / "run-sweep" / "samples"
    page = [yaml.safe_load(line) for line in (samples / "samples.jsonl").read_text().splitlines()]
    middle = [row for row in page if row["label"] == "contrast=1/2,sharpness=1/2"]
    assert len(middle) == 3
    rows = policy_again.read([row["prompt"] for row in middle])
    seeds = [row["seed"] for row in middle]
    images = policy_again.draw(rows, policy_again.read([""]), seeds, DrawingOptions(**DRAWING))
    from PIL import Image

    for image, row in zip(images, middle, strict=True):
        shown = torch.tensor(list(Image.open(samples / row["file"]).tobytes())).view(SIZE, SIZE, 3).permute(2, 0, 1)
        difference = (image.int() - shown).abs().max()
        assert difference <= (1 if how == "lora" else 0)  # merging rounds where adding does not


def test_morl_trains_on_the_sum_of_rescaled_rewards(root: Path, tmp_path: Path, write_config: Write) -> None:
    both = {
        "class_path": "rslit.rewards.WeightedSum",
        "init_args": {"name": "morl", "rewards": LIGHT, "weights": [1.0, 0.0]},
    }
    morl = fit_config(write_config, training(root, both), tmp_path, "morl")
    alone = fit_config(write_config, training(root), tmp_path, "contrast")
    one, two = (load_file(path / "last" / "weights.safetensors") for path in (morl, alone))
    # All weight on one reward: the weights of the images are equal but for rounding.
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=0, atol=1e-3)
    assert set(read_rewards(root / "images")) == {"contrast", "sharpness"}
