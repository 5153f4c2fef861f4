"""Learning checks: tiny models learn targets by heart, and say more of what is rewarded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import train
from toy_vision import (
    ANSWERS,
    BOXES,
    CAPTIONS,
    TASKS,
    Bases,
    adam,
    batch_of,
    build,
    letter_e,
)
from toy_vision_runs import mean

from rslit.rewards import FunctionReward, IoUReward
from rslit.vision.boxes import iou

SUPERVISED: dict[str, Any] = {"reinforce": 0.0, "cross_entropy": 1.0}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


@pytest.mark.parametrize(("frozen", "rate", "rollouts"), [(True, 0.02, 80), (False, 0.01, 100)])
@pytest.mark.parametrize("task", TASKS)
def test_targets_are_learnt_by_heart(
    bases: Bases, tmp_path: Path, task: str, frozen: bool, rate: float, rollouts: int
) -> None:
    """From about 6 nats a token, a uniform guess, to next to nothing; then greedy answers are the targets."""
    batch = batch_of(task, tmp_path / "p", 6)
    reward = IoUReward() if task == "grounding" else None
    options = {"optimizer": adam(rate), "evaluation": {"max_new_tokens": 16}}
    module = build(task, bases, None if frozen else {}, reward, **SUPERVISED, **options)
    losses = train(module, batch, tmp_path, rollouts).column("loss/cross_entropy")
    assert losses[0] > 5
    assert losses[-1] < 0.02
    samples = module.evaluate(batch, seed=0)
    if task == "captioning":
        assert samples["caption"] == CAPTIONS
    elif task == "vqa":
        assert samples["answer"] == ANSWERS
    else:
        overlaps = iou(samples["box"], torch.tensor(BOXES, dtype=torch.float32))
        assert overlaps.min() > 0.65, "but for half a bin of 16 they are the targets"
        assert torch.equal(samples.scores["iou"], overlaps)


@pytest.mark.parametrize(("task", "baseline"), [("captioning", "leave_one_out"), ("vqa", "greedy")])
def test_what_is_rewarded_is_said_more(bases: Bases, tmp_path: Path, task: str, baseline: str) -> None:
    """The share of a letter."""
    sampling = {"samples": 5, "baseline": baseline}
    module = build(task, bases, reward=FunctionReward(letter_e), sampling=sampling, optimizer=adam(0.02))
    scores = train(module, batch_of(task, tmp_path / "p", 6), tmp_path, 30).column("objective/scores")
    assert mean(scores[:2]) < 0.1
    assert mean(scores[-3:]) > 0.2


def test_boxes_move_to_where_the_overlap_is_larger(bases: Bases, tmp_path: Path) -> None:
    """Of two boxes that a policy was taught to say about each image, it soon prefers the rewarded one."""
    batch = batch_of("grounding", tmp_path / "p", 6)
    others = {**batch, "box": [*batch["box"][1:], batch["box"][0]]}
    teacher = build("grounding", bases, optimizer=adam(0.02), **SUPERVISED)
    taught = train(teacher, {name: [*column, *others[name]] for name, column in batch.items()}, tmp_path, 60)
    assert taught.lines[-1]["loss/cross_entropy"] == pytest.approx(math.log(2) / 6, abs=0.05), "a coin for 6 tokens"
    paper = {"reinforce": 5.0, "cross_entropy": 1.0, "sampling": {"samples": 1, "baseline": "none"}}
    for options in (paper, {"sampling": {"samples": 4}}):
        module = build("grounding", bases, reward=IoUReward(), optimizer=adam(0.002), **options)
        module.policy.load_state_dict(teacher.policy_state(), strict=False)
        scores = train(module, batch, tmp_path, 40).column("objective/scores")
        assert mean(scores[:3]) < 0.6
        assert mean(scores[-9:]) > 0.7
