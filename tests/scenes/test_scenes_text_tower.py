"""The text tower learns to tell a text's words, also of texts it has not read, at every place behind them."""

from __future__ import annotations

from typing import Any

import torch

from rslit.scenes.pipeline import clip_tokenizer, fresh_text_encoder
from rslit.scenes.single import prompts
from rslit.scenes.text_tower import teach_words

TRAIN, TEST = prompts("train"), prompts("test")


def taught(steps: int, seed: int = 0) -> tuple[Any, Any, float]:
    tokenizer = clip_tokenizer(TRAIN)
    text = fresh_text_encoder(tokenizer)
    return tokenizer, text, teach_words(text, tokenizer, TRAIN, seed, steps=steps)


def share_of_texts(tokenizer: Any, text: Any) -> float:
    """Of what stands at the last place, behind all padding, the share that differs among held-out texts."""
    ids = tokenizer(TEST, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        last = text(input_ids=ids).last_hidden_state[:, -1].double()
    return float(last.var(0, correction=0).sum() / last.square().sum(1).mean())


def test_it_tells_all_words_behind_a_text() -> None:
    tokenizer, text, share = taught(200)
    assert share > 0.9
    assert share_of_texts(tokenizer, fresh_text_encoder(tokenizer)) < 0.05 < 0.5 < share_of_texts(tokenizer, text)
    assert not text.training
    assert not any(parameter.requires_grad for parameter in text.parameters())


def test_the_same_seed_teaches_the_same() -> None:
    (_, one, first), (_, two, second), (_, other, _) = taught(2), taught(2), taught(2, seed=1)
    assert first == second < 0.1  # two steps teach nothing
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
