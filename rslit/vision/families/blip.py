"""BLIP for captions (``BlipForConditionalGeneration``) and for questions (``BlipForQuestionAnswering``).

A BERT with cross-attention to the image answers; for questions it attends instead to a second one, which has read the
question and looked at the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rslit.language.padding import Prompts
from rslit.vision.families.base import Decoder, Family, left_padded, prompts_of, repeated, right_padded, token_ids

__all__ = ["CAPTIONS", "QUESTIONS"]


def _tower(model: Any) -> nn.Module:
    tower: nn.Module = model.vision_model
    return tower


def _look(model: Any, pixels: Tensor) -> Tensor:
    features: Tensor = model.vision_model(pixel_values=pixels).last_hidden_state
    return features


def _eos(model: Any) -> tuple[int, ...]:
    return (int(model.config.text_config.sep_token_id),)


def _ask_caption(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    start = int(model.config.text_config.bos_token_id)
    return left_padded([[start, *ids] for ids in token_ids(tokenizer, texts)], pad_id)


def _ask_question(model: Any, tokenizer: Any, texts: Sequence[str], pad_id: int) -> dict[str, Tensor]:
    return right_padded(tokenizer(list(texts))["input_ids"], pad_id)


def _captioner(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    return Decoder(model.text_decoder, prompts_of(encoded, group), {"encoder_hidden_states": repeated(features, group)})


def _answerer(model: Any, features: Tensor, encoded: Mapping[str, Tensor], group: int) -> Decoder:
    mask = encoded["attention_mask"]
    read = model.text_encoder(
        input_ids=encoded["input_ids"], attention_mask=mask, encoder_hidden_states=features
    ).last_hidden_state
    start = torch.full((len(mask) * group, 1), model.decoder_start_token_id, device=mask.device)
    given = {"encoder_hidden_states": repeated(read, group), "encoder_attention_mask": repeated(mask, group)}
    prompts = Prompts(start, torch.ones_like(start, dtype=torch.bool))
    return Decoder(model.text_decoder, prompts, given, partial(_masked, model.text_decoder))


@contextmanager
def _masked(decoder: Any) -> Iterator[None]:
    """Keeps the padding of short questions out of cross-attention.

    transformers (5.23) drops the mask between the layer and its attention, so that answers depended on the length of
    the longest question beside them.
    """
    layers = [layer.crossattention.self for layer in decoder.bert.encoder.layer]
    handles = [layer.register_forward_pre_hook(_with_mask, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_mask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "encoder_attention_mask": kwargs["attention_mask"]}


CAPTIONS = Family(
    tower=_tower,
    look=_look,
    ask=_ask_caption,
    decoder=_captioner,
    lora=r"text_decoder\..*\.(query|value)",
    eos=_eos,
)
QUESTIONS = Family(
    tower=_tower,
    look=_look,
    ask=_ask_question,
    decoder=_answerer,
    lora=r"text_(encoder|decoder)\..*\.(query|value)",
    eos=_eos,
    texts=True,
)
