"""LoRA weights as files that plain `peft` loads: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from rslit.soup.adapters import Adapter, factor_of, live_key, lora_layers
from rslit.soup.blend import accumulation_dtype
from rslit.soup.soup import Soup
from rslit.soup.storage import safetensors_header, tensor_bytes

__all__ = ["ADAPTER", "ADAPTER_CONFIG", "adapter_files", "plain_config", "stacked_adapter"]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"


def adapter_files(state: Mapping[str, Tensor], adapter_config: Adapter) -> dict[str, bytes]:
    """The two files that make a folder a PEFT adapter.

    Args:
        state: LoRA weights under PEFT's live names, as `PeftModel.named_parameters` has them. Other weights are left
            out.
        adapter_config: PEFT's adapter config as a dict.

    Returns:
        The files' bytes by name: what `PeftModel.save_pretrained` writes.
    """
    saved = {}
    for key, tensor in state.items():
        named = factor_of(key)
        if named is not None:
            saved[live_key(*named).replace(".default.weight", ".weight")] = tensor
    header, keys = safetensors_header({key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in saved.items()})
    # Frozen until asked otherwise, as PEFT saves adapters.
    config = json.dumps(dict(adapter_config) | {"inference_mode": True}, indent=2, sort_keys=True, default=_plain)
    weights = b"".join((header, *(tensor_bytes(saved[key]) for key in keys)))
    return {ADAPTER_CONFIG: config.encode(), ADAPTER: weights}


def plain_config(adapter: Adapter, base: str) -> dict[str, Any]:
    """An adapter config whose loading does nothing but make the layers: no data-driven initialisation is repeated.

    Args:
        adapter: The config of a plain LoRA.
        base: Hub name or folder of the base model.
    """
    return dict(adapter) | {"base_model_name_or_path": base, "init_lora_weights": True, "eva_config": None}


def stacked_adapter(soup: Soup, exact: Mapping[str, Fraction], base: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The soup in space delta as one adapter, exactly: the experts' ranks stacked.

    Σ λ_i s_i B_i A_i is the product of [λ_1 s_1 B_1, ...] with the stacked A_i. With alpha equal to the rank PEFT's own
    scaling is 1. Experts with λ = 0 take no rank.

    Args:
        soup: A soup of LoRA experts.
        exact: λ of every expert.
        base: Hub name or folder of the base model.

    Returns:
        Weights under PEFT's live names, and the adapter config.
    """
    used = [name for name in soup.names if exact[name] != 0]
    layers = {name: lora_layers(soup.states[name], soup.adapters[name], f"expert '{name}'") for name in used}
    state: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for path in layers[used[0]]:
        a = [soup.states[name][live_key(path, "A")] for name in used]
        b = [soup.states[name][live_key(path, "B")] for name in used]
        dtype = accumulation_dtype(a[0].dtype)
        scales = [float(exact[name]) * layers[name][path].scaling for name in used]
        state[live_key(path, "A")] = torch.cat([factor.to(dtype) for factor in a])
        state[live_key(path, "B")] = torch.cat([f.to(dtype) * scale for f, scale in zip(b, scales, strict=True)], 1)
        ranks[path] = sum(layers[name][path].rank for name in used)
    usual = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT reads a pattern as a regular expression for the end of a path.
    pattern = {f"^{re.escape(path)}": rank for path, rank in ranks.items() if rank != usual}
    config = plain_config(soup.adapters[used[0]], base) | {
        "r": usual,
        "lora_alpha": usual,
        "use_rslora": False,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
    }
    return state, config


def _plain(value: object) -> object:
    """PEFT's own dict has sets, and enumerations that are strings."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
