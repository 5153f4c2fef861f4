"""Token ids of texts of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["pad_right"]


def pad_right(rows: Sequence[Sequence[int]], padding: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids as a matrix.

    Args:
        rows: B lists of token ids, each of at least one.
        padding: Token to fill up with.
        device: Where the matrices go.

    Returns:
        Ids (B, T) and attention mask (B, T), both int64, T the length of the longest row.
    """
    length = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[padding] * (length - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
    return ids, mask
