"""Boxes as tensors: area, overlap, size class, and the check of a box against its image.

Notation: a box is x0, y0, x1, y1 in pixels of the original image, with x to the right, y down and x1, y1 exclusive: the
whole image is 0, 0, width, height. Boxes are (B, 4), image sizes (B, 2) as width, height. A box of NaN stands for a
model's output that was no box.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rslit.errors import RslitError

__all__ = ["areas", "checked_boxes", "clip", "iou", "size_classes"]

# Annotated boxes reach over the border by rounding; more than this many pixels is a mistake.
SLACK = 1.0


def areas(boxes: Tensor) -> Tensor:
    """Area of each box in square pixels, 0 where x1 <= x0 or y1 <= y0, NaN where a coordinate is NaN.

    Args:
        boxes: (B, 4).

    Returns:
        (B,) of the same dtype.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap of paired boxes: the area that both cover over the area that either covers.

    Args:
        first: (B, 4).
        second: (B, 4), of the same dtype.

    Returns:
        (B,) in [0, 1]; 0 where a box has no area or is not finite.
    """
    shared = torch.cat([torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])], dim=1)
    overlap = areas(shared)
    ratio = overlap / (areas(first) + areas(second) - overlap)
    finite = (first.isfinite() & second.isfinite()).all(dim=1)
    # Two boxes without area give 0 / 0; their overlap is what says so.
    return torch.where(finite & (overlap > 0), ratio, torch.zeros_like(ratio))


def clip(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Moves coordinates outside of the image onto its border; NaN stays NaN.

    Args:
        boxes: (B, 4).
        image_sizes: (B, 2).

    Returns:
        (B, 4) of the boxes' dtype.
    """
    limits = image_sizes.to(boxes).repeat(1, 2)
    return torch.minimum(boxes.clamp(min=0), limits)


def size_classes(boxes: Tensor, small_below: float, large_from: float) -> Tensor:
    """Small, medium or large by area.

    Args:
        boxes: (B, 4).
        small_below: Smaller areas are small, square pixels.
        large_from: This and larger areas are large, square pixels.

    Returns:
        int64 (B,): 0 small, 1 medium, 2 large.
    """
    area = areas(boxes)
    return (area >= small_below).long() + (area >= large_from).long()


def checked_boxes(boxes: Tensor, image_sizes: Tensor, items: Sequence[int | str] | None = None) -> Tensor:
    """Boxes that lie in their images.

    Args:
        boxes: (B, 4).
        image_sizes: (B, 2).
        items: What each box belongs to, for the message.

    Returns:
        float64 (B, 4), clipped: up to one pixel over the border is taken for rounding.

    Raises:
        RslitError: An image has no size; or a box is not finite, has x1 < x0 or y1 < y0, or reaches outside.
    """
    exact = boxes.to(torch.float64)
    inside = clip(exact, image_sizes)
    faults = {
        "the image has no size": (image_sizes < 1).any(dim=1),
        "the box is not four finite numbers": ~exact.isfinite().all(dim=1),
        "the box has x1 < x0 or y1 < y0": (exact[:, 2:] < exact[:, :2]).any(dim=1),
        "the box reaches outside of the image": ((exact - inside).abs() > SLACK).any(dim=1),
    }
    for fault, rows in faults.items():
        if rows.any():
            row = int(rows.nonzero()[0, 0])
            what = f"box {row}" if items is None else f"item {items[row]!r}"
            corners = ", ".join(f"{value:g}" for value in exact[row].tolist())
            width, height = (f"{value:g}" for value in image_sizes[row].tolist())
            raise RslitError(
                f"{what}: {fault}: box ({corners}), image {width} x {height}; "
                "give x0, y0, x1, y1 in pixels of the original image"
            )
    return inside
