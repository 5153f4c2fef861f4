"""Boxes as the cells of a grid: the location tokens of Kosmos-2. Notation as in `rslit.vision.box_codecs`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.vision.box_codecs import BoxCodec

__all__ = ["KosmosBoxCodec"]


class KosmosBoxCodec(BoxCodec):
    """Kosmos-2: `<object><patch_index_0044><patch_index_0863></object>`, the first and the last cell of a grid.

    The format names cells, not coordinates. A box over two or more columns and two or more rows ends at the centres of
    its corner cells: every coordinate is within half a cell. A box within one column or one row is made of whole cells:
    every coordinate is within one cell. Boxes of the same cells cannot be told apart.

    Args:
        grid: Cells of each side; the published model has 32.

    Raises:
        RslitError: Fewer than 2 cells.
    """

    def __init__(self, grid: int = 32) -> None:
        if grid < 2:
            raise RslitError(f"KosmosBoxCodec: grid is {grid}; it must be 2 or more")
        super().__init__(
            [f"<patch_index_{cell:04d}>" for cell in range(grid**2)], ["<object>", None, None, "</object>"]
        )
        self.grid = grid

    def quantise(self, boxes: Tensor, image_sizes: Tensor) -> Tensor:
        """See the base class."""
        scaled = boxes * self.grid / image_sizes.repeat(1, 2)
        first = scaled[:, :2].floor().clamp(max=self.grid - 1)
        # A box that ends on a line of the grid does not reach into the next cell. One without width there would end
        # before it starts.
        last = torch.maximum(scaled[:, 2:].ceil() - 1, first)
        cells = torch.stack([first, last], dim=1).long()
        return cells[..., 0] + self.grid * cells[..., 1]

    def dequantise(self, codes: Tensor, image_sizes: Tensor) -> Tensor:
        """See the base class."""
        first, last = (
            torch.stack([codes[:, side] % self.grid, codes[:, side] // self.grid], dim=1).to(torch.float64)
            for side in (0, 1)
        )
        thin = (first == last).any(dim=1, keepdim=True)
        cells = torch.cat([torch.where(thin, first, first + 0.5), torch.where(thin, last + 1, last + 0.5)], dim=1)
        # Where the last cell lies one before the first, whole cells would hide it.
        backwards = (last < first).any(dim=1, keepdim=True)
        boxes = cells * image_sizes.repeat(1, 2) / self.grid
        return boxes.masked_fill(backwards, math.nan)
