"""``PaliGemmaForConditionalGeneration``: image tokens before the text; the prompt sees all of itself (prefix-LM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rslit.vision.families.base import Decoder, Family, left_padded, prompts_of, repeated, seen, token_ids

__all__ = ["FAMILY"]


class _PrefixDecoder(Decoder):
    """Tokens of type 0, the prompt's, see each other; those of type 1, the answer's, what is before them."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, logits_to_keep: int, use_cache: bool
    ) -> Any:
        """The model's output; its positions begin with 1."""
        types = self.inputs["token_type_ids"]
        types = F.pad(types, (0, input_ids.shape[1] - types.shape[1]), value=1)
        with self.around():
            return self.module(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids + 1,
                logits_to_keep=logits_to_keep,
                use_cache=use_cache,
                **{**self.inputs, "token_type_ids": types},
            )


def _tower(model: Any) -> nn.Module:
    tower: nn.Module = model.model.vision_tower
    return tower


def _look(model: Any, pixels: Tensor) -> Tensor:
    features: Tensor = model.model.vision_tower(pixels).last_hidden_state
    return features


def _ask(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    vision = model.config.vision_config
    image = [int(model.config.image_token_id)] * (vision.image_size // vision.patch_size) ** 2
    asked = token_ids(tokenizer, [f"{tokenizer.bos_token}{text}\n" for text in texts])
    return left_padded([[*image, *ids] for ids in asked], pad_id)


def _decoder(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    prompts = prompts_of(encoded, group)
    given = {"pixel_values": repeated(features, group).unsqueeze(2), "token_type_ids": torch.zeros_like(prompts.ids)}
    return _PrefixDecoder(model, prompts, given, partial(seen, _tower(model)))


FAMILY = Family(
    tower=_tower,
    look=_look,
    ask=_ask,
    decoder=_decoder,
    lora=r"model\.language_model\..*\.(q_proj|v_proj)",
    unused=("model.vision_tower.*head.*",),
    never=lambda model: (int(model.config.image_token_id),),
)
