"""Language policies under FSDP2: sharded block by block while they learn, whole on every rank while they answer.

An answer takes as many passes as it has tokens, and ranks' answers differ in length: with sharded weights one rank
would wait for weights that another, which is done, no longer sends.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["gather", "scatter", "shard"]


def shard(policy: nn.Module, mesh: Any) -> None:
    """Makes each block of a policy of transformers, and all the rest together, one unit of FSDP2.

    Args:
        policy: A causal language model of transformers, under an adapter or not.
        mesh: Device mesh of the ranks that share the weights.
    """
    from torch.distributed.fsdp import fully_shard

    wrapped: Any = policy
    # Adapters hand calls on to this model, and `generate` is its own method: hooks on the adapter would be passed by.
    base = wrapped.get_base_model() if hasattr(policy, "get_base_model") else policy
    kinds = set(getattr(base, "_no_split_modules", None) or ())
    for block in [module for module in base.modules() if type(module).__name__ in kinds]:
        fully_shard(block, mesh=mesh)
    fully_shard(base, mesh=mesh)


def gather(policy: nn.Module) -> None:
    """Makes a sharded policy whole on every rank, until :func:`scatter`; a collective, unless it is whole already."""
    for part in _parts(policy):
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()


def scatter(policy: nn.Module) -> None:
    """Leaves every rank its shards alone, from pass to pass."""
    for part in _parts(policy):
        part.set_reshard_after_forward(True, recurse=False)
        part.reshard()


def _parts(policy: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in policy.modules() if isinstance(module, FSDPModule)]
