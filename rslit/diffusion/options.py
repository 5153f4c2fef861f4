"""What a diffusion policy is made of and how it draws, as a user writes it in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rslit.errors import RslitError
from rslit.language.options import LoraOptions

__all__ = ["DiffusionOptions", "DrawingOptions"]


@dataclass
class DiffusionOptions:
    """A text-to-image pipeline of diffusers and what of its denoiser is trained.

    Attributes:
        base: Hub name or local folder of a pipeline of a supported class (see `rslit.diffusion.families.FAMILIES`).
        trained: ``cross_attention`` is the paper's choice (appendix E.1): the layers that look at the text, and all
            biases and scales. ``all`` is the whole denoiser, ``lora`` adapters on it.
        lora: The adapters of ``trained: lora``; without `target_modules` they are on all attention layers.
        dtype: Of what is frozen beside the denoiser (text encoder, VAE), and of the denoiser under adapters. What is
            trained is float32; the Trainer's precision says what it is computed in.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time.
        revision: Branch, tag or commit on the hub.
        variant: Of the weights' files, such as ``fp16``.
    """

    base: str
    trained: Literal["cross_attention", "all", "lora"] = "cross_attention"
    lora: LoraOptions | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    revision: str | None = None
    variant: str | None = None


@dataclass
class DrawingOptions:
    """How images are drawn. All of it is part of what an image is: another value, another image.

    Attributes:
        steps: Denoising steps.
        guidance: Scale of classifier-free guidance (Ho and Salimans 2021); 1 is none.
        scheduler: Class of diffusers, such as ``DDIMScheduler``; None is the pipeline's own.
        height: In pixels; None is what the model was trained at.
        width: In pixels; the same.
        rows: Images drawn side by side, always so many: an incomplete batch is filled up, since the last bits of an
            image depend on how many are computed together. So the batch size of the data and the number of processes
            change no image.
    """

    steps: int = 50
    guidance: float = 7.5
    scheduler: str | None = None
    height: int | None = None
    width: int | None = None
    rows: int = 8

    def __post_init__(self) -> None:
        for name in ("steps", "rows"):
            if getattr(self, name) < 1:
                raise RslitError(f"drawing.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is not None and (value < 8 or value % 8):
                raise RslitError(f"drawing.{name} must be a multiple of 8, got {value}")
        if not self.guidance >= 1:
            raise RslitError(f"drawing.guidance must be at least 1 (1 is none), got {self.guidance:g}")
