"""What of a denoiser is trained: the paper's tenth, all, or adapters."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from rslit.diffusion.options import DiffusionOptions
from rslit.errors import RslitError
from rslit.language.adapter import fresh_adapter
from rslit.language.options import LoraOptions

__all__ = ["choose_trained", "looks_at_text"]

_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
# `attn2` are the cross-attention layers of UNets and PixArt; the others are the text's part of attention over image and
# text together (Stable Diffusion 3, DeepFloyd IF).
_CROSS = ("attn2", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


def looks_at_text(name: str) -> bool:
    """Whether a parameter of this name is part of a layer that looks at the text."""
    return any(part in _CROSS for part in name.split("."))


def choose_trained(model: nn.Module, options: DiffusionOptions) -> nn.Module:
    """Leaves gradients to what is trained, in float32, and says how much that is.

    Args:
        model: The denoiser.
        options: See `DiffusionOptions.trained`.

    Returns:
        The denoiser, under adapters a ``PeftModel`` around it.

    Raises:
        RslitError: It has no cross-attention, or no layers for the adapters.
    """
    total = sum(p.numel() for p in model.parameters())
    if options.lora is not None and options.trained != "lora":
        raise RslitError(f"policy.lora is given, but policy.trained is '{options.trained}'; set it to lora")
    if options.trained == "lora":
        lora = options.lora or LoraOptions()
        if lora.target_modules is None:
            present = {name for path, _ in model.named_modules() for name in _ATTENTION if _ends(path, name)}
            lora = LoraOptions(**{**vars(lora), "target_modules": sorted(present)})
        model = fresh_adapter(model, lora, options.base, task=None)
    else:
        _choose(model, options)
    chosen = [p for p in model.parameters() if p.requires_grad]
    for parameter in chosen:
        parameter.data = parameter.data.to(torch.float32)
    count = sum(p.numel() for p in chosen)
    rank_zero_info(f"policy: {count:,} of {total:,} weights of the denoiser are trained ({count / total:.1%})")
    return model


def _choose(model: nn.Module, options: DiffusionOptions) -> None:
    model.requires_grad_(options.trained == "all")
    if options.trained == "all":
        return
    named: list[tuple[str, Any]] = list(model.named_parameters())
    if not any(looks_at_text(name) for name, _ in named):
        raise RslitError(
            f"policy.trained: the denoiser of {options.base} ({type(model).__name__}) has no cross-attention layers; "
            "set it to all or lora"
        )
    for name, parameter in named:
        # Biases and scales are vectors; PixArt keeps the scales of a block in one table.
        parameter.requires_grad_(looks_at_text(name) or parameter.ndim <= 1 or name.endswith("scale_shift_table"))


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith("." + name)
