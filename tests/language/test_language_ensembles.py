"""Ensembles against a plain loop that asks every expert for its log-probabilities at every step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_llama
from toy_text import QUESTIONS, move_adapter, prompt_batch, text_module

from rslit.errors import RslitError
from rslit.soup import Soup

LAMS = [{"one": 1.0, "two": 0.0}, {"one": 0.3, "two": 0.7}, {"one": 0.5, "two": 0.5}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base"))


def built(base: Path, **evaluation: Any) -> Any:
    return text_module(base, evaluation={"max_new_tokens": 8, **evaluation}).eval()


def expert(base: Path, seed: int) -> Any:
    module = built(base)
    move_adapter(module, 0.4, seed)
    return module


def soup_of(base: Path, module: Any) -> Soup:
    states = {"one": expert(base, 1).policy_state(), "two": expert(base, 2).policy_state()}
    adapters = dict.fromkeys(states, module.parts.adapter)
    return Soup(states, trainable_keys=module.trainable_keys, adapters=adapters, space="factors")


def by_hand(experts: Sequence[Any], weights: Sequence[float], question: str) -> str:
    first = experts[0]
    ids = torch.tensor([first.tokenizer(question)["input_ids"]])
    start = ids.shape[1]
    for _ in range(8):
        with torch.no_grad():
            mixed = sum(
                w * e.policy(input_ids=ids).logits[0, -1].log_softmax(-1) for w, e in zip(weights, experts, strict=True)
            )
        for token in first.speaker.suppressed:
            mixed[token] = -torch.inf
        token = int(mixed.argmax())
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
        if token in first.parts.eos_ids:
            break
    return str(first.tokenizer.decode(ids[0, start:], skip_special_tokens=True)).strip()


def test_greedy_answers(base: Path) -> None:
    experts, module = [expert(base, 1), expert(base, 2)], built(base)
    soup, batch = soup_of(base, module), prompt_batch(module)
    wanted = [[by_hand(experts, list(lam.values()), question) for question in QUESTIONS] for lam in LAMS]
    assert len({tuple(answers) for answers in wanted}) == len(LAMS)
    for rows in (256, 16):  # all λ at once, or one after the other
        module.evaluation.rows = rows
        found = module.evaluate_ensembles(batch, 0, soup, LAMS)
        assert [samples["response"] for samples in found] == wanted
        assert all(torch.equal(samples.scores["toy"], module.reward(samples)) for samples in found)
    # Nothing is left in the model.
    assert module.evaluate(batch, 0)["response"] == built(base).evaluate(batch, 0)["response"]


def test_an_ensemble_of_one_is_the_expert_sampled_too(base: Path) -> None:
    module = built(base, sample=True)
    soup, batch = soup_of(base, module), prompt_batch(module)
    ends = [{"one": 1.0, "two": 0.0}, {"one": 0.0, "two": 1.0}]
    alone = [samples["response"] for samples in module.evaluate_soups(batch, 5, soup, ends)]
    assert [samples["response"] for samples in module.evaluate_ensembles(batch, 5, soup, ends)] == alone


def test_refusals(base: Path) -> None:
    module = built(base, num_beams=2)
    soup, batch = soup_of(base, module), prompt_batch(module)
    with pytest.raises(RslitError, match=r"set evaluation\.num_beams to 1"):
        module.evaluate_ensembles(batch, 0, soup, LAMS)
    states = {name: {"w": torch.full((2,), value)} for name, value in (("one", 0.0), ("two", 1.0))}
    with pytest.raises(RslitError, match="the experts are whole models"):
        module.evaluate_ensembles(batch, 0, Soup(states, trainable_keys=["w"]), LAMS)
