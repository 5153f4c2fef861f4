"""A soup merged into its base model: a folder that plain `transformers` or `diffusers` loads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.soup.base_load import load_base
from rslit.soup.lora import LoraStack, linear_at
from rslit.soup.rounding import PourReport, Rounding
from rslit.soup.soup import Soup
from rslit.soup.streaming import HALVES

__all__ = ["write_merged"]


def write_merged(soup: Soup, exact: dict[str, Fraction], base: Mapping[str, str], folder: Path) -> PourReport:
    """Write the soup at λ as the folder of a model, with generation defaults and tokenizer, or of a whole pipeline.

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
    loaded = load_base(base)
    with torch.no_grad():
        merge = _merge_lora if soup.adapters else _pour
        rounding = merge(soup, exact, loaded.model)
    loaded.save(folder)
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
