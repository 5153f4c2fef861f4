"""The pipelines of diffusers that can be policies: how each reads prompts, asks its denoiser and is told to draw.

Rows are named tensors with one row per prompt: what a pipeline's text encoders make of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rslit.errors import RslitError

__all__ = ["FAMILIES", "Family", "Rows", "family_of"]

Rows = dict[str, Tensor]


class Family(ABC):
    """How a class of pipelines is handled.

    Attributes:
        denoiser: Name of the component that is the policy.
    """

    denoiser: ClassVar[str] = "unet"

    @abstractmethod
    def read(self, pipe: Any, prompts: Sequence[str]) -> Rows:
        """What the text encoders make of prompts."""

    def blank(self, pipe: Any) -> Rows:
        """What stands for no prompt, in guidance and where a prompt is dropped; one row."""
        return self.read(pipe, [""])

    @abstractmethod
    def ask(self, rows: Mapping[str, Tensor], pixels: tuple[int, int]) -> dict[str, Any]:
        """Arguments of the denoiser beside the noisy input and the time.

        Args:
            rows: Of the batch.
            pixels: Height and width of the images.
        """

    @abstractmethod
    def draw(self, rows: Mapping[str, Tensor], blank: Mapping[str, Tensor]) -> dict[str, Any]:
        """Arguments of the pipeline's call that say what to draw; both have the batch's rows."""


class _StableDiffusion(Family):
    def read(self, pipe: Any, prompts: Sequence[str]) -> Rows:
        return {"text": pipe.encode_prompt(list(prompts), pipe.device, 1, False)[0]}

    def ask(self, rows: Mapping[str, Tensor], pixels: tuple[int, int]) -> dict[str, Any]:
        return {"encoder_hidden_states": rows["text"]}

    def draw(self, rows: Mapping[str, Tensor], blank: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"prompt_embeds": rows["text"], "negative_prompt_embeds": blank["text"]}


class _PixelSpace(_StableDiffusion):
    """DeepFloyd IF's first stage: no VAE."""

    def read(self, pipe: Any, prompts: Sequence[str]) -> Rows:
        return {"text": pipe.encode_prompt(list(prompts), False, device=pipe.device)[0]}


class _Pooled(Family):
    """Models that take a vector of the whole prompt beside that of each token."""

    def draw(self, rows: Mapping[str, Tensor], blank: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "prompt_embeds": rows["text"],
            "pooled_prompt_embeds": rows["pooled"],
            "negative_prompt_embeds": blank["text"],
            "negative_pooled_prompt_embeds": blank["pooled"],
        }


class _StableDiffusionXL(_Pooled):
    def read(self, pipe: Any, prompts: Sequence[str]) -> Rows:
        text, _, pooled, _ = pipe.encode_prompt(
            list(prompts), device=pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def blank(self, pipe: Any) -> Rows:
        rows = super().blank(pipe)
        if not pipe.config.force_zeros_for_empty_prompt:
            return rows
        return {name: torch.zeros_like(value) for name, value in rows.items()}

    def ask(self, rows: Mapping[str, Tensor], pixels: tuple[int, int]) -> dict[str, Any]:
        text = rows["text"]
        # Size of the original, upper left corner of the part, size of the part (Podell et al. 2023, section 2.2).
        sizes = torch.tensor([*pixels, 0, 0, *pixels], dtype=text.dtype, device=text.device)
        return {
            "encoder_hidden_states": text,
            "added_cond_kwargs": {"text_embeds": rows["pooled"], "time_ids": sizes.expand(len(text), -1)},
        }


class _StableDiffusion3(_Pooled):
    denoiser = "transformer"

    def read(self, pipe: Any, prompts: Sequence[str]) -> Rows:
        text, _, pooled, _ = pipe.encode_prompt(
            list(prompts), None, None, device=pipe.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def ask(self, rows: Mapping[str, Tensor], pixels: tuple[int, int]) -> dict[str, Any]:
        return {"encoder_hidden_states": rows["text"], "pooled_projections": rows["pooled"]}


class _PixArt(Family):
    denoiser = "transformer"

    def read(self, pipe: Any, prompts: Sequence[str]) -> Rows:
        text, mask, _, _ = pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False, device=pipe.device)
        return {"text": text, "mask": mask}

    def ask(self, rows: Mapping[str, Tensor], pixels: tuple[int, int]) -> dict[str, Any]:
        text = rows["text"]
        height, width = pixels
        # Only the largest model has layers for these; the others pass over them.
        added = {
            "resolution": torch.tensor([[height, width]], dtype=text.dtype, device=text.device).expand(len(text), -1),
            "aspect_ratio": torch.tensor([[height / width]], dtype=text.dtype, device=text.device).expand(
                len(text), -1
            ),
        }
        return {
            "encoder_hidden_states": text,
            "encoder_attention_mask": rows["mask"],
            "added_cond_kwargs": added,
        }

    def draw(self, rows: Mapping[str, Tensor], blank: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "prompt_embeds": rows["text"],
            "prompt_attention_mask": rows["mask"],
            "negative_prompt_embeds": blank["text"],
            "negative_prompt_attention_mask": blank["mask"],
            "negative_prompt": None,
            "clean_caption": False,
            "use_resolution_binning": False,
        }


FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": _StableDiffusion(),
    "StableDiffusionXLPipeline": _StableDiffusionXL(),
    "StableDiffusion3Pipeline": _StableDiffusion3(),
    "PixArtAlphaPipeline": _PixArt(),
    "PixArtSigmaPipeline": _PixArt(),
    "IFPipeline": _PixelSpace(),
}
"""By the class that a pipeline's ``model_index.json`` names."""


def family_of(index: Mapping[str, Any], base: str) -> Family:
    """The family of a pipeline.

    Args:
        index: Its ``model_index.json``.
        base: Its name, for messages.

    Raises:
        RslitError: It has no denoiser, or its class is not supported.
    """
    kind = str(index.get("_class_name"))
    if not any(_there(index.get(name)) for name in ("unet", "transformer")):
        raise RslitError(
            f"policy.base: {base} is a {kind} without a UNet or transformer, so nothing in it denoises; give a "
            "text-to-image pipeline"
        )
    if kind not in FAMILIES:
        raise RslitError(f"policy.base: {base} is a {kind}; supported are {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _there(component: object) -> bool:
    """Whether an entry of model_index.json, [library, class], names a component."""
    return isinstance(component, (list, tuple)) and component[0] is not None
