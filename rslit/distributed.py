"""The few collectives we need: each is a no-op in a single process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rslit.errors import RslitError

__all__ = ["full_tensor", "gather_states", "mean_over_ranks", "own_state", "sum_over_ranks", "world_size"]


def world_size() -> int:
    """Number of processes; 1 where nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_states(state: Any) -> list[Any]:
    """Every rank's state, in rank order, on every rank. All ranks must call it.

    Args:
        state: Tensors and primitives. They travel pickled between the ranks of one run, never through a file.
    """
    if world_size() == 1:
        return [state]
    states: list[Any] = [None] * world_size()
    dist.all_gather_object(states, state)
    return states


def own_state(states: list[Any], what: str) -> Any:
    """This rank's part of what :func:`gather_states` gave when a checkpoint was written.

    Raises:
        RslitError: The checkpoint was written by another number of processes.
    """
    if len(states) != world_size():
        raise RslitError(
            f"the checkpoint's {what} comes from {len(states)} processes and this run has {world_size()}: "
            f"resume with {len(states)} devices"
        )
    return states[dist.get_rank() if len(states) > 1 else 0]


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over ranks, on every rank; `values` is left alone."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean over ranks, on every rank; `values` is left alone."""
    return sum_over_ranks(values) / world_size()


def full_tensor(value: Tensor) -> Tensor:
    """The whole of a tensor that FSDP2 shards, a collective; any other tensor as it is. Detached."""
    detached = value.detach()
    if hasattr(detached, "full_tensor"):
        whole: Tensor = detached.full_tensor()
        return whole
    return detached if isinstance(detached, Tensor) else torch.as_tensor(detached)
