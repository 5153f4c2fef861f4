"""``VisionEncoderDecoderModel`` with decoders other than GPT-2."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BertConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel
from vision_policies import GROUP, LENGTHS, TEXTS, Folders, alone, bare, build, by_hand, images, noise

from rslit.errors import RslitError

DECODERS: dict[str, Any] = {
    "bert": BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, initializer_range=0.2
    ),
    "bart": BartConfig(
        d_model=24,
        encoder_layers=1,
        decoder_layers=2,
        decoder_attention_heads=2,
        encoder_attention_heads=2,
        decoder_ffn_dim=32,
        init_std=0.2,
    ),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_other_decoders_with_cross_attention(kind: str, tmp_path: Path) -> None:
    """BART's counts its positions from the first column, padding included."""
    folder = Folders(tmp_path)["vit-gpt2"]
    base = build(folder)
    decoder = copy.deepcopy(DECODERS[kind])
    decoder.vocab_size = 400
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(bare(base).config.encoder, decoder)
    config.decoder_start_token_id = config.pad_token_id = 0
    torch.manual_seed(0)
    VisionEncoderDecoderModel(config).save_pretrained(tmp_path / kind)
    policy = build(tmp_path / kind, processor=str(folder))
    texts = TEXTS if kind == "bert" else ["Film"] * 3
    encoded = policy.encode(images(), texts)
    answers = policy.sample(encoded, LENGTHS, noise(), group=GROUP)
    found = policy.score(encoded, answers.tokens, answers.mask, GROUP).logprobs
    rows = [one for one in alone("vit-gpt2", policy, texts) for _ in range(GROUP)]
    expected = by_hand(rows, int(LENGTHS.max()), 1.0, policy.never)
    for k, (one, length) in enumerate(zip(rows, LENGTHS.tolist(), strict=True)):
        tokens = answers.tokens[k, :length].tolist()
        assert tokens == expected[k][:length]
        logprobs, _ = one.logprobs(tokens, policy.never, 1.0)
        torch.testing.assert_close(found[k, :length].double(), logprobs, atol=1e-5, rtol=0)
    if kind == "bart":
        with pytest.raises(RslitError, match="a BartForCausalLM cannot skip padding, so it takes no texts of differ"):
            policy.encode(images(), TEXTS)
