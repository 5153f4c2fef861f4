"""Sampling: the model's own distribution, our noise, ends and lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from toy_text import BARE, bare_llama
from transformers import GenerationConfig

from rslit.errors import RslitError
from rslit.language import Answers, Prompts, generate, left_pad

PROMPTS = [[3, 4, 5, 6, 7], [8, 9], [10, 3, 11]]
LENGTHS = torch.tensor([6, 9, 7])


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(model: Any, prompts: Prompts | None = None, lengths: Tensor = LENGTHS, **options: Any) -> Answers:
    return generate(
        model,
        left_pad(PROMPTS, 0) if prompts is None else prompts,
        lengths,
        **{"pad_id": 0, "suppressed": (0,), "noise": noise(), **options},
    )


@torch.no_grad()
def by_hand(model: Any, steps: int, temperature: float, seed: int = 0, suppressed: tuple[int, ...] = (0,)) -> Tensor:
    """Each row for itself, without padding or cache: argmax of logits / T plus Gumbel noise, drawn for all at once."""
    stream, rows = noise(seed), [list(prompt) for prompt in PROMPTS]
    for _ in range(steps):
        gumbel = -(-torch.rand(len(rows), 12, generator=stream, dtype=torch.float64).log()).log().float()
        for row, own in zip(rows, gumbel, strict=True):
            logits = model(torch.tensor([row])).logits[0, -1].float()
            logits[list(suppressed)] = -torch.inf
            row.append(int((logits / temperature + own).argmax()))
    return torch.tensor([row[len(p) :] for row, p in zip(rows, PROMPTS, strict=True)])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_ragged_batch_is_sampled_as_each_row_alone(kind: str, temperature: float) -> None:
    model = BARE[kind]().eval()
    answers = sample(model, temperature=temperature)
    expected = by_hand(model, 9, temperature)
    assert answers.mask.sum(1).tolist() == LENGTHS.tolist()
    for row, length in enumerate(LENGTHS.tolist()):
        assert answers.tokens[row, :length].tolist() == expected[row, :length].tolist()
        assert answers.tokens[row, length:].tolist() == [0] * (9 - length)
    assert not answers.finished.any()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_those_of_the_softmax(temperature: float) -> None:
    model = bare_llama().eval()
    rows = 20_000
    prompts = left_pad([[5, 6, 7]] * rows, 0)
    drawn = sample(model, prompts, torch.ones(rows, dtype=torch.int64), temperature=temperature).tokens[:, 0]
    logits = model(torch.tensor([[5, 6, 7]])).logits[0, -1].detach().double()
    logits[0] = -torch.inf
    expected = (logits / temperature).softmax(0) * rows
    counts = torch.bincount(drawn, minlength=12)
    assert counts[0] == 0
    assert expected[1:].min() > 5
    assert expected.max() / expected[1:].min() > 5, "not uniform"
    _, p = stats.chisquare(counts[1:].numpy(), expected[1:].numpy())
    assert p > 0.01
    # The test can tell: at the other temperature these counts are out of the question.
    other = (logits[1:] / (1.5 - temperature)).softmax(0) * rows
    assert stats.chisquare(counts[1:].numpy(), other.numpy())[1] < 1e-6


def test_the_hubs_generation_config_does_not_touch_the_samples() -> None:
    model = bare_llama().eval()
    clean = sample(model, eos_ids=(1,))
    hub = {"top_k": 2, "top_p": 0.3, "temperature": 0.1, "do_sample": True, "repetition_penalty": 3.0}
    forced = {"min_length": 30, "forced_eos_token_id": 1, "no_repeat_ngram_size": 1, "suppress_tokens": [4, 5, 6]}
    model.generation_config = hubs = GenerationConfig(**hub, **forced, eos_token_id=[1, 7], num_beams=3)
    again = sample(model, eos_ids=(1,))
    assert torch.equal(clean.tokens, again.tokens)
    assert torch.equal(clean.mask, again.mask)
    assert model.generation_config is hubs, "put back"


@pytest.mark.parametrize("beams", [1, 2])
def test_without_end_tokens_an_end_token_is_one_like_any_other(beams: int) -> None:
    """Also where the model has one of its own: `generate` would end rows there and count the padding as text."""
    model = bare_llama().eval()
    with torch.no_grad():
        model.lm_head.weight[1] = model.lm_head.weight.sum(0) + 0.5 * torch.randn(16, generator=noise(4))
    assert model.generation_config.eos_token_id == 1
    answers = sample(model, noise=None if beams > 1 else noise(), num_beams=beams, lengths=torch.full((3,), 9))
    assert (answers.tokens == 1).any()
    assert not (answers.tokens == 0).any()
    assert answers.mask.all()
    if beams == 1:
        assert answers.tokens.tolist() == by_hand(model, 9, 1.0).tolist()


def test_an_end_token_ends_its_row_and_counts() -> None:
    model = bare_llama().eval()
    free = by_hand(model, 9, 1.0)
    end = next(token for token in free[0].tolist() if not all((row == token).any() for row in free))
    answers = sample(model, eos_ids=(end,), lengths=torch.full((3,), 9))
    for row in range(3):
        places = (free[row] == end).nonzero().flatten().tolist()
        length = places[0] + 1 if places else 9
        assert answers.finished[row] == bool(places)
        assert answers.mask[row].sum() == length
        assert answers.tokens[row, :length].tolist() == free[row, :length].tolist()
        assert answers.tokens[row, length:].tolist() == [0] * (answers.tokens.shape[1] - length)
    assert answers.finished.any()
    assert not answers.finished.all()


def test_where_padding_is_the_end_token_real_ends_are_counted() -> None:
    model = bare_llama().eval()
    words = by_hand(model, 9, 1.0, suppressed=())[0].tolist()
    place = next(k for k in range(2, 9) if words[k] not in words[:k])
    end = words[place]
    answers = sample(model, pad_id=end, suppressed=(), eos_ids=(end,), lengths=torch.full((3,), 9))
    free = by_hand(model, 9, 1.0, suppressed=())
    first = [(row == end).nonzero().flatten().tolist() for row in free]
    assert answers.mask.sum(1).tolist() == [places[0] + 1 if places else 9 for places in first]
    assert answers.finished.tolist() == [bool(places) for places in first]
    assert answers.tokens[0, place] == end
    assert answers.mask[0].sum() == place + 1


def test_the_suppressed_token_is_never_sampled_however_likely() -> None:
    model = bare_llama().eval()
    with torch.no_grad():
        model.lm_head.weight[0] = 3 * model.lm_head.weight.sum(0)
    rows = left_pad(PROMPTS * 50, 0)
    lengths = torch.full((150,), 8)
    assert (sample(model, rows, lengths, suppressed=()).tokens == 0).any()
    assert not (sample(model, rows, lengths).tokens == 0).any()
    assert not (sample(model, rows, lengths, noise=None).tokens == 0).any()


def test_copies_share_their_noise_and_their_number_does_not_matter() -> None:
    model = bare_llama().eval()
    prompts = left_pad(PROMPTS, 0)
    one = sample(model, prompts)
    four = sample(model, prompts.repeat(4), LENGTHS.repeat(4), copies=4)
    assert torch.equal(four.tokens, one.tokens.repeat(4, 1))
    assert torch.equal(four.mask, one.mask.repeat(4, 1))
    # As copies of three prompts twelve rows share noise by threes; as twelve prompts they do not.
    apart = sample(model, prompts.repeat(4), LENGTHS.repeat(4))
    assert not torch.equal(apart.tokens, four.tokens)
    assert not torch.equal(one.tokens, sample(model, prompts, noise=noise(1)).tokens)


def test_decoding_stops_when_every_row_is_done() -> None:
    model = bare_llama().eval()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    answers = sample(model, lengths=torch.tensor([2, 4, 1]))
    assert answers.tokens.shape == (3, 4)
    assert answers.mask.sum(1).tolist() == [2, 4, 1]
    assert len(calls) == 4


def test_greedy_decoding_and_beams_are_transformers_own() -> None:
    model = bare_llama().eval()
    for beams in (1, 3):
        answers = sample(model, noise=None, num_beams=beams, lengths=torch.full((3,), 8), suppressed=(), eos_ids=(1,))
        for row, prompt in enumerate(PROMPTS):
            settings = GenerationConfig(
                max_new_tokens=8, num_beams=beams, do_sample=False, eos_token_id=1, pad_token_id=0
            )
            alone = model.generate(torch.tensor([prompt]), generation_config=settings)[0, len(prompt) :]
            assert answers.tokens[row][answers.mask[row]].tolist() == alone.tolist()
    with pytest.raises(RslitError, match="beams are for decoding without sampling"):
        sample(model, num_beams=2)


def test_the_model_comes_back_in_the_mode_it_was_in() -> None:
    model = bare_llama()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    model.model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    answers = sample(model)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(answers.tokens, sample(bare_llama().eval()).tokens)


def test_a_listener_hears_every_step() -> None:
    heard: list[Tensor] = []
    prompts = left_pad([[3, 4], [5, 6, 7]], 0, torch.device("cpu"))
    lengths = torch.tensor([5, 5])
    answers = generate(bare_llama(), prompts, lengths, pad_id=0, heard=lambda tokens: heard.append(tokens.clone()))
    assert [tokens.shape for tokens in heard] == [(2, r) for r in range(1, 6)]
    assert torch.equal(heard[-1], answers.tokens)
