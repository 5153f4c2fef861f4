"""Loading a vision-language model and its image processor, and saying what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from rslit.errors import RslitError
from rslit.language.load import load_weights
from rslit.vision.families import class_name
from rslit.vision.options import VisionOptions

__all__ = ["freeze", "load_image_processor", "load_model"]


def load_image_processor(name: str, revision: str | None) -> Any:
    """The image processor of a hub name or folder."""
    from transformers import AutoImageProcessor

    loader: Any = AutoImageProcessor  # untyped
    # By Pillow: torchvision, where it is installed, resizes to other numbers.
    return loader.from_pretrained(name, backend="pil", revision=revision or "main")


def load_model(options: VisionOptions) -> tuple[Any, str]:
    """The base and the name of its class.

    Raises:
        RslitError: The class is not supported, or weights are pickled or missing.
    """
    import transformers

    revision = options.revision or "main"
    config = transformers.AutoConfig.from_pretrained(options.base, revision=revision)
    kind = class_name(config, options.base)
    dtype = getattr(torch, options.dtype)
    given: dict[str, Any] = {"config": config, "revision": revision, "dtype": dtype, "use_safetensors": True}
    return load_weights(getattr(transformers, kind), options.base, **given), kind


def freeze(model: nn.Module, trained: Sequence[str] | None, unused: Sequence[str]) -> None:
    """Leaves gradients to what is trained.

    Args:
        model: The model.
        trained: Patterns of the names of parameters; None: all.
        unused: Patterns of those that are not trained all the same.

    Raises:
        RslitError: A pattern fits nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in trained or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RslitError(f"policy.trained: '{pattern}' fits no parameter; they have names such as '{names[-1]}'")
    for name, parameter in model.named_parameters():
        chosen = trained is None or any(fnmatchcase(name, pattern) for pattern in trained)
        parameter.requires_grad_(chosen and not any(fnmatchcase(name, pattern) for pattern in unused))
