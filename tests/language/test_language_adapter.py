"""Adapters to continue, and those that do not belong to the base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from tiny_models import save_tiny_gpt2, save_tiny_llama
from transformers import AutoModelForCausalLM

from rslit.errors import RslitError
from rslit.language import LanguagePolicy, PolicyOptions, build_policy

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    save_tiny_llama(root / "base")
    save_tiny_llama(root / "deep", num_hidden_layers=3)
    save_tiny_llama(root / "wide", hidden_size=48)
    save_tiny_gpt2(root / "gpt2")
    return root


def adapter(root: Path, name: str, base: str = "base", **options: Any) -> Path:
    """A trained adapter, as plain PEFT saves it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(root / base)
    given = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(**given | options))
    with torch.no_grad():
        for p in adapted.parameters():
            if p.requires_grad:
                p += 0.2 * torch.randn(p.shape)
    adapted.save_pretrained(root / name)
    return root / name


def build(base: Path, folder: Path, **options: Any) -> LanguagePolicy:
    return build_policy(PolicyOptions(str(base), adapter=str(folder), **options))


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_is_continued_as_plain_peft_loads_it(root: Path, rslora: bool) -> None:
    folder = adapter(root, f"plain{rslora}", use_rslora=rslora)
    policy: Any = build(root / "base", folder)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(root / "base"), folder)
    ids = torch.randint(5, 300, (2, 9))
    torch.testing.assert_close(policy.model(ids).logits, plain(ids).logits, rtol=0, atol=0)
    trained = {k for k, p in policy.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all(".lora_" in k for k in trained)
    assert (policy.adapter["r"], policy.adapter["lora_alpha"], policy.adapter["use_rslora"]) == (4, 6, rslora)


def test_an_adapter_of_another_base(root: Path) -> None:
    folder = adapter(root, "mine")
    with pytest.raises(
        RslitError, match=r"mine is an adapter of .*base, not of .*deep; name its base, or set policy.check"
    ):
        build(root / "deep", folder)
    other = {"check_adapter_base": False}
    with pytest.raises(RslitError, match=r"mine does not fit .*wide \(.*size mismatch.*\)"):
        build(root / "wide", folder, **other)
    with pytest.raises(RslitError, match=r"mine does not fit .*gpt2 \(.*Target modules .*not found"):
        build(root / "gpt2", folder, **other)
    # PEFT itself leaves the third layer's fresh factors as they are, with a warning, ...
    with pytest.raises(RslitError, match=r"does not fit .*deep: '.*layers.2.self_attn.*' is not in both \(4 in all\)"):
        build(root / "deep", folder, **other)
    # ... and drops the third layer of an adapter of a deeper model without one.
    with pytest.raises(RslitError, match=r"does not fit .*base: '.*layers.2.self_attn.*' is not in both \(4 in all\)"):
        build(root / "base", adapter(root, "deeper", "deep"), **other)
    copy = shutil.copytree(root / "base", root / "copy")
    assert build(copy, folder, **other).adapter["base_model_name_or_path"] == str(copy)


def test_adapters_that_are_no_plain_lora(root: Path) -> None:
    with pytest.raises(RslitError, match=r"policy.adapter: .*dora: adapter config has 'use_dora' \(True\)"):
        build(root / "base", adapter(root, "dora", use_dora=True))
    with pytest.raises(RslitError, match=r"policy.adapter: .*head: .*'modules_to_save'"):
        build(root / "base", adapter(root, "head", modules_to_save=["lm_head"]))
    folder = adapter(root, "other")
    IA3Config(target_modules=["v_proj"], feedforward_modules=[]).save_pretrained(folder)
    with pytest.raises(RslitError, match=r"other is of type IA3; only LoRA adapters can be continued"):
        build(root / "base", folder)


def test_adapters_that_cannot_be_read(root: Path) -> None:
    folder = adapter(root, "torn")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(RslitError, match=r"policy.adapter: .*torn does not fit .*base \("):
        build(root / "base", folder)
    file.unlink()
    with pytest.raises(RslitError, match=r"policy.adapter: .*torn does not fit .*base \("):
        build(root / "base", folder)
    with pytest.raises(RslitError, match=r"policy.adapter: .*nowhere does not fit .*base \("):
        build(root / "base", root / "nowhere")
