"""LoRA ingredients: which layers an adapter changes and how strongly, and the adapters that soups do not cover.

A LoRA layer adds s B A x to W x, with A (r, d_in), B (d_out, r) and the scaling s = α / r, or α / √r for rsLoRA
(Hu et al. 2022, section 4.1; Kalajdzievski 2023). r and α of a layer are `r` and `lora_alpha` of PEFT's adapter config
unless a `rank_pattern` or `alpha_pattern` names the layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rslit.errors import RslitError

__all__ = ["SPACES", "Adapter", "LoraLayer", "check_factors", "factor_of", "live_key", "lora_layers"]

#: PEFT's adapter_config.json as a dict.
Adapter = Mapping[str, Any]

#: Where LoRA experts are interpolated: the factors A and B entry by entry (the paper's), or the products s B A.
SPACES = ("factors", "delta")

_KEY = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<factor>[AB])\.default\.weight")

# Entries of an adapter config that this file reads, or that say nothing about what a trained adapter computes.
_COVERED = {
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "lora_dropout"),
    *("task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"),
    *("megatron_core", "qalora_group_size", "eva_config", "runtime_config"),
}
# Others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) change the weights of the base model too.
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class LoraLayer:
    """One layer's part of an adapter.

    Attributes:
        path: The layer's path in the base model, such as `model.layers.0.self_attn.q_proj`.
        rank: r.
        alpha: α.
        scaling: s.
    """

    path: str
    rank: int
    alpha: float
    scaling: float


def live_key(path: str, factor: str) -> str:
    """The key of a factor ("A" or "B") in a PEFT model's state dict."""
    return f"base_model.model.{path}.lora_{factor}.default.weight"


def factor_of(key: str) -> tuple[str, str] | None:
    """The layer's path and the factor ("A" or "B") of a key in a PEFT model's state dict; None for other weights."""
    match = _KEY.fullmatch(key)
    return (match["path"], match["factor"]) if match else None


def lora_layers(state: Mapping[str, Tensor], adapter: Adapter, label: str) -> dict[str, LoraLayer]:
    """The LoRA layers of an expert by path, in the order of the state.

    Args:
        state: The expert's weights under PEFT's live names.
        adapter: Its adapter config.
        label: What to call the expert in messages.

    Raises:
        RslitError: The adapter is more than plain LoRA on linear layers, or its weights and its config disagree.
    """
    _check_config(adapter, label)
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        named = factor_of(key)
        if named is None:
            raise RslitError(f"{label}: weight '{key}' is no LoRA factor of a linear layer; train plain LoRA only")
        path, factor = named
        if tensor.ndim != 2:
            shape = tuple(tensor.shape)
            raise RslitError(f"{label}: LoRA weight '{key}' has shape {shape}; soups cover LoRA on linear layers only")
        found.setdefault(path, {})[factor] = tensor
    return {path: _layer(path, factors, adapter, label) for path, factors in found.items()}


def _layer(path: str, factors: Mapping[str, Tensor], adapter: Adapter, label: str) -> LoraLayer:
    lacking = [factor for factor in "AB" if factor not in factors]
    if lacking:
        raise RslitError(f"{label}: lacks the weight '{live_key(path, lacking[0])}'; write the ingredient again")
    rank = _matching(adapter.get("rank_pattern"), path, adapter.get("r", 8))
    alpha = _matching(adapter.get("alpha_pattern"), path, adapter.get("lora_alpha", 8))
    ranks = factors["A"].shape[0], factors["B"].shape[1]
    if ranks != (rank, rank):
        raise RslitError(
            f"{label}: rank of '{path}' is {rank} in the adapter config but {ranks[0]} and {ranks[1]} in its weights; "
            "give the config the adapter was trained with"
        )
    scaling = alpha / math.sqrt(rank) if adapter.get("use_rslora") else alpha / rank
    return LoraLayer(path, rank, alpha, scaling)


def _matching(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """The value of the first pattern that names the layer, as PEFT looks it up: a regular expression for the end."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return value
    return default


def _check_config(adapter: Adapter, label: str) -> None:
    kind = adapter.get("peft_type", "LORA")
    if kind != "LORA":
        raise RslitError(f"{label}: is a {kind} adapter; soups cover plain LoRA, and full fine-tuning")
    init = adapter.get("init_lora_weights", True)
    if init not in _INITS:
        raise RslitError(
            f"{label}: adapter config 'init_lora_weights' is {init!r}, which changes the base model or the update too; "
            "train with true, 'gaussian' or 'orthogonal'"
        )
    extra = {key: value for key, value in adapter.items() if key not in _COVERED and value}
    if adapter.get("bias", "none") != "none":
        extra = {"bias": adapter["bias"]} | extra
    if extra:
        key, value = next(iter(extra.items()))
        given = f"{value!r:.60}"
        raise RslitError(
            f"{label}: adapter config has '{key}' ({given}), which LoRA soups do not cover; train plain LoRA without it"
        )


def check_factors(layers: Mapping[str, Mapping[str, LoraLayer]], labels: Mapping[str, str]) -> None:
    """In space factors all experts have one rank and one scaling in every layer.

    Args:
        layers: LoRA layers by expert and path, with the same paths.
        labels: What to call an expert in messages.

    Raises:
        RslitError: They do not.
    """
    (name, first), *others = layers.items()
    for other_name, other in others:
        for path in (path for path in first if path in other):
            for what in ("rank", "scaling"):
                one, two = getattr(first[path], what), getattr(other[path], what)
                if one != two:
                    raise RslitError(
                        f"{what} of '{path}' is {one:g} in {labels[name]} but {two:g} in {labels[other_name]}, so the "
                        "factors cannot be interpolated; give both one rank, lora_alpha and use_rslora, or use space "
                        "delta"
                    )
