"""Tiny policies of all supported classes, and what each class does by itself with one image and one text.

The references take the classes as transformers' own documentation does: the model's forward pass on pixels, one row,
no padding, no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tiny_vision import VISION_KINDS, random_images, save_tiny_vision
from torch import Tensor

from rslit.language import LoraOptions
from rslit.vision.options import VisionOptions
from rslit.vision.policy import VisionPolicy, build_vision_policy

__all__ = [
    "GROUP",
    "KINDS",
    "LENGTHS",
    "LORA",
    "TEXTS",
    "Alone",
    "Folders",
    "alone",
    "bare",
    "build",
    "by_hand",
    "images",
    "noise",
]

KINDS = VISION_KINDS
LORA = LoraOptions(r=2, alpha=4)
# Of different lengths, so that batches are padded.
TEXTS = ["What is it?", "Film", "The government said on Monday"]
GROUP = 4
LENGTHS = torch.tensor([3, 6, 5, 4] * len(TEXTS))


class Folders:
    """Saves each kind when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, kind: str) -> Path:
        folder = self.root / kind
        return folder if folder.exists() else save_tiny_vision(kind, folder, locations=24)


def build(folder: Path | str, **options: Any) -> VisionPolicy:
    return build_vision_policy(VisionOptions(str(folder), **options))


def images(count: int = 3) -> list[Image.Image]:
    return random_images(count, seed=1)


def bare(policy: VisionPolicy) -> Any:
    model: Any = policy.model
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class Alone:
    """One image and one text: what generates, what it is given, and logits of the next token.

    Args:
        kind: One of `KINDS`.
        policy: The policy, for its weights, its tokenizer and its image processor.
        image: The image.
        text: The text.
    """

    def __init__(self, kind: str, policy: VisionPolicy, image: Image.Image, text: str) -> None:
        self.model = bare(policy)
        self.pixels = policy.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        self.tokenizer = policy.tokenizer
        self.make = _MAKERS[kind]
        self.text = text

    def inputs(self, answer: Sequence[int]) -> dict[str, Tensor]:
        """Arguments of the model's forward pass that end with the answer's tokens."""
        return self.make(self, list(answer))

    def logits(self, answer: Sequence[int]) -> Tensor:
        """(len(answer) + 1, V): what each answer token, and the one behind, is drawn from."""
        given = self.inputs(answer)
        if "labels" in given:  # BLIP-VQA's forward pass returns no logits: its parts one after the other
            del given["labels"]
            start = given.pop("decoder_input_ids")
            seen = self.model.vision_model(pixel_values=given.pop("pixel_values")).last_hidden_state
            read = self.model.text_encoder(**given, encoder_hidden_states=seen)[0]
            logits = self.model.text_decoder(input_ids=start, encoder_hidden_states=read, use_cache=False).logits
        else:
            logits = self.model(**given, use_cache=False).logits
        return logits[0, -len(answer) - 1 :]

    def logprobs(self, answer: Sequence[int], suppressed: Sequence[int], temperature: float) -> tuple[Tensor, Tensor]:
        """Of the answer's tokens, and the entropies they were drawn with."""
        logits = self.logits(answer)[:-1].double() / temperature
        logits = logits.index_fill(-1, torch.tensor(list(suppressed), dtype=torch.long), -torch.inf)
        chances = logits.softmax(-1)
        spread = -(chances * chances.clamp(min=1e-300).log()).sum(-1)
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0], spread

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alone(kind: str, policy: VisionPolicy, texts: list[str] = TEXTS) -> list[Alone]:
    return [Alone(kind, policy, image, text) for image, text in zip(images(), texts, strict=True)]


@torch.no_grad()
def by_hand(rows: list[Alone], steps: int, temperature: float, suppressed: tuple[int, ...]) -> list[list[int]]:
    """Argmax of logits / T plus Gumbel noise, a whole forward pass for each token of each row."""
    stream, answers = noise(), [[] for _ in rows]
    for _ in range(steps):
        logits = [one.logits(answer)[-1] for one, answer in zip(rows, answers, strict=True)]
        drawn = torch.rand(len(rows), len(logits[0]), generator=stream, dtype=torch.float64)
        for answer, own, gumbel in zip(answers, logits, -(-drawn.log()).log().float(), strict=True):
            own[list(suppressed)] = -torch.inf
            answer.append(int((own / temperature + gumbel).argmax()))
    return answers


def _row(ids: Sequence[int]) -> Tensor:
    return torch.tensor([list(ids)])


def _vit_gpt2(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    start = [one.model.config.decoder_start_token_id]
    return {"pixel_values": one.pixels, "decoder_input_ids": _row([*start, *one.ids(one.text), *answer])}


def _blip_caption(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    ids = [one.model.config.text_config.bos_token_id, *one.ids(one.text), *answer]
    return {"pixel_values": one.pixels, "input_ids": _row(ids)}


def _blip_vqa(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    start = _row([one.model.decoder_start_token_id, *answer])
    question = one.tokenizer(one.text, return_tensors="pt")["input_ids"]
    return {"pixel_values": one.pixels, "input_ids": question, "decoder_input_ids": start, "labels": start}


def _git(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    return {"pixel_values": one.pixels, "input_ids": _row([one.tokenizer.cls_token_id, *one.ids(one.text), *answer])}


def _florence2(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    tokenizer, config = one.tokenizer, one.model.config
    text = [tokenizer.bos_token_id, *one.ids(one.text), tokenizer.eos_token_id]
    count = one.model.get_image_features(one.pixels).pooler_output.shape[1]
    start = [config.text_config.decoder_start_token_id]
    return {
        "pixel_values": one.pixels,
        "input_ids": _row([config.image_token_id] * count + text),
        "decoder_input_ids": _row([*start, *answer]),
    }


def _kosmos2(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    begin, end = one.ids("<image></image>")
    count = one.model.config.latent_query_num
    image = [one.tokenizer.unk_token_id + 4] * count  # Any but the pad token.
    ids = [one.tokenizer.bos_token_id, begin, *image, end, *one.ids(f" {one.text}"), *answer]
    places = [0, 0] + [1] * count + [0] * (len(ids) - count - 2)
    return {"pixel_values": one.pixels, "input_ids": _row(ids), "image_embeds_position_mask": _row(places)}


def _paligemma(one: Alone, answer: list[int]) -> dict[str, Tensor]:
    prompt = [one.model.config.image_token_id] * 4 + [one.tokenizer.bos_token_id, *one.ids(f"{one.text}\n")]
    types = [0] * len(prompt) + [1] * len(answer)
    return {"pixel_values": one.pixels, "input_ids": _row(prompt + answer), "token_type_ids": _row(types)}


_MAKERS: dict[str, Callable[[Alone, list[int]], dict[str, Tensor]]] = {
    "vit-gpt2": _vit_gpt2,
    "swin-gpt2": _vit_gpt2,
    "blip-caption": _blip_caption,
    "blip-vqa": _blip_vqa,
    "git": _git,
    "florence2": _florence2,
    "kosmos2": _kosmos2,
    "paligemma": _paligemma,
}
