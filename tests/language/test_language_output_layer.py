"""Log-probabilities and entropies from hidden states against autograd on the whole logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_text import bare_gpt2, bare_llama
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config

from rslit.language import left_pad, output_layer, score_answers
from rslit.language.output_layer import LogProbs, bypassed, frozen_output_layer

SIZES = {
    "vocab_size": 12,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
PROMPTS, TOKENS = [[3, 4, 5], [6, 7]], torch.tensor([[4, 5, 6], [7, 8, 9]])


def scaled(kind: str) -> Any:
    """Models whose logits are not what the output layer makes of hidden states."""
    if kind == "cohere":
        return AutoModelForCausalLM.from_config(CohereConfig(**SIZES, logit_scale=0.5))
    return AutoModelForCausalLM.from_config(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0))


def head(bias: bool = False, dtype: torch.dtype = torch.float64) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(8, 40, bias=bias, dtype=dtype).requires_grad_(False)


def call(model: Any) -> Any:
    return lambda: model(input_ids=torch.tensor([[3]])).logits


@pytest.mark.parametrize("elements", [2**23, 40 * 4, 1])
@pytest.mark.parametrize(("temperature", "suppressed"), [(1.0, ()), (0.7, (0, 3))])
@pytest.mark.parametrize("bias", [False, True])
def test_log_probabilities_entropies_and_gradients_are_autograds(
    bias: bool, temperature: float, suppressed: tuple[int, ...], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of tokens that are worked on at a time."""
    monkeypatch.setitem(output_layer._ELEMENTS, "cpu", elements)
    torch.manual_seed(0)
    layer, tokens = head(bias, torch.float32), torch.randint(4, 40, (3, 5))
    hidden, weights = torch.randn(3, 5, 8, requires_grad=True), torch.randn(3, 5)
    never = torch.tensor(suppressed, dtype=torch.int64)
    logprobs, entropy = LogProbs.apply(hidden, layer, tokens, temperature, never, True)
    (weights * logprobs).sum().backward()
    own = hidden.detach().double().requires_grad_()
    logits = (layer.double()(own) / temperature).index_fill(-1, never, -torch.inf)
    chances = logits.log_softmax(-1)
    expected = chances.gather(-1, tokens[..., None])[..., 0]
    (weights * expected).sum().backward()
    torch.testing.assert_close(logprobs.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden.grad.double(), own.grad, atol=1e-5, rtol=1e-5)  # type: ignore[union-attr]
    spread = -(chances.exp() * chances.clamp(min=-1e300)).sum(-1)
    torch.testing.assert_close(entropy.double(), spread, atol=1e-5, rtol=0)
    assert not entropy.requires_grad
    layer.float()
    alone, none = LogProbs.apply(hidden, layer, tokens, temperature, never, False)
    assert torch.equal(alone, logprobs)
    assert none.numel() == 0


def test_a_bypassed_layer_is_back_afterwards_even_after_an_error() -> None:
    layer, x = head(), torch.ones(1, 8, dtype=torch.float64)
    with bypassed(layer):
        assert layer(x) is x
    with pytest.raises(RuntimeError), bypassed(layer):
        raise RuntimeError
    assert "forward" not in vars(layer)
    assert layer(x).shape == (1, 40)


@pytest.mark.parametrize("make", [bare_llama, bare_gpt2])
def test_a_frozen_plain_layer_is_found_and_asked_once(make: Any) -> None:
    model = make().requires_grad_(False)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    assert frozen_output_layer(model, call(model)) is model.lm_head
    assert frozen_output_layer(model, call(model)) is model.lm_head
    assert len(calls) == 1
    model.lm_head.requires_grad_(True)
    assert frozen_output_layer(model, call(model)) is None
    model.lm_head.requires_grad_(False)
    hooked = model.lm_head.forward
    model.lm_head.forward = lambda hidden: hooked(hidden)
    assert frozen_output_layer(model, call(model)) is None, "someone else's hook"


@pytest.mark.parametrize("kind", ["cohere", "gemma2"])
def test_scaled_and_capped_logits_are_scored_as_the_model_makes_them(kind: str) -> None:
    torch.manual_seed(0)
    model: Any = scaled(kind).eval().requires_grad_(False)
    assert frozen_output_layer(model, call(model)) is None
    found = score_answers(model, left_pad(PROMPTS, 0), TOKENS, torch.ones_like(TOKENS, dtype=torch.bool)).logprobs
    for row, prompt in enumerate(PROMPTS):
        text = torch.tensor([prompt + TOKENS[row].tolist()])
        logits: Tensor = model(text).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(found[row], logits.gather(-1, TOKENS[row][:, None])[:, 0], atol=1e-5, rtol=0)
    # The test can tell: the layer's own output has other probabilities.
    plain = model.lm_head(model.model(torch.tensor([PROMPTS[0]])).last_hidden_state)[0, -1].log_softmax(0)
    assert abs(float(plain[TOKENS[0, 0]] - found[0, 0])) > 0.01
