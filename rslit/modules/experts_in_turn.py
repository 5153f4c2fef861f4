"""Ensembles of predictions need every expert at every step: one policy takes their weights in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rslit.soup import LoraStack, Soup

__all__ = ["Turn", "experts_in_turn"]

Turn = Callable[[], AbstractContextManager[Any]]
"""Entered, it puts one expert's weights into the policy; they stay until the next one's turn."""


@contextmanager
def experts_in_turn(policy: nn.Module, soup: Soup, device: torch.device | str) -> Iterator[list[Turn]]:
    """Gives a turn for each expert, in the soup's order; the policy has its own weights back in the end.

    Whole experts are poured in, a copy of the trained weights each time; of LoRA experts no weight is merged.

    Args:
        policy: Whose weights are changed.
        soup: The experts.
        device: Where LoRA experts are held.

    Yields:
        The turns. They do not nest.
    """
    alone = [{name: float(name == own) for name in soup.names} for own in soup.names]
    if soup.adapters:
        stack = LoraStack(soup.states, soup.adapters, soup.space, device=device)
        yield [partial(stack.per_sample, policy, stack.coefficients([lam])) for lam in alone]
        return
    with soup.at(alone[0], policy):
        live = {**dict(policy.named_parameters()), **dict(policy.named_buffers())}
        yield [partial(_poured, soup, lam, live) for lam in alone]


def _poured(soup: Soup, lam: Mapping[str, float], live: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    soup.pour(lam, live)
    return nullcontext()
