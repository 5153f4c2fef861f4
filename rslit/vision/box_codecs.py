"""Boxes as location tokens: the formats of Florence-2, PaliGemma, Kosmos-2 and OFA behind one interface.

Notation: boxes and image sizes as in `rslit.vision.boxes`; a code is the index of a location token; L generated tokens
make a box, K of them are location tokens.

| codec | a box | code of a coordinate c of a side of s pixels, n bins | coordinate of a code k | error at most |
|---|---|---|---|---|
| Florence | 4 tokens `<loc_k>`: x0 y0 x1 y1 | floor(c n / s), at most n - 1 | (k + 1/2) s / n | half a bin, s / 2n |
| PaliGemma | 4 tokens `<loc0000>`: y0 x0 y1 x1 | round(c (n - 1) / s) | k s / (n - 1) | half a step, s / 2(n - 1) |
| OFA | 4 tokens `<bin_k>`: x0 y0 x1 y1 | round(c (n - 1) / s) | k s / (n - 1) | half a step, s / 2(n - 1) |
| Kosmos | `<object>`, first and last cell, `</object>` | the cell | see `kosmos_codec` | half a cell, or one |
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.vision.boxes import checked_boxes

__all__ = ["BoxCodec", "FlorenceBoxCodec", "OfaBoxCodec", "PaliGemmaBoxCodec"]


class BoxCodec(ABC):
    """Boxes to text and back. A base class rather than a protocol, so that YAML can name a subclass of yours.

    Args:
        locations: The location tokens by code; they differ in their number alone.
        layout: The L generated tokens in order: a fixed one by its text, None for a location.

    Attributes:
        locations: As given.
        layout: As given.
    """

    def __init__(self, locations: Sequence[str], layout: Sequence[str | None]) -> None:
        self.locations = tuple(locations)
        self.layout = tuple(layout)
        self._codes = {token: code for code, token in enumerate(self.locations)}
        location = "(" + re.sub("[0-9]+", "[0-9]+", re.escape(self.locations[0])) + ")"
        # Some tokenizers decode tokens with spaces between them.
        self._pattern = re.compile(r"\s*".join(location if slot is None else re.escape(slot) for slot in self.layout))

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every special token that a tokenizer needs."""
        return (*dict.fromkeys(slot for slot in self.layout if slot is not None), *self.locations)

    @property
    def length(self) -> int:
        """The exact number L of generated tokens of a box, without an end token."""
        return len(self.layout)

    @abstractmethod
    def quantise(self, boxes: Tensor, image_sizes: Tensor) -> Tensor:
        """Codes of boxes that are known to lie in their images.

        Args:
            boxes: float64 (B, 4).
            image_sizes: float64 (B, 2).

        Returns:
            int64 (B, K).
        """

    @abstractmethod
    def dequantise(self, codes: Tensor, image_sizes: Tensor) -> Tensor:
        """Boxes of codes that are known to be in range.

        Args:
            codes: int64 (B, K).
            image_sizes: float64 (B, 2).

        Returns:
            float64 (B, 4); a box may have x1 < x0.
        """

    def codes(self, boxes: Tensor, image_sizes: Tensor, items: Sequence[int | str] | None = None) -> Tensor:
        """Codes of boxes.

        Args:
            boxes: (B, 4).
            image_sizes: (B, 2).
            items: What each box belongs to, for the message.

        Returns:
            int64 (B, K).

        Raises:
            RslitError: A box does not lie in its image, see `rslit.vision.boxes.checked_boxes`.
        """
        return self.quantise(checked_boxes(boxes, image_sizes, items), image_sizes.to(torch.float64))

    def boxes(self, codes: Tensor, image_sizes: Tensor) -> Tensor:
        """Boxes of codes.

        Args:
            codes: int64 (B, K), -1 for what is no location.
            image_sizes: (B, 2).

        Returns:
            float32 (B, 4), NaN where a code is out of range, or x1 < x0 or y1 < y0.
        """
        known = ((codes >= 0) & (codes < len(self.locations))).all(dim=1)
        boxes = self.dequantise(codes.clamp(0, len(self.locations) - 1), image_sizes.to(codes.device, torch.float64))
        valid = known & (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
        return boxes.masked_fill(~valid.unsqueeze(1), math.nan).to(torch.float32)

    def encode(self, box: Sequence[float], image_size: Sequence[int], item: int | str | None = None) -> str:
        """The text of a box.

        Args:
            box: x0, y0, x1, y1 in pixels.
            image_size: Width and height.
            item: What the box belongs to, for the message.

        Raises:
            RslitError: The box does not lie in the image.
        """
        items = None if item is None else [item]
        codes = self.codes(torch.tensor([box], dtype=torch.float64), torch.tensor([image_size]), items)
        locations = iter(self.locations[code] for code in codes[0].tolist())
        return "".join(next(locations) if slot is None else slot for slot in self.layout)

    def decode(self, text: str, image_size: Sequence[int]) -> Tensor:
        """The box in a text: the first place with all L tokens in a row; what stands around it does not matter.

        Args:
            text: Any text, with the special tokens in it.
            image_size: Width and height.

        Returns:
            float32 (4,), NaN where there is no such place or its tokens are no box.
        """
        return self.decode_batch([text], torch.tensor([image_size]))[0]

    def decode_batch(self, texts: Sequence[str], image_sizes: Tensor) -> Tensor:
        """`decode` of B texts.

        Args:
            texts: B texts.
            image_sizes: (B, 2).

        Returns:
            float32 (B, 4), NaN where a text has no valid box.
        """
        none = (-1,) * self.layout.count(None)
        matches = [self._pattern.search(text) for text in texts]
        codes = [
            none if match is None else [self._codes.get(token, -1) for token in match.groups()] for match in matches
        ]
        return self.boxes(torch.tensor(codes, dtype=torch.int64).reshape(len(texts), len(none)), image_sizes)

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Refuses a model without location tokens.

        Args:
            tokenizer: A tokenizer of transformers, or a processor that has one.

        Raises:
            RslitError: It lacks some of `tokens`.
        """
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        known = tokenizer.get_vocab()
        missing = [token for token in self.tokens if token not in known]
        if missing:
            path = getattr(tokenizer, "name_or_path", "") or "this model"
            raise RslitError(
                f"{type(self).__name__}: the tokenizer of {path} has no token '{missing[0]}' "
                f"({len(missing)} of {len(self.tokens)} tokens for boxes are missing); "
                "choose a model and a codec that go together, and as many bins as the model has"
            )


class _FourBins(BoxCodec):
    """One location token per coordinate.

    Args:
        token: Format of the location tokens.
        bins: Number n of bins of each side.
        order: Which coordinate comes first, second, third, fourth.
    """

    def __init__(self, token: str, bins: int, order: Sequence[int] = (0, 1, 2, 3)) -> None:
        if bins < 2:
            raise RslitError(f"{type(self).__name__}: bins is {bins}; it must be 2 or more")
        super().__init__([token.format(code) for code in range(bins)], [None] * 4)
        self.bins = bins
        self._order = list(order)

    def quantise(self, boxes: Tensor, image_sizes: Tensor) -> Tensor:
        """See the base class."""
        return self._bin(boxes, image_sizes.repeat(1, 2))[:, self._order].long()

    def dequantise(self, codes: Tensor, image_sizes: Tensor) -> Tensor:
        """See the base class."""
        # Each order is its own inverse: y0 x0 y1 x1 of y0 x0 y1 x1 is x0 y0 x1 y1.
        return self._coordinate(codes[:, self._order].to(torch.float64), image_sizes.repeat(1, 2))

    # Codes are the nearest of n points from border to border; Florence-2's are others.
    def _bin(self, boxes: Tensor, sides: Tensor) -> Tensor:
        return (boxes * (self.bins - 1) / sides).round()

    def _coordinate(self, codes: Tensor, sides: Tensor) -> Tensor:
        return codes * sides / (self.bins - 1)


class FlorenceBoxCodec(_FourBins):
    """Florence-2: `<loc_k>` four times, as transformers' processor quantises, but without its rounding to whole pixels.

    The model puts the phrase before the box (`a red circle<loc_52><loc_332><loc_932><loc_774>`), which `decode` skips;
    of several boxes the first counts.

    Args:
        bins: Number of location tokens; the published models have 1000.

    Raises:
        RslitError: Fewer than 2 bins.
    """

    def __init__(self, bins: int = 1000) -> None:
        super().__init__("<loc_{}>", bins)

    def _bin(self, boxes: Tensor, sides: Tensor) -> Tensor:
        return (boxes * self.bins / sides).floor().clamp(max=self.bins - 1)

    def _coordinate(self, codes: Tensor, sides: Tensor) -> Tensor:
        return (codes + 0.5) * sides / self.bins


class PaliGemmaBoxCodec(_FourBins):
    """PaliGemma: `<loc0000>` four times in the order y0, x0, y1, x1, rounded as in big_vision's RefCOCO transfer.

    Args:
        bins: Number of location tokens; the published models have 1024.

    Raises:
        RslitError: Fewer than 2 bins.
    """

    def __init__(self, bins: int = 1024) -> None:
        super().__init__("<loc{:04d}>", bins, order=(1, 0, 3, 2))


class OfaBoxCodec(_FourBins):
    """OFA and UnIVAL: `<bin_k>` four times.

    Args:
        bins: Number of location tokens; the published models have 1000.

    Raises:
        RslitError: Fewer than 2 bins.
    """

    def __init__(self, bins: int = 1000) -> None:
        super().__init__("<bin_{}>", bins)
