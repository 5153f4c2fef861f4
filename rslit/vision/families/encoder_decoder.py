"""``VisionEncoderDecoderModel``: an image encoder (ViT, Swin) and a language model with cross-attention (GPT-2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.language.shared_prompts import takes
from rslit.vision.families.base import Decoder, Family, left_padded, prompts_of, repeated, token_ids

__all__ = ["FAMILY"]


class _CrossAttending(Decoder):
    """Keys and values of the image are kept apart from those of the text, which not every decoder does by itself."""

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Tensor:
        """The module's ``generate``: prompts and answers."""
        from transformers import DynamicCache, EncoderDecoderCache

        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        return super().generate(input_ids, attention_mask, past_key_values=cache, **settings)


def _tower(model: Any) -> nn.Module:
    encoder: nn.Module = model.encoder
    return encoder


def _look(model: Any, pixels: Tensor) -> Tensor:
    features: Tensor = model.encoder(pixel_values=pixels).last_hidden_state
    return features


def _ask(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        raise RslitError(
            "policy.base: config.json has no decoder_start_token_id; set it to the token answers begin with"
        )
    rows = [[int(start), *ids] for ids in token_ids(tokenizer, texts)]
    if len({len(row) for row in rows}) > 1 and not takes(model.decoder, "position_ids"):
        kind = type(model.decoder).__name__
        raise RslitError(f"policy.base: a {kind} cannot skip padding, so it takes no texts of different lengths")
    return left_padded(rows, pad_id)


def _decoder(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    # As the model's own forward pass does it.
    if hasattr(model, "enc_to_dec_proj"):
        features = model.enc_to_dec_proj(features)
    return _CrossAttending(
        model.decoder, prompts_of(encoded, group), {"encoder_hidden_states": repeated(features, group)}
    )


FAMILY = Family(
    tower=_tower,
    look=_look,
    ask=_ask,
    decoder=_decoder,
    lora=r"decoder\..*\.(c_attn|q_attn|query|value|q_proj|v_proj)",
    unused=("encoder.pooler.*",),
)
