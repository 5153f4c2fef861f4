"""Captioning, VQA and grounding through the command line: pre-training, experts, a sweep, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_vision import BINS, KINDS, TEXT_PARTS, Bases, reward_of
from toy_vision_runs import fit_vision, vision_config

from rslit.cli import main
from rslit.front import read_scores
from rslit.scenes.models import save_model
from rslit.soup import Ingredient

Write = Callable[..., Path]
SUPERVISED = {"model__init_args__reinforce": 0.0, "model__init_args__cross_entropy": 1.0}
#: The policy of each task, and the reward of its second expert.
LORA = {"trained": None, "lora": {"r": 2, "alpha": 4}}
EXPERTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "captioning": ({}, reward_of("letter_e")),
    "vqa": (LORA, reward_of("letter_e")),
    "grounding": (
        {"trained": None},
        {"class_path": "rslit.rewards.BoxHitReward", "init_args": {"sizes": ["small"], "small_below": 150}},
    ),
}


@pytest.mark.parametrize("task", EXPERTS)
def test_from_supervised_training_over_two_experts_to_a_sweep(tmp_path: Path, write_config: Write, task: str) -> None:
    policy, second = EXPERTS[task]
    given = {"model__init_args__policy": policy}
    start = fit_vision(task, write_config, tmp_path, "start", **given, **SUPERVISED) / "last"
    given["model__init_args__initialisation"] = str(start)
    given["trainer__max_epochs"] = 1
    one = fit_vision(task, write_config, tmp_path, "one", **given)
    two = fit_vision(task, write_config, tmp_path, "two", reward=second, seed_everything=4, **given)
    ingredients = [Ingredient.load(folder / "last") for folder in (one, two)]
    begun = Ingredient.load(start).info
    assert begun.task.endswith(".CaptioningModule" if task == "captioning" else f".{task.capitalize()}Module")
    assert (
        {i.info.initialisation for i in ingredients}
        == {Ingredient.load(one / "initialisation").info.initialisation}
        != {begun.initialisation}
    )
    assert (start / "weights.safetensors").read_bytes() == (one / "initialisation/weights.safetensors").read_bytes()
    base = vision_config(task, tmp_path, **given)["model"]["init_args"]["policy"]["base"]
    assert ingredients[0].info.config["base"]["name"] == base
    names = [i.info.expert for i in ingredients]
    assert len(set(names)) == 2
    events = EventAccumulator(str(tmp_path / "one"))
    events.Reload()
    assert len(events.Scalars("objective/scores")) == 2
    assert f"val/{task}/{names[0]}" in events.Tags()["scalars"]

    config = vision_config(task, tmp_path, **given)
    config["trainer"] = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    config.pop("ckpt_path")
    module = {
        "class_path": "rslit.modules.InterpolationEvaluator",
        "init_args": {
            "module": config["model"],
            "lattice": 2,
            "ingredients": {"one": str(one / "last"), "two": str(two / "last")},
            "initialisation": str(start),
        },
    }
    path = write_config({**config, "model": module}, "sweep.yaml")
    assert main(["validate", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "sweep")]) == 0
    table = read_scores(tmp_path / "sweep/scores.parquet")
    rewards = 2 if task == "grounding" else 3
    assert len(table.frame) == 4 * 6 * rewards  # 3 λ and the initialisation, 6 items
    assert table.meta.space == ("factors" if task == "vqa" else "weights")
    means = table.frame.groupby(["point", "reward"])["score"].mean()
    # At its vertex a soup scores what the expert scored when it was trained.
    for label, ingredient in zip(("one=1,two=0", "one=0,two=1"), ingredients, strict=True):
        assert len(ingredient.info.scores) == rewards
        for key, value in ingredient.info.scores.items():
            assert means[label, key] == pytest.approx(value, abs=1e-6), (label, key)


def test_validate_alone(tmp_path: Path, write_config: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """CIDEr counts n-grams in the training captions then, too; nothing else reads them."""
    path = write_config(vision_config("captioning", tmp_path, ckpt_path=None))
    root = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.callbacks", "null"]
    assert main(["validate", "--config", str(path), *root]) == 0
    printed = capsys.readouterr()
    assert "val/captioning/cider" in printed.out
    path = write_config(vision_config("vqa", tmp_path, ckpt_path=None))
    (tmp_path / "world/vqa/v2_mscoco_train2014_annotations.json").unlink()
    assert main(["validate", "--config", str(path), *root]) == 0


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path, write_config: Write, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a run with exit code 2 ends with."""

    def line(task: str, reward: dict[str, Any] | None = None, **extra: Any) -> str:
        own = {key if key.startswith(("data", "trainer")) else f"model__init_args__{key}": extra[key] for key in extra}
        path = write_config(vision_config(task, tmp_path, reward, **own))
        capsys.readouterr()
        assert main(["fit", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "run")]) == 2
        errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("rslit: error: ")]
        assert len(errors) == 1
        return errors[0]

    return line


def test_options_that_train_nothing_or_do_not_fit(refused: Callable[..., str]) -> None:
    nothing = "reinforce and cross_entropy must be 0 or above, and one of them above: nothing would train"
    assert nothing in refused("captioning", reinforce=0.0)
    assert nothing in refused("vqa", reinforce=-1.0, cross_entropy=1.0)
    assert "prompt: 'What?' has no {} where the question goes; add it" in refused("vqa", prompt="What?")
    assert "prompt: '{} !' has {}, but nothing goes there" in refused("captioning", prompt="{} !")
    found = refused("captioning", sampling={"samples": 1})
    assert "sampling.baseline: leave_one_out needs at least 2 samples; raise sampling.samples" in found
    assert "temperature above 0" in refused("vqa", sampling__temperature=0.0)
    assert "beams are for decoding without sampling" in refused("vqa", evaluation={"num_beams": 2, "sample": True})
    assert "4 rows does not divide into 3 minibatches" in refused("vqa", minibatches=3)


def test_a_model_that_knows_no_boxes(refused: Callable[..., str], tmp_path: Path) -> None:
    other = str(Bases(tmp_path)[KINDS["captioning"]])
    found = refused("grounding", policy={"base": other, "trained": TEXT_PARTS["captioning"]})
    assert f"the tokenizer of {other} has no token '<loc_0>'" in found
    assert "choose a model and a codec that go together" in found
    assert f"has no token '<loc_{BINS}>'" in refused("grounding", codec__init_args__bins=32)
    short = "tokens cannot hold a box of FlorenceBoxCodec; give 5"
    assert f"sampling.max_new_tokens: 4 {short}" in refused("grounding", sampling__max_new_tokens=4)
    assert f"evaluation.max_new_tokens: 3 {short}" in refused("grounding", evaluation__max_new_tokens=3)
    assert f"max_target_tokens: 2 {short}" in refused("grounding", max_target_tokens=2)


def test_an_image_that_is_missing(refused: Callable[..., str], tmp_path: Path) -> None:
    vision_config("captioning", tmp_path)
    gone = sorted((tmp_path / "world/images/train2014").iterdir())[5]
    gone.unlink()
    for task in EXPERTS:
        assert gone.name.removesuffix(gone.suffix)[-12:] in refused(task, minibatches=1, data__init_args__batch_size=12)


def test_an_image_that_breaks_in_the_middle_of_training(refused: Callable[..., str], tmp_path: Path) -> None:
    found = refused("captioning", reward=reward_of("wreck"), trainer__limit_val_batches=0)
    assert found.startswith(f"rslit: error: image {tmp_path}/world/images/")
    assert "cannot be read (" in found
    assert "; fetch it again, or take the item out of the data" in found
    assert not (tmp_path / "run/ingredients/last").exists()


def test_a_reward_that_lacks_its_field_is_named(refused: Callable[..., str]) -> None:
    found = refused("captioning", reward={"class_path": "rslit.rewards.IoUReward"})
    assert "IoUReward 'iou': no field 'box'; the samples have: caption, image, references" in found


def test_a_vocabulary_that_does_not_fit_the_answers(refused: Callable[..., str], tmp_path: Path) -> None:
    vision_config("vqa", tmp_path)
    save_model("unified", ["is there a shape ? what color yes no"], tmp_path / "few")
    found = refused("vqa", policy={"base": str(tmp_path / "few"), "trained": None})
    assert re.search(
        r"policy\.base: its tokenizer cannot write \d\d% of the training answers, such as '[^']+'; give", found
    )
    assert "policy.processor, whose vocabulary fits the answers" in found
