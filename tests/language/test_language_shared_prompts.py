"""Prompts that several answers share pass a model once, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_text import bare_gpt2, bare_llama
from transformers import AutoModelForCausalLM, MambaConfig, MistralConfig

from rslit.language import Answers, Prompts, generate, left_pad, scoring
from rslit.language.shared_prompts import distinct, shares_prompts

PROMPTS = [[3, 4, 5, 6, 7, 8, 9], [8, 9], [10, 3, 11, 2], [5]]
MIXED = [PROMPTS[k] for k in (2, 0, 2, 3, 1, 0, 2, 3)]


def bare_mistral() -> Any:
    """A window of 3 tokens, shorter than prompts and answers."""
    config = bare_llama().config.to_dict()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    more = ("num_key_value_heads", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        MistralConfig(**{key: config[key] for key in (*names, *more)}, sliding_window=3)
    )


MODELS = {"llama": bare_llama, "gpt2": bare_gpt2, "mistral": bare_mistral}


def with_frozen_head(kind: str) -> Any:
    model = MODELS[kind]().eval()
    model.get_output_embeddings().requires_grad_(False)
    return model


def tokens_of(model: Any) -> list[int]:
    """Counts the tokens of each pass."""
    seen: list[int] = []

    def count(module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        seen.append(ids.numel())

    model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return seen


def test_distinct_prompts() -> None:
    """A pad token may be a token of the prompt, too."""
    prompts = left_pad([[0, 3], [3], [0, 3], [5, 0, 3]], 0)
    few, own = distinct(prompts)
    assert len(few.ids) == 3
    assert torch.equal(few.mask[own], prompts.mask)
    assert torch.equal(few.ids[own][prompts.mask], prompts.ids[prompts.mask])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("width", [1, 5])
def test_scores_and_gradients_are_those_of_whole_rows(kind: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    torch.manual_seed(1)
    tokens, weights = torch.randint(2, 12, (8, width)), torch.randn(8, width)
    mask = torch.arange(width) < torch.tensor([[5], [3], [1], [5], [2], [4], [5], [5]])
    for shares in (True, False):
        monkeypatch.setattr(scoring, "shares_prompts", lambda model, shares=shares: shares)
        model = with_frozen_head(kind)
        scored = scoring.score_answers(model, left_pad(MIXED, 0), tokens, mask, temperature=0.7)  # asks the model once
        seen = tokens_of(model)
        value = torch.nn.Linear(16, 1, bias=False)
        torch.nn.init.constant_(value.weight, 0.1)
        scored = scoring.score_answers(
            model, left_pad(MIXED, 0), tokens, mask, temperature=0.7, value_head=value, entropy=True
        )
        assert scored.values is not None
        (weights * (scored.logprobs + scored.values.masked_fill(~mask, 0.0))).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((scored, gradients, seen))
    (one, gradients, few), (two, others, all_of_them) = found
    assert few == ([4 * 7, 8 * 4] if width > 1 else [4 * 7])
    assert all_of_them == [8 * (7 + width - 1)]
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a[mask], b[mask], atol=1e-5, rtol=0)
    assert gradients.keys() == others.keys()
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name], atol=1e-4, rtol=1e-4)


def test_without_repeats_there_is_one_pass() -> None:
    model = with_frozen_head("llama")
    tokens, mask = torch.full((4, 2), 3), torch.ones(4, 2, dtype=torch.bool)
    scoring.score_answers(model, left_pad(PROMPTS, 0), tokens, mask)
    seen = tokens_of(model)
    scoring.score_answers(model, left_pad(PROMPTS, 0), tokens, mask)
    assert seen == [4 * 8]


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_those_of_whole_rows(kind: str) -> None:
    model = MODELS[kind]().eval()
    prompts = left_pad([prompt for prompt in PROMPTS for _ in range(3)], 0)
    seen = tokens_of(model)

    def answers(group: int, prompts: Prompts = prompts, **options: Any) -> Answers:
        del seen[:]
        options = {"noise": torch.Generator().manual_seed(0), "suppressed": (0,), **options}
        return generate(model, prompts, torch.full((12,), 6), pad_id=0, group=group, **options)

    one = answers(3)
    assert seen == [4 * 6, *[12] * 6]
    two = answers(1)
    assert seen == [12 * 7, *[12] * 5]
    assert torch.equal(one.tokens, two.tokens)
    assert len({tuple(row) for row in one.tokens.tolist()}) == 12, "each answer has noise of its own"
    assert torch.equal(answers(3, noise=None).tokens, answers(1, noise=None).tokens)
    answers(3, noise=None, num_beams=2)
    assert seen[0] > 4 * 6, "beams go whole"
    short = left_pad([[prompt[0]] for prompt in PROMPTS for _ in range(3)], 0)
    assert torch.equal(answers(3, short).tokens, answers(1, short).tokens)


def test_models_that_keep_no_keys_and_values_go_whole() -> None:
    assert shares_prompts(bare_llama())
    config = MambaConfig(vocab_size=12, hidden_size=16, num_hidden_layers=1, state_size=4, pad_token_id=0)
    assert not shares_prompts(AutoModelForCausalLM.from_config(config))
    model = bare_llama()
    model.gradient_checkpointing_enable()
    assert not shares_prompts(model)
    model = bare_llama()
    model.config.layer_types = ["full_attention", "linear_attention"]
    assert not shares_prompts(model)
