"""Teacher-forced log-probabilities, values and entropies against a loop over tokens and rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_text import BARE

from rslit.language import Prompts, Scored, left_pad, score_answers

PROMPTS = [[3, 4, 5, 6, 7, 8, 9], [8, 9], [10, 3, 11, 2], [5]]
ANSWERS = [[4, 5, 1], [2, 7, 8, 9, 11], [1], [6, 6, 3, 1]]
KINDS = ["llama", "gpt2"]


def answers(fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, ANSWERS))
    tokens = torch.tensor([[*row, *[fill] * (width - len(row))] for row in ANSWERS])
    return tokens, torch.tensor([[k < len(row) for k in range(width)] for row in ANSWERS])


def score(model: Any, **options: Any) -> Scored:
    tokens, mask = answers(options.pop("fill", 0))
    return score_answers(model, left_pad(PROMPTS, options.pop("pad", 0)), tokens, mask, **options)


@torch.no_grad()
def by_hand(model: Any, row: int, temperature: float = 1.0, suppressed: tuple[int, ...] = ()) -> dict[str, list[Any]]:
    """One row without padding, a forward pass per token."""
    text, found = list(PROMPTS[row]), {"logprobs": [], "hidden": [], "entropy": []}
    for token in ANSWERS[row]:
        out = model(torch.tensor([text]), output_hidden_states=True)
        logits = out.logits[0, -1].double() / temperature
        logits[list(suppressed)] = -torch.inf
        chances = logits.softmax(0)
        found["logprobs"].append(float(logits.log_softmax(0)[token]))
        found["entropy"].append(float(-(chances * chances.clamp(min=1e-300).log()).sum()))
        found["hidden"].append(out.hidden_states[-1][0, -1])
        text.append(token)
    return found


@pytest.mark.parametrize(("temperature", "suppressed"), [(1.0, ()), (0.5, ()), (0.7, (0,)), (1.0, (0, 10))])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_ragged_batch_equals_a_loop(kind: str, frozen: bool, temperature: float, suppressed: tuple[int, ...]) -> None:
    """Frozen, from the hidden states; else from the logits."""
    model = BARE[kind]().eval().requires_grad_(not frozen)
    torch.manual_seed(3)
    head = torch.nn.Linear(16, 1)
    found = score(model, temperature=temperature, suppressed=suppressed, value_head=head, entropy=True)
    assert found.values is not None
    assert found.entropy is not None
    assert found.logprobs.dtype == found.values.dtype == torch.float32
    for row, answer in enumerate(ANSWERS):
        expected = by_hand(model, row, temperature, suppressed)
        count = len(answer)
        torch.testing.assert_close(found.logprobs[row, :count], torch.tensor(expected["logprobs"]), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.entropy[row, :count], torch.tensor(expected["entropy"]), atol=1e-5, rtol=0)
        values = head(torch.stack(expected["hidden"])).squeeze(1)
        torch.testing.assert_close(found.values[row, :count], values, atol=1e-5, rtol=0)
        assert not found.logprobs[row, count:].any(), "0 behind the answer"


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_neighbours(kind: str) -> None:
    """Left padding: without positions of its own GPT-2 differs by 0.1 and more here."""
    model = BARE[kind]().eval()
    together = score(model).logprobs
    tokens, mask = answers()
    for row, prompt in enumerate(PROMPTS):
        count = int(mask[row].sum())
        alone = score_answers(model, left_pad([prompt], 0), tokens[row : row + 1, :count], mask[row : row + 1, :count])
        torch.testing.assert_close(together[row, :count], alone.logprobs[0], atol=1e-5, rtol=0)
        # Columns of nothing but padding are cut off before the pass.
        wide = Prompts(*(torch.nn.functional.pad(x, (9, 0)) for x in left_pad([prompt], 0)))
        padded = score_answers(model, wide, tokens[row : row + 1, :count], mask[row : row + 1, :count])
        assert torch.equal(padded.logprobs, alone.logprobs)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_behind_an_answer_and_before_a_prompt_does_not_matter(kind: str) -> None:
    model = BARE[kind]().eval()
    assert torch.equal(score(model).logprobs, score(model, fill=1).logprobs)
    torch.testing.assert_close(score(model).logprobs, score(model, fill=9, pad=1).logprobs, atol=1e-6, rtol=0)


def test_padding_that_is_suppressed_gives_no_nan() -> None:
    model = BARE["llama"]().train()
    found = score(model, suppressed=(0,), entropy=True)
    assert torch.isfinite(found.logprobs).all()
    assert found.entropy is not None
    assert torch.isfinite(found.entropy).all()
    found.logprobs.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_an_answer_of_one_token_and_the_gradient_of_a_row() -> None:
    model = BARE["llama"]()
    found = score_answers(model, left_pad([[3, 4]], 0), torch.tensor([[5]]), torch.tensor([[True]]))
    assert found.logprobs.shape == (1, 1)
    assert found.values is None
    assert found.entropy is None
    found.logprobs.sum().backward()
    given = model.lm_head.weight.grad.clone()
    model.zero_grad()
    model(torch.tensor([[3, 4]])).logits[0, -1].log_softmax(0)[5].backward()
    torch.testing.assert_close(given, model.lm_head.weight.grad, atol=1e-7, rtol=1e-5)
