"""Boxes as token ids of one tokenizer: targets, what may be generated, and boxes of what was generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rslit.vision.box_codecs import BoxCodec

__all__ = ["BoxTokens"]


class BoxTokens:
    """A codec with the ids of a tokenizer, for whole batches without text in between.

    The ids come from the vocabulary, so a tokenizer that would split a location token's text does no harm, nor does one
    that drops special tokens when it decodes.

    Args:
        codec: The format of boxes.
        tokenizer: A tokenizer of transformers, or a processor that has one.

    Attributes:
        codec: As given.
        length: The exact number L of tokens of a box, without an end token.
        allowed: For each of the L tokens, in order, the int64 ids of which one must be generated for a box.

    Raises:
        RslitError: The tokenizer lacks tokens, see `BoxCodec.check_tokenizer`.
    """

    def __init__(self, codec: BoxCodec, tokenizer: Any) -> None:
        codec.check_tokenizer(tokenizer)
        self.codec = codec
        self.length = codec.length
        known = getattr(tokenizer, "tokenizer", tokenizer).get_vocab()
        self._locations = torch.tensor([known[token] for token in codec.locations])
        self._layout = torch.tensor([-1 if slot is None else known[slot] for slot in codec.layout])
        self.allowed = tuple(self._locations if slot < 0 else torch.tensor([slot]) for slot in self._layout.tolist())
        # Code of each id, -1 for ids that are no location.
        self._codes = torch.full((int(self._locations.max()) + 1,), -1)
        self._codes[self._locations] = torch.arange(len(self._locations))

    def encode(self, boxes: Tensor, image_sizes: Tensor, items: Sequence[int | str] | None = None) -> Tensor:
        """The ids of boxes.

        Args:
            boxes: (B, 4) in pixels.
            image_sizes: (B, 2) as width, height.
            items: What each box belongs to, for the message.

        Returns:
            int64 (B, L) on the CPU.

        Raises:
            RslitError: A box does not lie in its image.
        """
        codes = self.codec.codes(boxes.cpu(), image_sizes.cpu(), items)
        ids = self._layout.repeat(len(codes), 1)
        ids[:, self._layout < 0] = self._locations[codes]
        return ids

    def decode(self, ids: Tensor, image_sizes: Tensor) -> Tensor:
        """The boxes of generated ids: the first L ids in a row that make one, whatever stands around them.

        Args:
            ids: int64 (B, T), padded with anything that is no location.
            image_sizes: (B, 2) as width, height.

        Returns:
            float32 (B, 4) on the device of `ids`, NaN where there is no valid box.
        """
        layout = self._layout.to(ids.device)
        free = layout < 0
        rows = ids.new_full((len(ids), int(free.sum())), -1)
        if ids.shape[1] >= self.length:
            windows = ids.unfold(1, self.length, 1)
            codes = self._codes_of(windows)
            fits = torch.where(free, codes >= 0, windows == layout).all(dim=2)
            first = fits.int().argmax(dim=1)
            batch = torch.arange(len(ids), device=ids.device)
            found = codes[batch, first][:, free]
            rows = torch.where(fits.any(dim=1, keepdim=True), found, rows)
        return self.codec.boxes(rows, image_sizes)

    def _codes_of(self, ids: Tensor) -> Tensor:
        table = self._codes.to(ids.device)
        known = (ids >= 0) & (ids < len(table))
        return torch.where(known, table[ids.clamp(0, len(table) - 1)], -1)
