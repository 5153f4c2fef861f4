"""Which modules hold a soup right now: their weights, or what they compute, are then not those being trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import nn

from rslit.errors import RslitError

__all__ = ["is_poured", "pouring"]

_POURED: WeakSet[nn.Module] = WeakSet()


def is_poured(module: nn.Module) -> bool:
    """Whether `module`, a part of it or a whole it is part of holds a soup right now.

    That is so inside `Soup.at` and `LoraStack.per_sample`: whoever saves checkpoints should refuse.
    """
    own = set(module.modules())
    return any(not own.isdisjoint(poured.modules()) for poured in _POURED)


@contextmanager
def pouring(module: nn.Module) -> Iterator[None]:
    """Mark `module` as holding a soup for the length of a `with` block.

    Raises:
        RslitError: It, or a part of it, is marked already.
    """
    if is_poured(module):
        raise RslitError(f"{type(module).__name__} already holds a soup; leave the other one's `with` block first")
    _POURED.add(module)
    try:
        yield
    finally:
        _POURED.discard(module)
