"""Fisher-weighted averaging: every weight is averaged by how much each expert cares about it (paper, Remark 5).

θ_j = Σ_i λ_i F_ij θ_ij / Σ_i λ_i F_ij (Matena and Raffel 2022, equation 3), with F_i the diagonal of expert i's Fisher
matrix. Adam's running mean of squared gradients stands for it, so it costs nothing beside training (Li et al. 2025,
"Fishers for free?"); `SoupCallback(fisher: true)` leaves it in the ingredient as `fisher.safetensors`. Gradients of two
rewards differ in scale, which is no reason to prefer one: each Fisher is divided by its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup.lam import Lam
from rslit.soup.soup import Soup

__all__ = ["FISHER", "fisher_average", "load_fishers"]

FISHER = "fisher.safetensors"

State = Mapping[str, Tensor]


def load_fishers(soup: Soup) -> dict[str, dict[str, Tensor]]:
    """The Fishers of a soup's ingredients by expert, each with mean 1.

    Raises:
        RslitError: An ingredient has none, or one that is not of its weights.
    """
    return {name: _load(ingredient.path / FISHER, soup) for name, ingredient in soup.ingredients.items()}


def fisher_average(soup: Soup, fishers: Mapping[str, State], lam: Lam) -> dict[str, Tensor]:
    """The Fisher-weighted average at λ, in the experts' dtypes; frozen buffers are the experts'.

    It is computed in float32. Where no expert with a share in λ cares about a weight (all λ_i F_ij are 0) the weight is
    interpolated as in an ordinary soup; at λ = 1 of one expert the average is that expert.

    Args:
        soup: The experts.
        fishers: Diagonal Fishers by expert and weight, not negative, in the shapes of the weights.
        lam: λ by expert.

    Raises:
        RslitError: λ does not fit the soup, or is negative for an expert.
    """
    shares = {name: float(value) for name, value in soup.coefficients(lam).items() if value != 0}
    if min(shares.values()) < 0:
        raise RslitError("fisher: λ must not be negative; a Fisher-weighted average does not extrapolate")
    first = next(iter(soup.states.values()))
    found: dict[str, Tensor] = {}
    for key, tensor in first.items():
        if key not in soup.trainable_keys:
            found[key] = tensor
            continue
        plain, pulled = torch.zeros_like(tensor, dtype=torch.float32), torch.zeros_like(tensor, dtype=torch.float32)
        total = torch.zeros_like(plain)
        for name, share in shares.items():
            weight, fisher = soup.states[name][key].float(), fishers[name][key].to(tensor.device, torch.float32)
            plain += share * weight
            pulled += share * fisher * weight
            total += share * fisher
        # Fishers below float32's reach would divide 0 by 0.
        cared = total > torch.finfo(torch.float32).tiny
        found[key] = torch.where(cared, pulled / torch.where(cared, total, 1.0), plain).to(tensor.dtype)
    if len(shares) == 1:
        only = soup.states[next(iter(shares))]
        found.update({key: only[key] for key in soup.trainable_keys})
    return found


def _load(path: Path, soup: Soup) -> dict[str, Tensor]:
    try:
        fisher = load_file(path)
    except FileNotFoundError:
        raise RslitError(f"{path}: is not there; train with SoupCallback's option fisher: true") from None
    except (OSError, SafetensorError) as error:
        raise RslitError(f"{path}: cannot be read ({error}); train again with fisher: true") from None
    state = next(iter(soup.states.values()))
    for key in soup.trainable_keys:
        if key not in fisher or fisher[key].shape != state[key].shape:
            raise RslitError(f"{path}: has no Fisher of the weight '{key}'; train again with fisher: true")
    total = sum(float(fisher[key].double().sum()) for key in soup.trainable_keys)
    count = sum(fisher[key].numel() for key in soup.trainable_keys)
    if total <= 0:
        raise RslitError(f"{path}: is 0 everywhere; the expert was not trained")
    return {key: fisher[key] * (count / total) for key in soup.trainable_keys}
