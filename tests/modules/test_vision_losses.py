"""REINFORCE and cross-entropy of answers about images, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_vision import (
    ANSWERS,
    BINS,
    BOXES,
    CAPTIONS,
    KINDS,
    SIZE,
    TASKS,
    Bases,
    batch_of,
    build,
    counted,
    logprobs_alone,
    loss_of,
)
from transformers import AutoImageProcessor, VisionEncoderDecoderModel

from rslit.vision.images import load_image

# k² mod 7 of k = 0 .. 11, three to each of four images; and of 0 .. 3, the greedy answers.
SCORES = torch.tensor([[0.0, 1, 4], [2, 2, 4], [1, 0, 1], [4, 2, 2]])
GREEDY = torch.tensor([0.0, 1, 4, 2])
ADVANTAGES = {
    "leave_one_out": torch.tensor([[-2.5, -1, 3.5], [-1, -1, 2], [0.5, -1, 0.5], [2, -1, -1]]),
    "greedy": SCORES - GREEDY[:, None],
    "batch_mean": SCORES - 23 / 12,
    "none": SCORES,
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


@pytest.mark.parametrize(
    ("task", "baseline"),
    [
        *((task, "leave_one_out") for task in TASKS),
        *(("captioning", "greedy"), ("vqa", "batch_mean"), ("grounding", "none")),
    ],
)
def test_the_reinforce_loss_by_hand(bases: Bases, tmp_path: Path, task: str, baseline: str) -> None:
    """Of generate's own tokens, each answer scored alone from the pixels; the minus mean over answers of A Σ log p."""
    options: dict[str, Any] = {"baseline": baseline, "temperature": 0.8, "max_new_tokens": 5}
    module, batch = build(task, bases, sampling=options), batch_of(task, tmp_path / "p")
    experience = module.rollout(batch)
    assert experience.batch_size == (4,)
    torch.testing.assert_close(experience["advantages"], ADVANTAGES[baseline])
    assert len(module.reward.seen) == 1 + (baseline == "greedy")
    terms = []
    for row in range(4):
        for answer in range(3):
            tokens = counted(experience, row, answer)
            assert 1 <= len(tokens) <= 5
            sums = logprobs_alone(module, batch, row, tokens).sum()
            terms.append(float(ADVANTAGES[baseline][row, answer] * sums))
    assert len({tuple(counted(experience, 0, answer)) for answer in range(3)}) == 3, "each has noise of its own"
    assert loss_of(module, experience).item() == pytest.approx(-sum(terms) / 12, abs=1e-4)


def test_the_greedy_baseline_scores_what_the_policy_says_without_noise(bases: Bases, tmp_path: Path) -> None:
    module = build("captioning", bases, sampling={"baseline": "greedy"})
    batch = batch_of("captioning", tmp_path / "p")
    module.rollout(batch)
    sampled, greedy = module.reward.seen
    assert len(sampled) == 12
    assert greedy["caption"] == module.evaluate(batch, 0)["caption"]
    assert greedy.items == batch["items"]


def test_log_probabilities_are_those_of_transformers_alone(bases: Bases, tmp_path: Path) -> None:
    module, batch = build("captioning", bases, sampling={"baseline": "none"}), batch_of("captioning", tmp_path / "p")
    experience = module.rollout(batch)
    folder = bases[KINDS["captioning"]]
    plain: Any = VisionEncoderDecoderModel.from_pretrained(folder).eval()
    processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
    start, total = plain.config.decoder_start_token_id, 0.0
    for row, path in enumerate(batch["image"]):
        pixels = processor(images=[load_image(path)], return_tensors="pt")["pixel_values"]
        for answer in range(3):
            tokens = torch.tensor([counted(experience, row, answer)])
            before = torch.cat([torch.tensor([[start]]), tokens[:, :-1]], 1)
            with torch.no_grad():
                logits = plain(pixel_values=pixels, decoder_input_ids=before).logits
            total += float(SCORES[row, answer] * logits.log_softmax(-1).gather(2, tokens[..., None]).sum())
    assert loss_of(module, experience).item() == pytest.approx(-total / 12, abs=1e-4)


def target_tokens(module: Any, task: str, row: int) -> list[int]:
    ids, end = module.parts.tokenizer, module.parts.eos_ids[0]
    if task != "grounding":
        text = (CAPTIONS if task == "captioning" else ANSWERS)[row]
        return [*ids(text, add_special_tokens=False)["input_ids"], end]
    width, height = SIZE
    x0, y0, x1, y1 = BOXES[row]
    codes = [x0 * BINS // width, y0 * BINS // height, x1 * BINS // width, y1 * BINS // height]
    bins = [f"<loc_{min(code, BINS - 1)}>" for code in codes]
    # Florence-2 begins its answers with <s>, whatever it is asked.
    return [ids.bos_token_id, *ids.convert_tokens_to_ids(bins), end]


@pytest.mark.parametrize("task", TASKS)
def test_the_cross_entropy_by_hand(bases: Bases, tmp_path: Path, task: str) -> None:
    module = build(task, bases, reinforce=0.0, cross_entropy=0.7)
    batch = batch_of(task, tmp_path / "p")
    experience = module.rollout(batch)
    assert not module.reward.seen, "nothing is sampled"
    assert module.latest is None
    sums, count = 0.0, 0
    for row in range(4):
        tokens = target_tokens(module, task, row)
        assert experience["target"][row][experience["target_mask"][row]].tolist() == tokens
        sums += float(logprobs_alone(module, batch, row, tokens).sum())
        count += len(tokens)
    assert loss_of(module, experience).item() == pytest.approx(-0.7 * sums / 4, abs=1e-4)
    assert float(module._stats[0]["loss/cross_entropy"]) == pytest.approx(-sums / count, abs=1e-5), "a token's"


def test_long_targets_are_cut_off(bases: Bases, tmp_path: Path) -> None:
    module = build("captioning", bases, reinforce=0.0, cross_entropy=1.0, max_target_tokens=3)
    experience = module.rollout(batch_of("captioning", tmp_path / "p"))
    tokens = [target_tokens(module, "captioning", row)[:3] for row in range(4)]
    assert experience["target"].tolist() == tokens
    assert experience["target_mask"].all()


def test_the_papers_grounding_loss(bases: Bases, tmp_path: Path) -> None:
    """-(log p(target) + 5 R log p(answer)), of whole boxes; Ramé et al. 2023, section 3.4."""
    sampling = {"samples": 1, "baseline": "none"}
    module = build("grounding", bases, reinforce=5.0, cross_entropy=1.0, sampling=sampling)
    batch = batch_of("grounding", tmp_path / "p")
    experience = module.rollout(batch)
    expected = 0.0
    for row, worth in enumerate(GREEDY.tolist()):  # k² mod 7 of four answers
        said = logprobs_alone(module, batch, row, counted(experience, row, 0)).sum()
        true = logprobs_alone(module, batch, row, target_tokens(module, "grounding", row)).sum()
        expected -= float(true + 5 * worth * said) / 4
    assert loss_of(module, experience).item() == pytest.approx(expected, abs=1e-3)
