"""The frozen policy: right, without a second model in memory, and gone when the block ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_models import save_tiny_gpt2, save_tiny_llama
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from rslit.language import LanguagePolicy, LoraOptions, PolicyOptions, Reference, build_policy, left_pad, score_answers
from rslit.soup import adapter_files

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PROMPTS = [[20, 21, 22, 23], [24], [30, 31]]
TOKENS = torch.tensor([[9, 10, 11, 12], [13, 14, 15, 16], [40, 41, 42, 43]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base")
    return {"llama": save_tiny_llama, "gpt2": save_tiny_gpt2}[request.param](root / "base")


def logprobs(model: Any) -> Tensor:
    return score_answers(model, left_pad(PROMPTS, 3), TOKENS, MASK).logprobs.detach()


def fresh(base: Path, **options: Any) -> LanguagePolicy:
    return build_policy(PolicyOptions(str(base), **{"lora": LoraOptions(r=4, alpha=8), **options}))


def move(model: nn.Module, scale: float = 0.2) -> None:
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += scale * torch.randn(p.shape, generator=stream)


def saved_adapter(base: Path, folder: Path, rslora: bool = False) -> Path:
    policy = fresh(base, lora=LoraOptions(r=4, alpha=8, rslora=rslora))
    move(policy.model)
    assert policy.adapter is not None
    folder.mkdir()
    for name, data in adapter_files(dict(policy.model.named_parameters()), policy.adapter).items():
        (folder / name).write_bytes(data)
    return folder


def held(value: object) -> Iterator[Tensor]:
    """Tensors in an object, in its attributes and in what they hold."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, dict):
        for part in value.values():
            yield from held(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from held(part)
    elif hasattr(value, "__dict__"):
        yield from held(vars(value))


def count(value: object) -> int:
    return sum(tensor.numel() for tensor in held(value))


def trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_of_a_fresh_adapter_it_is_the_model_with_the_adapter_off(base: Path) -> None:
    policy = fresh(base)
    reference = Reference(policy.model, policy.adapter)
    reference.to(torch.device("cpu"))
    plain = logprobs(AutoModelForCausalLM.from_pretrained(base).eval())
    assert torch.equal(logprobs(policy.model), plain), "a fresh adapter does nothing"
    for _ in range(2):
        with reference.active(policy.model) as model:
            assert model is policy.model
            torch.testing.assert_close(logprobs(model), plain, atol=1e-6, rtol=0)
        move(policy.model)
        assert float((logprobs(policy.model) - plain).abs().max()) > 0.05
    assert count(reference) == 0, "nothing is kept twice"


@pytest.mark.parametrize("rslora", [False, True])
def test_of_a_continued_adapter_it_keeps_a_copy_of_the_factors(base: Path, tmp_path: Path, rslora: bool) -> None:
    folder = saved_adapter(base, tmp_path / "adapter", rslora)
    policy = build_policy(PolicyOptions(str(base), adapter=str(folder)))
    plain: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base).eval(), str(folder)).eval()
    expected = logprobs(plain)
    reference = Reference(policy.model, policy.adapter)
    assert count(reference) == trained(policy.model)
    reference.to(torch.device("cpu"))
    assert count(reference) <= 2 * trained(policy.model) < sum(p.numel() for p in policy.model.parameters()) / 2
    torch.testing.assert_close(logprobs(policy.model), expected, atol=1e-6, rtol=0)
    for _ in range(2):
        with reference.active(policy.model) as model:
            torch.testing.assert_close(logprobs(model), expected, atol=1e-5, rtol=0)
        move(policy.model)
        assert float((logprobs(policy.model) - expected).abs().max()) > 0.05


def test_of_full_fine_tuning_it_is_a_copy(base: Path) -> None:
    policy = fresh(base, lora=None)
    assert policy.adapter is None
    expected = logprobs(AutoModelForCausalLM.from_pretrained(base).eval())
    reference = Reference(policy.model, None)
    move(policy.model, 0.05)
    with reference.active(policy.model) as model:
        assert model is not policy.model
        torch.testing.assert_close(logprobs(model), expected, atol=1e-6, rtol=0)
        assert not any(p.requires_grad for p in model.parameters())
    assert float((logprobs(policy.model) - expected).abs().max()) > 0.05
    assert trained(policy.model) == sum(p.numel() for p in policy.model.parameters())


@pytest.mark.parametrize("continued", [False, True])
def test_everything_is_as_before_when_the_block_ends(base: Path, tmp_path: Path, continued: bool) -> None:
    options: dict[str, Any] = {"lora": LoraOptions(r=4, alpha=8)}
    if continued:
        options = {"adapter": str(saved_adapter(base, tmp_path / "adapter"))}
    policy = build_policy(PolicyOptions(str(base), **options))
    reference = Reference(policy.model, policy.adapter)
    move(policy.model)
    before = logprobs(policy.model)
    gradients = {k: p.requires_grad for k, p in policy.model.named_parameters()}
    assert any(gradients.values())
    with pytest.raises(KeyboardInterrupt), reference.active(policy.model):
        raise KeyboardInterrupt
    with reference.active(policy.model):
        pass
    assert torch.equal(logprobs(policy.model), before)
    assert {k: p.requires_grad for k, p in policy.model.named_parameters()} == gradients
    assert not any(module._forward_hooks for module in policy.model.modules())
