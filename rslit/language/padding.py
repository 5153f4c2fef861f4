"""Batches of prompts and answers: padding on the left and on the right, positions that skip it.

Notation: B rows, P prompt tokens, R answer tokens. Padding is told by masks alone, never by a token's id: a pad token
may be the end token, too, and then would hide real ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rslit.errors import RslitError

__all__ = ["Prompts", "answer_mask", "left_pad", "positions"]


class Prompts(NamedTuple):
    """Prompts of different lengths, their last tokens in the last column.

    Attributes:
        ids: int64 (B, P).
        mask: bool (B, P), true on a prompt's own tokens.
    """

    ids: Tensor
    mask: Tensor

    def repeat(self, times: int) -> Prompts:
        """All rows, `times` times over: row m * B + b is row b."""
        return Prompts(self.ids.repeat(times, 1), self.mask.repeat(times, 1))

    def trimmed(self) -> Prompts:
        """Without the columns that are padding in every row."""
        first = int(self.mask.any(0).int().argmax())
        return Prompts(self.ids[:, first:], self.mask[:, first:])


def left_pad(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu") -> Prompts:
    """Puts prompts into one batch, padded on the left so that all answers begin in the same column.

    Raises:
        RslitError: A prompt is empty.
    """
    if not all(prompts):
        raise RslitError("a prompt has no token; leave empty rows out of the data")
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, tokens in enumerate(prompts):
        ids[row, width - len(tokens) :] = torch.tensor(tokens, dtype=torch.int64)
        mask[row, width - len(tokens) :] = True
    return Prompts(ids.to(device), mask.to(device))


def positions(mask: Tensor) -> Tensor:
    """Position of each token among its row's own tokens, int64 (B, T); padding gets a valid position, 0.

    Without them some models (GPT-2) count the padding as text.
    """
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def answer_mask(tokens: Tensor, eos_ids: Sequence[int], lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Which generated tokens count: up to the first end token, itself included, and no more than the row's length.

    Args:
        tokens: int64 (B, R).
        eos_ids: Tokens that end an answer.
        lengths: int64 (B,), largest number of tokens of each row.

    Returns:
        The mask, bool (B, R), and whether the answer ended by itself, bool (B,).
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)
    ends = torch.isin(tokens, torch.tensor(list(eos_ids), dtype=tokens.dtype, device=tokens.device))
    before = (ends.long().cumsum(1) - ends.long()) == 0  # no end token so far
    mask = before & (places < lengths.to(tokens.device).unsqueeze(1))
    return mask, (ends & mask).any(1)
