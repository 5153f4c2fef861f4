"""``Kosmos2ForConditionalGeneration``: image tokens within the text of a language model, boxes as patch indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rslit.vision.families.base import Decoder, Family, left_padded, prompts_of, repeated, token_ids

__all__ = ["FAMILY"]

_BEGIN, _END = "<image>", "</image>"


class _Text(Decoder):
    """The text part. Its positions begin behind the pad token's."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, logits_to_keep: int, use_cache: bool
    ) -> Any:
        """The module's output; the image is in the prompt, never in the answer."""
        places = self.inputs["image_embeds_position_mask"]
        places = F.pad(places, (0, input_ids.shape[1] - places.shape[1]))
        return self.module(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids + _offset(self.config),
            logits_to_keep=logits_to_keep,
            use_cache=use_cache,
            **{**self.inputs, "image_embeds_position_mask": places},
        )

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Tensor:
        """The module's ``generate``, with the positions of `forward`: its own count the padding on the left."""
        with _given_positions(self.module):
            return super().generate(input_ids, attention_mask, **settings)


@contextmanager
def _given_positions(text: Any) -> Iterator[None]:
    plain = text.prepare_inputs_for_generation

    @wraps(plain)
    def prepare(input_ids: Tensor, position_ids: Tensor, **kwargs: Any) -> Any:
        prepared = plain(input_ids, **kwargs)
        prepared["position_ids"] = position_ids[:, -prepared["input_ids"].shape[1] :] + _offset(text.config)
        return prepared

    text.prepare_inputs_for_generation = prepare
    try:
        yield
    finally:
        del text.prepare_inputs_for_generation


def _offset(config: Any) -> int:
    return int(config.pad_token_id) + 1


def _tower(model: Any) -> nn.Module:
    tower: nn.Module = model.vision_model
    return tower


def _look(model: Any, pixels: Tensor) -> Tensor:
    # Of all positions, as the model does, not of the pooled one alone.
    features: Tensor = model.vision_model.model.post_layernorm(model.vision_model(pixels)[0])
    return features


def _ask(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    begin, count = tokenizer.convert_tokens_to_ids(_BEGIN), int(model.config.latent_query_num)
    framed = token_ids(tokenizer, [f"{tokenizer.bos_token}{_BEGIN}{_END} {text.strip()}" for text in texts])
    rows = []
    for ids in framed:
        place = ids.index(begin) + 1
        # Any token: its embedding is replaced by the image's.
        rows.append([*ids[:place], *[begin] * count, *ids[place:]])
    padded = left_padded(rows, pad_id)
    places = torch.zeros_like(padded["input_ids"])
    for row, ids in enumerate(rows):
        place = places.shape[1] - len(ids) + ids.index(begin) + 1
        places[row, place : place + count] = 1
    return {**padded, "image_embeds_position_mask": places}


def _decoder(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    image, _ = model.image_to_text_projection(F.normalize(features, dim=-1))
    prompts = prompts_of(encoded, group)
    places = encoded["image_embeds_position_mask"][:, -prompts.ids.shape[1] :]
    given = {"image_embeds": repeated(image, group), "image_embeds_position_mask": repeated(places, group)}
    return _Text(model.text_model, prompts, given)


FAMILY = Family(tower=_tower, look=_look, ask=_ask, decoder=_decoder, lora=r"text_model\..*\.(q_proj|v_proj)")
