"""The LoRA adapter of a policy: a fresh one, or one to continue, by PEFT."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from rslit.errors import RslitError
from rslit.language.options import LoraOptions, PolicyOptions
from rslit.soup.adapters import lora_layers

__all__ = ["adapter_config", "continued_adapter", "fresh_adapter"]


def fresh_adapter(model: Any, lora: LoraOptions, base: str, task: str | None = "CAUSAL_LM") -> Any:
    """Puts an adapter that does nothing yet on a base.

    Args:
        model: The base; its weights are frozen.
        lora: The adapter.
        base: Hub name or folder of the base, for the record.
        task: PEFT's name of what the base does; None for a base that is no language model.

    Raises:
        RslitError: The base has no such layers, or PEFT does not take the numbers.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type=task,
        base_model_name_or_path=base,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.rslora,
        bias="none",
    )
    model.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[]), _peft_warnings_off():
            torch.manual_seed(lora.seed)
            adapted = get_peft_model(model, config)
    except (ValueError, re.error) as error:
        raise RslitError(f"policy.lora: {str(error).splitlines()[0]}") from error
    return adapted


def continued_adapter(model: Any, options: PolicyOptions) -> Any:
    """Loads an adapter onto its base, to train it further.

    Raises:
        RslitError: It cannot be read, is more than plain LoRA, or is not this base's.
    """
    from peft import PeftConfig, PeftModel
    from peft.utils import load_peft_weights

    path = str(options.adapter)
    label = f"policy.adapter: {path}"
    try:
        config = PeftConfig.from_pretrained(path)
        _check_adapter(config, options)
        model.requires_grad_(False)
        with _peft_warnings_off():
            adapted = PeftModel.from_pretrained(model, path, is_trainable=True)
        saved = set(load_peft_weights(path, device="cpu"))
    except RslitError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        first = " ".join(str(error).split())[:200]
        raise RslitError(f"{label} does not fit {options.base} ({first})") from error
    # What is trained from here on says where its base is today, whatever the name was.
    adapted.peft_config["default"].base_model_name_or_path = options.base
    factors: dict[str, Tensor] = {k: p for k, p in adapted.named_parameters() if p.requires_grad}
    lora_layers(factors, adapter_config(adapted), label)
    # PEFT passes over weights of layers that the base does not have, and leaves layers without weights as they are.
    odd = sorted(saved ^ {key.replace(".default.", ".") for key in factors})
    if odd:
        raise RslitError(f"{label} does not fit {options.base}: '{odd[0]}' is not in both ({len(odd)} in all)")
    return adapted


def _check_adapter(config: Any, options: PolicyOptions) -> None:
    if config.peft_type != "LORA":
        raise RslitError(
            f"policy.adapter: {options.adapter} is of type {getattr(config.peft_type, 'value', config.peft_type)}; "
            "only LoRA adapters can be continued"
        )
    named = str(config.base_model_name_or_path or "")
    if options.check_adapter_base and named and Path(named).name.lower() != Path(options.base).name.lower():
        raise RslitError(
            f"policy.adapter: {options.adapter} is an adapter of {named}, not of {options.base}; name its base, or set "
            "policy.check_adapter_base to false if the two are the same model"
        )


def adapter_config(model: Any) -> dict[str, Any]:
    """The configuration of a PEFT model's adapter, as adapter_config.json holds it."""
    config: dict[str, Any] = json.loads(json.dumps(model.peft_config["default"].to_dict(), default=_plain))
    return config


@contextmanager
def _peft_warnings_off() -> Iterator[None]:
    """For what PEFT sets right itself (GPT-2's transposed layers), and what is checked here afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(getattr(value, "value", value))
