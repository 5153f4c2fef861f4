"""Several answers to a prompt: its keys and values are computed once.

Notation: B rows, P prompt tokens.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from rslit.language.padding import Prompts, positions

__all__ = ["distinct", "prompt_cache", "shares_prompts", "takes"]

_LAYERS = {"full_attention", "sliding_attention"}


def takes(model: Any, name: str) -> bool:
    """Whether a model of transformers, under an adapter or not, takes an argument of this name."""
    return name in inspect.signature(_unwrapped(model).forward).parameters


def shares_prompts(model: nn.Module) -> bool:
    """Whether keys and values are all that later tokens need of a prompt, and may be kept.

    They are not where layers are recurrent; gradient checkpointing keeps none.
    """
    base = _unwrapped(model)
    config = base.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ()
    known = not getattr(base, "_is_stateful", False) and set(layers) <= _LAYERS
    asked = takes(model, "past_key_values") and takes(model, "position_ids")
    return known and asked and not any(getattr(m, "gradient_checkpointing", False) for m in base.modules())


def distinct(prompts: Prompts) -> tuple[Prompts, Tensor]:
    """Each prompt once.

    Returns:
        The distinct prompts, and for each row the index of its own among them, int64 (B,).
    """
    rows, own = torch.unique(torch.where(prompts.mask, prompts.ids, -1), dim=0, return_inverse=True)
    mask = rows >= 0
    return Prompts(rows.clamp(min=0), mask), own


def prompt_cache(model: Any, prompts: Prompts) -> tuple[Any, Tensor]:
    """A prompt's keys and values, with gradients where they are on.

    Returns:
        A ``DynamicCache`` of transformers, and what the model returns as the logits of each prompt's last token.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    last = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}
    out = model(
        input_ids=prompts.ids,
        attention_mask=prompts.mask.long(),
        position_ids=positions(prompts.mask),
        past_key_values=cache,
        use_cache=True,
        **last,
    )
    return cache, out.logits[:, -1:]


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
