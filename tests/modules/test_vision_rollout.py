"""What a rollout about images holds: answers, what rewards are shown, prompts, noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_vision import (
    ANSWERS,
    BINS,
    BOXES,
    CAPTIONS,
    EXPRESSIONS,
    LORA,
    QUESTIONS,
    SIZE,
    TASKS,
    Bases,
    Recorder,
    batch_of,
    build,
    counted,
    loss_of,
    move,
)

from rslit.language import Answers
from rslit.rewards import FunctionReward, IoUReward, WeightedSum
from rslit.samples import Samples
from rslit.vision.images import load_image

# k² mod 7 of k = 0 .. 11, three to each of four images.
SCORES = torch.tensor([[0.0, 1, 4], [2, 2, 4], [1, 0, 1], [4, 2, 2]])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


# -- what rewards are shown -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_rewards_see_each_answer_with_what_belongs_to_its_image(bases: Bases, tmp_path: Path, task: str) -> None:
    module, batch = build(task, bases), batch_of(task, tmp_path / "p")
    experience = module.rollout(batch)
    (samples,) = module.reward.seen
    assert samples is module.latest
    assert samples.items == [f"i{k}" for k in range(4) for _ in range(3)]
    assert samples["image"] == [path for path in batch["image"] for _ in range(3)]
    assert torch.equal(samples.scores["recorded"], SCORES.flatten())
    ids = module.parts.tokenizer
    texts = [
        ids.decode(counted(experience, row, answer), skip_special_tokens=True).strip()
        for row in range(4)
        for answer in range(3)
    ]
    if task == "captioning":
        assert samples["caption"] == texts
        assert samples["references"] == [[CAPTIONS[k], f"{CAPTIONS[k]} again"] for k in range(4) for _ in range(3)]
    elif task == "vqa":
        assert samples["answer"] == texts
        assert samples["question"] == [QUESTIONS[k] for k in range(4) for _ in range(3)]
        assert samples["answers"] == [[ANSWERS[k]] * 9 + ["maybe"] for k in range(4) for _ in range(3)]
    else:
        assert samples["expression"] == [EXPRESSIONS[k] for k in range(4) for _ in range(3)]
        assert samples["target"].tolist() == [list(map(float, BOXES[k])) for k in range(4) for _ in range(3)]
        assert samples["image_size"].tolist() == [list(SIZE)] * 12
        assert samples["box"].isnan().all(), "an untrained model says no boxes"
    # What the policy is shown in each row is that image.
    for row, path in enumerate(batch["image"]):
        seen = module.parts.look(module.parts.pixels([load_image(path)]))[0]
        torch.testing.assert_close(experience["image_features"][row], seen)
        assert not torch.allclose(experience["image_features"][row - 1], seen, atol=1e-2)


def test_boxes_are_read_from_tokens_where_the_answer_counts(bases: Bases, tmp_path: Path) -> None:
    module, batch = build("grounding", bases), batch_of("grounding", tmp_path / "p", 3)
    bins, end = module.parts.tokenizer.convert_tokens_to_ids([f"<loc_{k}>" for k in range(BINS)]), 2
    rows = [[0, bins[0], bins[0], bins[8], bins[8], end], [bins[3], bins[4], bins[12], end, end, end]]
    rows += [[bins[5], bins[5], bins[4], bins[9], end, end], [bins[4], bins[1], bins[6], bins[9], end, end]]
    rows += [[0, 0, bins[1], bins[2], bins[3], bins[4]]] * 2
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[5, 5] = False
    samples = module.samples(batch, Answers(torch.tensor(rows), mask, mask[:, 0]), 2)
    step, (width, height) = 1 / BINS, SIZE
    box = [0.5 * step * width, 0.5 * step * height, 8.5 * step * width, 8.5 * step * height]
    assert samples["box"][0].tolist() == pytest.approx(box)
    # Three locations; x1 < x0; a box; a box at the end; a box whose last token does not count.
    assert samples["box"].isnan().all(1).tolist() == [False, True, True, False, False, True]
    assert IoUReward()(samples)[1:3].tolist() == [0.0, 0.0]
    assert float(IoUReward()(samples)[0]) == pytest.approx(0.78397, abs=1e-5)
    assert samples["target"][:, 0].tolist() == [0.0, 0.0, 10.0, 10.0, 2.0, 2.0]


def test_a_weighted_sum_is_scored_once_a_term_and_every_term_is_logged(bases: Bases, tmp_path: Path) -> None:
    one, two = Recorder("one"), Recorder("two")
    module = build("vqa", bases, reward=WeightedSum([one, two], [0.75, 0.25]), sampling={"baseline": "none"})
    experience = module.rollout(batch_of("vqa", tmp_path / "p"))
    assert len(one.seen) == len(two.seen) == 1
    torch.testing.assert_close(experience["advantages"], SCORES)
    numbers = module._rollout_stats
    assert numbers["objective/scores"] == pytest.approx(23 / 12)
    assert numbers["rewards/one/mean"] == pytest.approx(23 / 12)
    assert numbers["rewards/two/std"] == pytest.approx(float(SCORES.std(correction=0)))
    assert module.latest.scores.keys() == {"one", "two"}


def test_a_term_that_does_not_apply_is_left_out_of_what_is_logged(bases: Bases, tmp_path: Path) -> None:
    def sometimes(samples: Samples) -> Tensor:
        return torch.tensor([float(k) if k % 2 else torch.nan for k in range(len(samples))])

    never = FunctionReward(lambda samples: torch.full((len(samples),), torch.nan), "never")
    total = WeightedSum([Recorder(), FunctionReward(sometimes), never], [1.0, 1.0, 1.0])
    module = build("captioning", bases, reward=total, sampling={"baseline": "none"})
    experience = module.rollout(batch_of("captioning", tmp_path / "p"))
    extra = torch.tensor([float(k) if k % 2 else 0.0 for k in range(12)]).view(4, 3)
    torch.testing.assert_close(experience["advantages"], SCORES + extra)
    assert module._rollout_stats["rewards/sometimes/mean"] == 6.0
    assert module._rollout_stats["rewards/never/mean"] == 0.0


# -- prompts and noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "prompt", "asked"),
    [
        ("captioning", None, None),
        ("captioning", "This film {was", ["This film {was"] * 2),
        ("vqa", None, QUESTIONS[:2]),
        ("vqa", "question: {} {x} answer:", [f"question: {q} {{x}} answer:" for q in QUESTIONS[:2]]),
        ("grounding", 'which region does " {} "?', [f'which region does " {e} "?' for e in EXPRESSIONS[:2]]),
    ],
)
def test_prompts(bases: Bases, tmp_path: Path, task: str, prompt: str | None, asked: list[str] | None) -> None:
    module, batch = build(task, bases, prompt=prompt), batch_of(task, tmp_path / "p", 2)
    assert module.texts(batch) == asked
    experience = module.rollout(batch)
    ids = module.parts.ask(asked, 2)["input_ids"]
    assert torch.equal(experience["input_ids"], ids)
    if task == "captioning":  # what it was asked is no part of the caption
        assert experience["input_ids"].shape[1] == (1 if prompt is None else 1 + len(tokens_of(module, asked)))
        assert not any("This film" in caption for caption in module.latest["caption"])


def tokens_of(module: Any, texts: list[str] | None) -> list[int]:
    assert texts is not None
    ids: list[int] = module.parts.tokenizer(texts[0], add_special_tokens=False)["input_ids"]
    return ids


def test_rollouts_have_noise_of_their_own_and_a_repeated_one_the_same(bases: Bases, tmp_path: Path) -> None:
    module, batch = build("captioning", bases, {"lora": LORA}), batch_of("captioning", tmp_path / "p")
    first, second = module.rollout(batch)["tokens"], module.rollout(batch)["tokens"]
    assert module.rollouts_done == 2
    module.rollouts_done = 0
    assert torch.equal(module.rollout(batch)["tokens"], first)
    assert first.shape != second.shape or not torch.equal(first, second)


def test_gradients_reach_what_is_trained_and_nothing_else(bases: Bases, tmp_path: Path) -> None:
    for task in TASKS:
        module = build(task, bases, cross_entropy=1.0)
        move(module, 0.05)
        loss_of(module, module.rollout(batch_of(task, tmp_path / "p"))).backward()
        without = [name for name, p in module.policy.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, task
        assert all(p.grad is None for p in module.policy.parameters() if not p.requires_grad)


def test_sampling_options_are_those_given(bases: Bases, tmp_path: Path) -> None:
    batch = batch_of("captioning", tmp_path / "p")
    free = build("captioning", bases, sampling={"stop_at_eos": False, "max_new_tokens": 7}).rollout(batch)
    assert free["mask"].all()
    assert free["tokens"].shape == (4, 3, 7)
    cold = build("captioning", bases, sampling={"temperature": 1e-4})
    cold.rollout(batch)
    plain = cold.evaluate(batch, 0)["caption"]
    assert cold.latest["caption"] == [caption for caption in plain for _ in range(3)]
