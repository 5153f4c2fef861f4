"""Ensembles of language policies: their predictions are interpolated instead of their weights (paper, Figure 4(c))."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ensembled"]


@contextmanager
def ensembled(model: nn.Module, lams: Tensor) -> Iterator[None]:
    """While active, rows that belong together predict their ensemble, each of them.

    Rows are M ensembles of N members of B prompts: row (m * N + n) * B + b is prompt b under expert n. All members of
    an ensemble get log-probabilities Σ_n λ_mn log p_n, up to the constant that makes them a distribution; so with the
    same noise they choose the same token and stay side by side through a whole answer.

    Args:
        model: A model of transformers, or PEFT's wrapper of one.
        lams: λ (M, N), float.
    """
    wrapper: Any = model
    bare = wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper
    ensembles, members = lams.shape

    def mix(module: nn.Module, inputs: Any, output: Any) -> Any:
        logits: Tensor = output.logits
        parts: Tensor = torch.log_softmax(logits.float(), -1).view(ensembles, members, -1, *logits.shape[1:])
        mixed = torch.einsum("mn,mn...->m...", lams.to(parts), parts).unsqueeze(1).expand_as(parts)
        output.logits = mixed.reshape(logits.shape).to(logits.dtype)
        return output

    handle = bare.register_forward_hook(mix)
    try:
        yield
    finally:
        handle.remove()
