"""``Florence2ForConditionalGeneration``: an encoder reads image tokens and the task's text, a decoder answers (BART).

Texts are plain prompts ("What does the image describe?", "Locate the phrases in the caption: the red ball"), which
transformers' processor writes for the task tokens (`<CAPTION>`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rslit.language.padding import Prompts
from rslit.vision.families.base import Decoder, Family, repeated, right_padded, token_ids

__all__ = ["FAMILY"]


class _Seq2Seq(Decoder):
    """An encoder-decoder of transformers has names of its own for what a decoder takes."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, logits_to_keep: int, use_cache: bool
    ) -> Any:
        """The model's output; all answers begin in the same column, so positions need not be said."""
        return self.module(
            **self._states(),
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            logits_to_keep=logits_to_keep,
            use_cache=use_cache,
        )

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Tensor:
        """The model's ``generate``, which asks for the first token although it has it."""
        settings["generation_config"].decoder_start_token_id = int(input_ids[0, 0])
        out: Tensor = self.module.generate(**self._states(), decoder_input_ids=input_ids, **settings)
        return out

    def _states(self) -> dict[str, Any]:
        from transformers.modeling_outputs import BaseModelOutput

        states: Any = self.inputs["states"]
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "attention_mask": self.inputs["mask"]}


def _tower(model: Any) -> nn.Module:
    tower: nn.Module = model.model.vision_tower
    return tower


def _look(model: Any, pixels: Tensor) -> Tensor:
    features: Tensor = model.model.vision_tower(pixels).last_hidden_state
    return features


def _ask(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    framed = [f"{tokenizer.bos_token}{text}{tokenizer.eos_token}" for text in texts]
    return right_padded(token_ids(tokenizer, framed), pad_id)


def _decoder(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    image = model.model.multi_modal_projector(features)
    text = model.get_input_embeddings()(encoded["input_ids"])
    mask = torch.cat([encoded["attention_mask"].new_ones(image.shape[:2]), encoded["attention_mask"]], 1)
    embedded = torch.cat([image.to(text.dtype), text], 1)
    states = model.model.language_model.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
    token = model.config.text_config.decoder_start_token_id
    start = torch.full((len(mask) * group, 1), token, device=mask.device)
    given = {"states": repeated(states, group), "mask": repeated(mask, group)}
    return _Seq2Seq(model, Prompts(start, torch.ones_like(start, dtype=torch.bool)), given)


FAMILY = Family(
    tower=_tower,
    look=_look,
    ask=_ask,
    decoder=_decoder,
    lora=r"model\.language_model\..*\.(q_proj|v_proj)",
    opening=lambda model: (int(model.config.text_config.bos_token_id),),
    never=lambda model: (int(model.config.image_token_id),),
)
