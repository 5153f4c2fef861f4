"""Training a language policy in other precisions, and on a model of other widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_gpt2, save_tiny_llama, tiny_tokenizer
from toy_text import QUESTIONS, text_module
from toy_text_runs import train
from transformers import AutoModelForCausalLM, OPTConfig

from rslit.errors import RslitError


def adam(rate: float) -> Any:
    return lambda p: torch.optim.Adam(p, lr=rate)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {"llama": save_tiny_llama(root / "llama"), "gpt2": save_tiny_gpt2(root / "gpt2")}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_in_mixed_precision_rollouts_compute_as_the_steps_do(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Lightning enters autocast around steps alone; a rollout in float32 was off by 0.4 % on average here."""
    module = text_module(bases[kind], minibatches=2, optimizer=adam(0.01))
    ledger = train(module, tmp_path, rollouts=8, questions=QUESTIONS * 8, precision="bf16-mixed")
    away = [abs(ratio - 1) for ratio in ledger.column("val/ratio_first")]
    assert sum(away) / 8 < 1e-3
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_precision_that_would_round_the_adapter_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"trainer.precision: bf16-true .* set policy.dtype: bfloat16"):
        train(text_module(bases["llama"]), tmp_path, precision="bf16-true")


def test_a_value_head_is_as_wide_as_what_enters_the_output_layer(tmp_path: Path) -> None:
    """As OPT-350m's, which is half the hidden size."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64}
    config = OPTConfig(**sizes, word_embed_proj_dim=16, dropout=0.2, do_layer_norm_before=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "opt")
    tiny_tokenizer("llama").save_pretrained(tmp_path / "opt")
    module = text_module(tmp_path / "opt", optimizer=adam(0.01))
    assert module.value is not None
    assert module.value.in_features == 16
    assert train(module, tmp_path).column("val/ratio_first") == pytest.approx([1.0, 1.0], abs=1e-5)
