"""A soup merged into its base model: a folder that plain `transformers` loads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.soup.base import base_fingerprint
from rslit.soup.lora import LoraStack, linear_at
from rslit.soup.rounding import PourReport, Rounding
from rslit.soup.soup import Soup
from rslit.soup.streaming import HALVES

__all__ = ["load_base", "write_merged"]


def load_base(record: Mapping[str, str]) -> nn.Module:
    """The base model in the dtype it is stored in.

    Args:
        record: ``config.base`` of an ingredient: hub name or folder, fingerprint, and how it was loaded. Without a
            ``class`` of transformers it is a causal language model.

    Warns:
        UserWarning: The experts were trained on the base quantised: whether it is the same cannot be seen.

    Raises:
        RslitError: There is no such model, it is another one than the experts', or transformers is not installed.
    """
    name, extra = record["name"], {key: record[key] for key in ("revision", "gguf_file") if key in record}
    try:
        import transformers
    except ImportError:
        raise RslitError("--merged needs transformers; install rslit[text]") from None
    packed = {"quantization_config": transformers.GgufConfig(dequantize=True)} if "gguf_file" in record else {}
    kind: Any = getattr(transformers, record.get("class", "AutoModelForCausalLM"), None)
    if not hasattr(kind, "from_pretrained"):
        raise RslitError(f"config.base of the ingredients: transformers has no model class '{record['class']}'")
    try:
        model: nn.Module = kind.from_pretrained(name, dtype="auto", **extra, **packed)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RslitError(
            f"base model '{name}' of the ingredients cannot be loaded ({reason}); put it there, or correct config.base "
            "in their ingredient.json"
        ) from error
    if "quantization" in record:
        text = f"the experts were trained on {name} in {record['quantization']}; whether its weights are still the same"
        warnings.warn(f"{text} cannot be checked, and merged into the full ones the soup is another", stacklevel=4)
    elif base_fingerprint(model) != record["fingerprint"]:
        raise RslitError(f"base model '{name}' is not the one the experts were trained on; put that one there")
    return model


def write_merged(soup: Soup, exact: dict[str, Fraction], base: Mapping[str, str], folder: Path) -> PourReport:
    """Write the soup at λ as a model folder with weights, configuration, generation defaults and tokenizer.

    Weights are computed in float32 and stored in the base's dtype.

    Args:
        soup: LoRA experts in either space, or fully fine-tuned ones.
        exact: λ of every expert.
        base: ``config.base`` of the ingredients.
        folder: An existing folder.

    Returns:
        What storing did to λ. In space factors the experts' merged weights and the soup lie on no plane; the error
        counts from the soup as asked for.

    Warns:
        UserWarning: The base has no tokenizer, or no image processor.

    Raises:
        RslitError: The base cannot be loaded, or is not the experts'.
    """
    model = load_base(base)
    with torch.no_grad():
        rounding = _merge_lora(soup, exact, model) if soup.adapters else _pour(soup, exact, model)
    saved: Any = model
    saved.save_pretrained(folder)
    _save_processors(base, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    return rounding.report()


def _pour(soup: Soup, exact: dict[str, Fraction], model: nn.Module) -> Rounding:
    live: Mapping[str, Tensor] = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    soup.pour(exact, live)
    rounding = Rounding(exact)
    for key in soup.trainable_keys:
        rounding.add(live[key], [state[key] for state in soup.states.values()])
    return rounding


def _merge_lora(soup: Soup, exact: dict[str, Fraction], model: nn.Module) -> Rounding:
    stack = LoraStack(soup.states, soup.adapters, soup.space)
    lam = stack.coefficients([exact])[0]
    vertices = torch.eye(len(stack.names))
    rounding = Rounding(exact)
    owners: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(module))
    for path in stack.layers:
        layer = linear_at(model, path, stack.shape(path))
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if weight.dtype not in (torch.float32, torch.float64, *HALVES):
            raise RslitError(f"'{path}' of the base is stored in {weight.dtype}; --merged needs a base not quantised")
        if len(owners[id(weight)]) > 1:
            raise RslitError(
                f"'{path}' shares its weight with another layer of the base, which merging would change too; export "
                "without --merged"
            )
        turned = not hasattr(layer, "in_features")  # GPT-2's Conv1D holds its weight the other way round
        deltas = (stack.delta(path, coefficients) for coefficients in (*vertices, lam))
        *experts, wanted = [weight.float() + (delta.T if turned else delta) for delta in deltas]
        weight.copy_(wanted)
        rounding.add(weight, experts, wanted)
    return rounding


def _save_processors(base: Mapping[str, str], folder: Path) -> None:
    """The tokenizer and, of a model that looks at images, the image processor."""
    from transformers import AutoImageProcessor, AutoTokenizer

    loaders: dict[str, Any] = {"tokenizer": AutoTokenizer}
    if "class" in base:
        loaders["image processor"] = AutoImageProcessor
    origin = base.get("processor", base["name"])
    for what, loader in loaders.items():
        try:
            loader.from_pretrained(origin, revision=base.get("revision", "main")).save_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            text = f"{origin} has no {what} to copy ({reason}); the folder has none"
            warnings.warn(text, UserWarning, stacklevel=4)
