"""Ensembles of vision-language experts against transformers alone and against experts kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_vision_evaluation import LAMS, Raw, experts
from toy_vision import KINDS, LORA, TASKS, Bases, batch_of, build
from transformers import AutoImageProcessor, GenerationConfig, LogitsProcessorList, VisionEncoderDecoderModel

from rslit.vision.images import load_image

WHOLE = {"trained": ["*"]}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


class Mixed:
    """Puts Σ λ_n log p_n of plain models in place of what generates; each row of images serves its beams."""

    def __init__(self, models: list[Any], weights: list[float], pixels: torch.Tensor) -> None:
        self.models, self.weights, self.pixels = models, weights, pixels

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        pixels = self.pixels.repeat_interleave(len(input_ids) // len(self.pixels), 0)
        parts = [model(pixels, decoder_input_ids=input_ids).logits[:, -1].log_softmax(-1) for model in self.models]
        return sum(w * p for w, p in zip(self.weights, parts, strict=True)).log_softmax(-1)  # type: ignore[union-attr]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("policy", [None, WHOLE], ids=["decoders", "whole"])
def test_captions_are_those_of_transformers_models_side_by_side(
    bases: Bases, tmp_path: Path, beams: int, policy: Any
) -> None:
    """The paper's case, with its beams."""
    _, soup = experts("captioning", bases, policy)
    module = build("captioning", bases, policy, evaluation={"num_beams": beams, "max_new_tokens": 8})
    batch = batch_of("captioning", tmp_path / "p", 4)
    before = module.evaluate(batch, 0)["caption"]
    found = [samples["caption"] for samples in module.evaluate_ensembles(batch, 0, soup, LAMS)]
    assert module.evaluate(batch, 0)["caption"] == before, "nothing is left in the policy"
    folder, models = bases[KINDS["captioning"]], []
    for state in soup.states.values():
        plain: Any = VisionEncoderDecoderModel.from_pretrained(folder).eval()
        plain.load_state_dict(state, strict=False)
        plain.generation_config = plain.decoder.generation_config = GenerationConfig()
        models.append(plain)
    processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=[load_image(path) for path in batch["image"]], return_tensors="pt")["pixel_values"]
    end = module.parts.eos_ids[0]
    settings = GenerationConfig(
        max_new_tokens=8,
        num_beams=beams,
        do_sample=False,
        decoder_start_token_id=models[0].config.decoder_start_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    for lam, captions in zip(LAMS, found, strict=True):
        mixed = LogitsProcessorList([Mixed(models, list(lam.values()), pixels)])
        with torch.no_grad():
            ids = models[0].generate(pixels, generation_config=settings, logits_processor=mixed)
        assert captions == [module.parts.tokenizer.decode(row[1:], skip_special_tokens=True).strip() for row in ids]
    assert len({str(captions) for captions in found}) == len(LAMS), "every λ says something else"


@torch.no_grad()
def by_hand(members: list[Any], weights: list[float], batch: dict[str, Any], length: int) -> list[list[int]]:
    """Greedy answers to one row after the other; every member has a model of its own."""
    answers = []
    for row in range(len(batch["items"])):
        one = {name: column[row : row + 1] for name, column in batch.items()}
        decoders = []
        for member in members:
            images = [load_image(one["image"][0])]
            encoded = member.parts.encode(images, member.texts(one))
            decoders.append(member.parts._decoder(member.policy, encoded, 1))
        ids = start = decoders[0].prompts.ids
        while ids.shape[1] - start.shape[1] < length:
            mask = torch.ones_like(ids)
            places = mask.cumsum(1) - 1
            parts = [d(ids, mask, places, logits_to_keep=1, use_cache=False).logits[0, -1] for d in decoders]
            mixed = torch.stack([w * p.log_softmax(-1) for w, p in zip(weights, parts, strict=True)]).sum(0)
            mixed[list(members[0].parts.never)] = -torch.inf
            ids = torch.cat([ids, mixed.argmax().view(1, 1)], 1)
            if int(ids[0, -1]) in members[0].parts.eos_ids:
                break
        answers.append(ids[0, start.shape[1] :].tolist())
    return answers


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("policy", [None, WHOLE, {"lora": LORA}], ids=["decoder", "whole", "lora"])
def test_greedy_answers_are_those_of_experts_kept_apart(
    bases: Bases, tmp_path: Path, task: str, policy: dict[str, Any] | None
) -> None:
    space = {"space": "factors"} if policy and "lora" in policy else {}
    module, soup = experts(task, bases, policy, **space)  # type: ignore[arg-type]
    members = []
    for state in soup.states.values():
        members.append(build(task, bases, policy))
        members[-1].policy.load_state_dict(state, strict=False)
        members[-1].eval()
    module, batch = build(task, bases, policy), batch_of(task, tmp_path / "p", 3)
    raw = Raw(module)
    module.evaluate_ensembles(batch, 0, soup, LAMS)
    assert raw.tokens == [by_hand(members, list(lam.values()), batch, 6) for lam in LAMS]


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"sample": True}], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_an_ensemble_of_one_is_the_expert(bases: Bases, tmp_path: Path, task: str, options: dict[str, Any]) -> None:
    """By beams of LoRA experts, and sampled."""
    _, soup = experts(task, bases, {"lora": LORA}, space="factors")
    module, batch = build(task, bases, {"lora": LORA}, evaluation=options), batch_of(task, tmp_path / "p", 3)
    raw = Raw(module)
    ends = [LAMS[0], LAMS[-1]]
    module.evaluate_soups(batch, 4, soup, ends)
    module.evaluate_ensembles(batch, 4, soup, [*ends, LAMS[1]])
    assert raw.tokens[:2] == raw.tokens[2:4]
    assert raw.tokens[4] not in raw.tokens[:4]
