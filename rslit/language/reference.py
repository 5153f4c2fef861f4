"""The frozen policy that training started from, which the KL penalty measures the distance to.

A fresh adapter does nothing yet, so the reference is the same model with its adapter off: no second model in memory.
An adapter that is continued leaves a frozen copy of its factors; full fine-tuning, a frozen copy of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rslit.soup.lora import LoraStack

__all__ = ["Reference"]


class Reference:
    """Takes the reference from a policy as it is now. It is no module: no checkpoint, no DDP bucket sees it."""

    def __init__(self, model: nn.Module, adapter: Mapping[str, Any] | None) -> None:
        """Remembers what is needed.

        Args:
            model: The policy before training.
            adapter: PEFT's adapter configuration; None when all weights are trained.
        """
        self._copy: nn.Module | None = None
        self._stack: LoraStack | None = None
        self._factors: dict[str, Tensor] = {}
        self._adapter = adapter
        if adapter is None:
            self._copy = copy.deepcopy(model).requires_grad_(False).eval()
            return
        factors = {k: p.detach().clone() for k, p in model.named_parameters() if p.requires_grad}
        if any(bool(p.any()) for k, p in factors.items() if ".lora_B." in k):
            self._factors = factors

    def to(self, device: torch.device) -> None:
        """Brings what is remembered to the policy's device."""
        if self._copy is not None:
            self._copy.to(device)
        if self._factors:
            assert self._adapter is not None
            states = {"reference": {k: v.to(device) for k, v in self._factors.items()}}
            self._stack = LoraStack(states, {"reference": self._adapter}, "factors")

    @contextmanager
    def active(self, model: nn.Module) -> Iterator[nn.Module]:
        """The reference as a model, for the length of a ``with`` block; `model` itself wherever that will do."""
        if self._copy is not None:
            yield self._copy
            return
        if not self._factors:
            switchable: Any = model
            with switchable.disable_adapter():
                yield model
            return
        if self._stack is None:
            self.to(next(iter(model.parameters())).device)
        assert self._stack is not None
        with self._stack.per_sample(model, torch.ones(1, 1)):
            yield model
