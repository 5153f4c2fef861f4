"""Decoding held-out prompts: one policy, and many λ in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_gpt2, save_tiny_llama
from toy_text import QUESTIONS, move_adapter, prompt_batch, text_module
from transformers import AutoModelForCausalLM, GenerationConfig

from rslit.modules import RewardedModule
from rslit.soup import Soup

SAVE = {"llama": save_tiny_llama, "gpt2": save_tiny_gpt2}
LAMS = [{"one": 1.0, "two": 0.0}, {"one": 0.25, "two": 0.75}, {"one": 0.5, "two": 0.5}, {"one": 0.0, "two": 1.0}]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVE[request.param](tmp_path_factory.mktemp("base"))


def built(base: Path, **evaluation: Any) -> Any:
    return text_module(base, evaluation={"max_new_tokens": 10, **evaluation}).eval()


def moved(base: Path, seed: int) -> dict[str, torch.Tensor]:
    module = built(base)
    move_adapter(module, 0.2, seed)
    return module.policy_state()


def soup_of(base: Path, module: Any) -> Soup:
    states = {"one": moved(base, 1), "two": moved(base, 2)}
    adapters = dict.fromkeys(states, module.parts.adapter)
    return Soup(states, trainable_keys=module.trainable_keys, adapters=adapters, space="factors")


def test_greedy_answers_are_those_of_transformers_alone(base: Path) -> None:
    module = built(base)
    samples = module.evaluate(prompt_batch(module), seed=0)
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    plain.generation_config = GenerationConfig()
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 10, "eos_token_id": list(module.parts.eos_ids)}
    settings |= {"pad_token_id": module.parts.pad_id, "suppress_tokens": list(module.speaker.suppressed) or None}
    for row, question in enumerate(QUESTIONS):
        ids = torch.tensor([module.tokenizer(question)["input_ids"]])
        text = plain.generate(ids, generation_config=GenerationConfig(**settings))[0, ids.shape[1] :]
        assert samples["response"][row] == module.tokenizer.decode(text, skip_special_tokens=True).strip()
    assert samples["question"] == QUESTIONS
    assert samples.items == [f"q{k}" for k in range(8)]
    assert samples.scores.keys() == {"toy"}
    assert samples.scores["toy"].shape == (8,)


def test_sampled_answers_follow_the_seed(base: Path) -> None:
    module = built(base, sample=True)
    batch = prompt_batch(module)
    first = module.evaluate(batch, seed=5)["response"]
    assert module.evaluate(batch, seed=5)["response"] == first
    assert module.evaluate(batch, seed=6)["response"] != first
    assert built(base).evaluate(batch, seed=5)["response"] != first


@pytest.mark.parametrize("options", [{}, {"sample": True}, {"num_beams": 2}, {"sample": True, "stop_at_eos": False}])
def test_all_soups_in_one_batch_equal_one_after_the_other(base: Path, options: dict[str, Any]) -> None:
    """Same prompts and, where sampled, same noise for every λ; however many rows are decoded at a time."""
    module = built(base, **options)
    batch, soup = prompt_batch(module), soup_of(base, module)
    poured = [s["response"] for s in RewardedModule.evaluate_soups(module, batch, 3, soup, LAMS)]
    assert len({tuple(responses) for responses in poured}) == len(LAMS), "every soup says something else"
    before = module.evaluate(batch, 3)["response"]
    for rows in (256, 16, 1):
        module.evaluation.rows = rows
        found = module.evaluate_soups(batch, 3, soup, LAMS)
        assert [s["response"] for s in found] == poured, rows
        assert all(torch.equal(s.scores["toy"], module.reward(s)) for s in found)
    assert module.evaluate(batch, 3)["response"] == before, "the policy is as it was"


def test_evaluation_may_let_answers_end_though_training_does_not(base: Path) -> None:
    given = text_module(base, evaluation={"max_new_tokens": 24, "sample": True}, sampling={"stop_at_eos": False}).eval()
    batch = prompt_batch(given, QUESTIONS * 48)
    ended = given.evaluate(batch, 0)
    assert ended["finished"].any()
    assert (ended["length"][ended["finished"]] <= 24).all()
    assert (ended["length"][~ended["finished"]] == 24).all()
    given.evaluation.stop_at_eos = False
    free = given.evaluate(batch, 0)
    assert not free["finished"].any()
    assert (free["length"] == 24).all()
