"""Real runs of the three vision tasks with their images shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_vision_runs import fit_vision, vision_config

from rslit.cli import main

SHOWN = {"class_path": "rslit.callbacks.image_samples.ImageSamplesCallback", "init_args": {"count": 3}}


@pytest.mark.parametrize("task", ["captioning", "vqa", "grounding"])
def test_training_and_a_sweep_show_their_images(tmp_path: Path, write_config: Callable[..., Path], task: str) -> None:
    usual = vision_config(task, tmp_path)["trainer"]["callbacks"]
    # Cross-entropy, so that the weights move whatever the reward says of an untrained model's answers.
    given = {"trainer__callbacks": [*usual, SHOWN], "trainer__max_epochs": 1, "model__init_args__cross_entropy": 1.0}
    one = fit_vision(task, write_config, tmp_path, "one", **given)
    events = EventAccumulator(str(one.parent)).Reload()
    assert set(events.Tags()["images"]) == {"samples/rollout", "samples/validation"}
    config = vision_config(task, tmp_path)
    config["trainer"] = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "callbacks": [SHOWN]}
    config.pop("ckpt_path")
    module = {
        "class_path": "rslit.modules.InterpolationEvaluator",
        "init_args": {
            "module": config["model"],
            "lattice": 2,
            "ingredients": {"one": str(one / "last"), "two": str(one / "initialisation")},
        },
    }
    path = write_config({**config, "model": module}, "sweep.yaml")
    assert main(["validate", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "sweep")]) == 0
    folder = tmp_path / "sweep" / "samples"
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    assert (folder / "index.html").is_file()
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width == 2 * (4 * 236 + 12)
