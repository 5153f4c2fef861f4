"""Two processes on gloo: the same weights, images of their own, and the gradient of one process with all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_experiment import rslit_apart
from toy_vision_runs import vision_config

Write = Callable[..., Path]


def run(root: Path, write: Write, name: str, task: str, ranks: int, **extra: Any) -> list[dict[str, Any]]:
    """What each rank recorded."""
    config = vision_config(task, root, trainer__devices=ranks, model__init_args__minibatches=1, **extra)
    if ranks > 1:
        config["trainer"]["strategy"] = "ddp"
    record = {"class_path": "toy_vision_runs.RankRecord", "init_args": {"folder": str(root / name)}}
    config["trainer"]["callbacks"].append(record)
    path = write(config, f"{name}.yaml")
    rslit_apart(root, "fit", "--config", str(path), "--trainer.default_root_dir", str(root / f"run-{name}"))
    return [torch.load(root / name / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("captioning", {"model__init_args__sampling__baseline": "batch_mean"}),
        ("vqa", {"model__init_args__policy": {"trained": None, "lora": {"r": 2}}}),
        ("grounding", {"model__init_args__policy__trained": None}),
    ],
)
def test_two_ranks_stay_equal_and_see_images_of_their_own(
    tmp_path: Path, write_config: Write, task: str, options: dict[str, Any]
) -> None:
    one, two = run(tmp_path, write_config, "ranks", task, 2, **options)
    for key, weight in one["trained"].items():
        assert torch.equal(weight, two["trained"][key]), key
    assert one["scores"] == two["scores"], "logged over both"
    assert all(
        a.shape == b.shape and not torch.equal(a, b) for a, b in zip(one["features"], two["features"], strict=True)
    )
    if task == "captioning":
        for a, b in zip(one["advantages"], two["advantages"], strict=True):
            assert float(torch.cat([a, b]).sum()) == pytest.approx(0.0, abs=1e-4), "what is above the mean of both"


@pytest.mark.slow
def test_supervised_training_on_two_ranks_is_that_on_one_with_all_images(tmp_path: Path, write_config: Write) -> None:
    """Captions of different lengths, whose tokens count no more on the rank with fewer of them."""
    options: dict[str, Any] = {"model__init_args__reinforce": 0.0, "model__init_args__cross_entropy": 1.0}
    # Adam divides gradients of 0, such as those of keys' biases, by their rounding errors.
    options["model__init_args__optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.02}}
    one, _ = run(tmp_path, write_config, "two", "captioning", 2, data__init_args__batch_size=3, **options)
    (alone,) = run(tmp_path, write_config, "one", "captioning", 1, data__init_args__batch_size=6, **options)
    for key, weight in one["trained"].items():
        torch.testing.assert_close(weight, alone["trained"][key], atol=1e-5, rtol=1e-4, msg=key)
