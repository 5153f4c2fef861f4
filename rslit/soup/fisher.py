"""Fisher-weighted averaging: each weight of the soup leans to the experts that are sure of it.

    θ = Σ_i λ_i F_i θ_i / Σ_i λ_i F_i,   entry by entry,

with F_i the diagonal of expert i's Fisher information: equation 4 of Matena & Raffel (2022), "Merging models with
Fisher-weighted averaging", which Remark 5 of Ramé et al. (2023) suggests for rewarded soups. With equal F it is the
ordinary soup. Where all the experts that λ names have F = 0, none of them cares and the ordinary soup is taken.

An ingredient carries its diagonal as `fisher.safetensors`: non-negative, one tensor per trainable weight. Only its
ratios between experts count, so that one factor common to all (a sum over samples in place of a mean) changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup.blend import accumulation_dtype, blend, steps
from rslit.soup.ingredient import Ingredient

__all__ = ["FISHER", "fisher_mean", "load_fisher"]

FISHER = "fisher.safetensors"

_States = Mapping[str, Mapping[str, Tensor]]


def load_fisher(ingredient: Ingredient) -> dict[str, Tensor]:
    """The Fisher diagonal in an ingredient's folder.

    Raises:
        RslitError: There is none, or it cannot be read.
    """
    path = ingredient.path / FISHER
    if not path.is_file():
        raise RslitError(f"{path}: no such file; write the expert's Fisher diagonal there or pour without --fisher")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise RslitError(f"{path}: cannot be read as safetensors: {error}; write it again") from error


@torch.no_grad()
def fisher_mean(
    states: _States, trainable_keys: Iterable[str], lam: Mapping[str, Fraction], fishers: _States
) -> dict[str, Tensor]:
    """The Fisher-weighted soup, in float32 (float64 for float64 experts), before it is rounded to how it is stored.

    It is computed as θ_1 + Σ_i w_i (θ_i - θ_1), w_i = λ_i F_i / Σ_j λ_j F_j: a weight on which the experts agree stays
    bit for bit what it is. F is divided by its largest value over the experts first, since squared gradients of 1e-30
    would vanish in float32.

    Args:
        states: State dicts by expert name.
        trainable_keys: The weights to average.
        lam: Exact λ of every expert, from 0 to 1, sum 1.
        fishers: Fisher diagonals by expert name: non-negative, of the weights' shapes.

    Returns:
        The trainable weights by key; at a vertex (one λ is 1) the expert's own.

    Raises:
        RslitError: λ lies outside [0, 1], or a diagonal is missing, of another shape, negative or not finite.
    """
    outside = [name for name, value in lam.items() if not 0 <= value <= 1]
    if outside:
        raise RslitError(
            f"lam of expert '{outside[0]}' is {float(lam[outside[0]]):g}; Fisher-weighted averages need it in [0, 1]"
        )
    chain = steps(lam)
    names = [name for name, _ in chain]
    found: dict[str, Tensor] = {}
    for key in trainable_keys:
        tensors = [states[name][key] for name in names]
        if len(names) == 1:
            found[key] = tensors[0].clone()
            continue
        dtype = accumulation_dtype(tensors[0].dtype)
        weights = [_diagonal(name, key, tensors[0], fishers).to(tensors[0].device, dtype) for name in names]
        largest = torch.stack(weights).amax(dim=0)
        scale = torch.where(largest > 0, largest, 1.0)
        parts = [float(lam[name]) * (weight / scale) for name, weight in zip(names, weights, strict=True)]
        total = torch.stack(parts).sum(dim=0)
        plain = torch.empty_like(tensors[0], dtype=dtype)
        blend(plain, tensors, [weight for _, weight in chain])
        first = tensors[0].to(dtype)
        mean = first.clone()
        for part, tensor in zip(parts[1:], tensors[1:], strict=True):
            mean += part / total * (tensor.to(dtype) - first)
        found[key] = torch.where(largest > 0, mean, plain)
    return found


def _diagonal(name: str, key: str, weight: Tensor, fishers: _States) -> Tensor:
    diagonal = fishers.get(name, {}).get(key)
    if diagonal is None:
        raise RslitError(f"the Fisher diagonal of expert '{name}' lacks '{key}'; give one for every trainable weight")
    if diagonal.shape != weight.shape:
        raise RslitError(
            f"the Fisher diagonal of expert '{name}' at '{key}' has shape {tuple(diagonal.shape)}, the weight "
            f"{tuple(weight.shape)}; write it again from this expert"
        )
    if not bool((torch.isfinite(diagonal) & (diagonal >= 0)).all()):
        raise RslitError(
            f"the Fisher diagonal of expert '{name}' at '{key}' is negative or not finite; it holds means of squared "
            "gradients"
        )
    return diagonal
