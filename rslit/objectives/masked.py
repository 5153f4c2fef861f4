"""Means over the steps that count, and the shape checks that keep broadcasting from hiding a mistake.

Notation: B trajectories, T steps. Tensors are (B, T), or (B,) where a minibatch holds single steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rslit.errors import RslitError

__all__ = ["check_same_shape", "masked_mean", "masked_values"]


def check_same_shape(function: str, **tensors: Tensor | None) -> None:
    """Refuses tensors of different shapes.

    (B,) against (B, 1) broadcasts to (B, B) without a word and trains on nonsense, so no objective broadcasts.

    Args:
        function: Name of the function whose arguments these are, for the message.
        **tensors: The arguments by name; None is skipped.

    Raises:
        RslitError: Two shapes differ.
    """
    given = [(name, tuple(tensor.shape)) for name, tensor in tensors.items() if tensor is not None]
    if any(shape != given[0][1] for _, shape in given):
        shapes = ", ".join(f"{name} {shape}" for name, shape in given)
        raise RslitError(f"{function}: all tensors must have one shape, got {shapes}; reshape them to match")


def masked_values(x: Tensor, mask: Tensor | None, fill: float = 0.0) -> Tensor:
    """`x` where the mask is true and `fill` elsewhere, with a zero gradient there.

    A product with the mask would keep the NaN of -inf log-probabilities on padding; a selection drops it.

    Args:
        x: Any shape.
        mask: Same shape, bool or 0/1; None keeps everything.
        fill: The value of positions that do not count.

    Returns:
        Same shape and dtype as `x`.
    """
    return x if mask is None else torch.where(mask.bool(), x, torch.full_like(x, fill))


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of `x` over the true positions of the mask.

    An empty mask gives 0, still attached to the graph: a rank whose shard holds no counted step then takes part in
    DDP's gradient reduction instead of dividing by zero or leaving the others waiting.

    Args:
        x: Any shape.
        mask: Same shape, bool or 0/1; None counts everything.

    Returns:
        Scalar of the dtype of `x`.
    """
    if mask is None:
        return x.sum() / max(x.numel(), 1)
    return masked_values(x, mask).sum() / mask.bool().sum().clamp(min=1)
