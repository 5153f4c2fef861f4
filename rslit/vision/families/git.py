"""``GitForCausalLM``: image tokens before the text; a question, if there is one, is the beginning of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from rslit.vision.families.base import Decoder, Family, left_padded, prompts_of, repeated, seen, token_ids

__all__ = ["FAMILY"]


def _tower(model: Any) -> nn.Module:
    tower: nn.Module = model.git.image_encoder
    return tower


def _look(model: Any, pixels: Tensor) -> Tensor:
    features: Tensor = model.git.image_encoder(pixels).last_hidden_state
    return features


def _ask(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    start = int(model.config.bos_token_id)
    return left_padded([[start, *ids] for ids in token_ids(tokenizer, texts)], pad_id)


def _decoder(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    pixels = repeated(features, group).unsqueeze(2)
    return Decoder(model, prompts_of(encoded, group), {"pixel_values": pixels}, partial(seen, _tower(model)))


FAMILY = Family(tower=_tower, look=_look, ask=_ask, decoder=_decoder, lora=r"git\.encoder\..*\.(query|value)")
