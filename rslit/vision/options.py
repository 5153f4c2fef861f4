"""What a vision-language policy is made of, as a user writes it in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rslit.language.options import LoraOptions

__all__ = ["VisionOptions"]


@dataclass
class VisionOptions:
    """A vision-language model and what of it is trained.

    Attributes:
        base: Hub name or local folder of a model of a supported class (see `rslit.vision.families.FAMILIES`).
        processor: Hub name or folder of the tokenizer and the image processor; None: the base's.
        lora: Fresh LoRA adapters; the base is frozen. Without `target_modules` they are on the attention layers of the
            text part.
        adapter: PEFT folder or hub name of a LoRA adapter to continue.
        trained: Patterns of the parameters that are trained (`decoder.*`, with `*` and `?`); the rest is frozen. None,
            without adapters, trains all. A frozen image encoder runs without gradients, and what it makes of an image
            can be kept.
        dtype: Of the base. Adapters are float32 whatever it is.
        revision: Branch, tag or commit on the hub.
    """

    base: str
    processor: str | None = None
    lora: LoraOptions | None = None
    adapter: str | None = None
    trained: list[str] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    revision: str | None = None
