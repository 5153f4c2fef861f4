"""Ensembles of diffusion policies: what they predict is interpolated instead of their weights (paper, Figure 4(c))."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["ensembled"]


@contextmanager
def ensembled(
    denoiser: nn.Module, weights: Sequence[float], acting: Sequence[Callable[[], AbstractContextManager[Any]]]
) -> Iterator[None]:
    """While active a denoiser predicts Σ_n λ_n f_n(x_t), f_n being its prediction with the weights of expert n.

    Args:
        denoiser: As the pipeline calls it.
        weights: λ, N numbers; an expert with 0 is not asked.
        acting: N functions; entered, one puts its expert's weights into the denoiser.
    """
    alone: Any = denoiser.forward
    members = [(weight, turn) for weight, turn in zip(weights, acting, strict=True) if weight]

    def forward(*args: Any, **kwargs: Any) -> Any:
        mixed: Any = 0
        for weight, turn in members:
            with turn():
                found = alone(*args, **kwargs)
            mixed = mixed + weight * found[0].float()
        prediction: Tensor = mixed.to(found[0].dtype)
        if isinstance(found, tuple):
            return (prediction, *found[1:])
        found.sample = prediction
        return found

    denoiser.forward = forward
    try:
        yield
    finally:
        del denoiser.forward
