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


def told(tokenizer: Any, text: Any, texts: list[str], place: int) -> torch.Tensor:
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        found: torch.Tensor = text(input_ids=ids).last_hidden_state[:, place]
    return found


def colours(texts: list[str]) -> torch.Tensor:
    known = ("red", "green", "blue", "yellow", "purple", "orange")
    return torch.tensor([[float(colour in each.split()) for colour in known] for each in texts])


def told_right(tokenizer: Any, text: Any) -> float:
    """The share of held-out texts whose colour a linear map of the last place tells, fitted to training texts."""
    inputs, held_out = (
        torch.nn.functional.pad(told(tokenizer, text, each, -1), (0, 1), value=1.0) for each in (TRAIN, TEST)
    )
    weights = torch.linalg.lstsq(inputs.double(), colours(TRAIN).double(), driver="gelsd").solution
    return float(((held_out.double() @ weights).argmax(1) == colours(TEST).argmax(1)).float().mean())


def test_it_tells_all_words_behind_a_text() -> None:
    tokenizer, text, share = taught(200)
    assert share > 0.9
    assert told_right(tokenizer, text) > 0.99
    assert not text.training
    assert not any(parameter.requires_grad for parameter in text.parameters())


def test_the_same_seed_teaches_the_same() -> None:
    (_, one, first), (_, two, second), (_, other, _) = taught(2), taught(2), taught(2, seed=1)
    assert first == second < 0.1  # two steps teach nothing
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
