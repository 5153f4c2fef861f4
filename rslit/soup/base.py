"""The base model under LoRA adapters: telling one from another."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

from rslit.soup.storage import tensor_bytes

__all__ = ["base_fingerprint"]

# Elements of each weight that are looked at: enough to tell two models apart, and fast for 7 billion.
_SAMPLED = 4096


def base_fingerprint(model: nn.Module) -> str:
    """A name for a base model, from key and shape of every weight and some thousand of its elements.

    Elements are rounded to bfloat16, so that loading in float32 or bfloat16 makes no difference. A quantised base has
    another name than the same base unquantised.

    Returns:
        `sha256:<hex>`.
    """
    digest = hashlib.sha256()
    for key, weight in sorted(model.named_parameters()):
        flat = weight.detach().reshape(-1)
        part = flat[:: max(1, flat.numel() // _SAMPLED)]
        digest.update(json.dumps([key, list(weight.shape)]).encode() + b"\n")
        digest.update(tensor_bytes(part.to(torch.bfloat16) if part.is_floating_point() else part))
    return f"sha256:{digest.hexdigest()}"
