"""Rewards of visual grounding: the overlap of a box with its target, and hits on targets of some sizes.

Both read the fields `box` (the predicted one, NaN where the output was no box) and `target`, float32 (B, 4), x0, y0,
x1, y1 in pixels of the original image. An output that is no box scores 0: it is wrong, not left out.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.samples import Samples
from rslit.vision.boxes import areas, iou, size_classes

__all__ = ["BoxHitReward", "IoUReward"]

Size = Literal["small", "medium", "large"]


class IoUReward:
    """Overlap of the predicted box with its target, in [0, 1]: the area that both cover over the area that either does.

    Args:
        name: Column name of its scores.
    """

    unit = "IoU"
    range = (0.0, 1.0)

    def __init__(self, name: str = "iou") -> None:
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: A field is no (B, 4), or a target has no area.
        """
        return iou(*_boxes(samples, f"IoUReward '{self.name}'"))


class BoxHitReward:
    """1 where the overlap is above a threshold and the target is of one of some sizes, else 0 (paper, Table 4).

    As a reward of training it applies to every sample, as in the paper: 0 for targets of other sizes. As a score of
    evaluation, `other_sizes: leave_out` gives NaN there, so that the mean is the accuracy on targets of these sizes:
    Acc@0.5 of small, medium or large objects, and with all three sizes the usual Acc@0.5.

    Args:
        sizes: The sizes that count, one or more of small, medium, large.
        threshold: The overlap that must be exceeded.
        small_below: Targets with less area are small, in square pixels of the original image. The defaults are the
            paper's, for photographs of about 640 x 480; small images need smaller numbers.
        large_from: Targets with this area or more are large; between the two they are medium.
        other_sizes: What targets of other sizes get: `zero`, or `leave_out` for NaN.
        name: Column name of its scores; defaults to the sizes, such as `small` or `small+medium`.

    Attributes:
        unit: Such as "accuracy at IoU > 0.5".

    Raises:
        RslitError: No size, an unknown or repeated one, a threshold outside of [0, 1), or areas that leave no room for
            medium.
    """

    range = (0.0, 1.0)

    def __init__(
        self,
        sizes: list[Size],
        threshold: float = 0.5,
        small_below: float = 30_000.0,
        large_from: float = 100_000.0,
        other_sizes: Literal["zero", "leave_out"] = "zero",
        name: str | None = None,
    ) -> None:
        known = get_args(Size)
        self.name = name or "+".join(sizes)
        label = f"BoxHitReward '{self.name}'"
        if not sizes or not set(sizes) <= set(known) or len(set(sizes)) < len(sizes):
            raise RslitError(f"{label}: sizes are {list(sizes)}; give one or more of {', '.join(known)}, each once")
        if not 0 <= threshold < 1:
            raise RslitError(f"{label}: threshold is {threshold}; overlaps lie in [0, 1], so take one in [0, 1)")
        if not 0 < small_below < large_from < math.inf:
            raise RslitError(
                f"{label}: small_below is {small_below:g} and large_from {large_from:g}; "
                "give two areas in square pixels, the smaller one first"
            )
        if other_sizes not in ("zero", "leave_out"):
            raise RslitError(f"{label}: other_sizes is {other_sizes!r}; choose zero or leave_out")
        self.unit = f"accuracy at IoU > {threshold:g}"
        self._threshold = threshold
        self._areas = (float(small_below), float(large_from))
        self._counts = torch.tensor([size in sizes for size in known])
        self._other = 0.0 if other_sizes == "zero" else math.nan

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: A field is no (B, 4), or a target has no area.
        """
        boxes, targets = _boxes(samples, f"BoxHitReward '{self.name}'")
        counts = self._counts.to(targets.device)[size_classes(targets, *self._areas)]
        hits = (iou(boxes, targets) > self._threshold).to(torch.float32)
        return torch.where(counts, hits, self._other)


def _boxes(samples: Samples, label: str) -> tuple[Tensor, Tensor]:
    """The predicted boxes and their targets, float32 (B, 4)."""
    columns = []
    for field in ("box", "target"):
        if field not in samples.fields:
            known = ", ".join(sorted(samples.fields)) or "none"
            raise RslitError(f"{label}: no field '{field}'; the samples have: {known}")
        column = torch.as_tensor(samples[field], dtype=torch.float32)
        if column.shape != (len(samples), 4):
            raise RslitError(
                f"{label}: field '{field}' has shape {tuple(column.shape)}, not ({len(samples)}, 4); "
                "give x0, y0, x1, y1 of each sample"
            )
        columns.append(column.detach())
    boxes, targets = columns
    empty = ~(targets.isfinite().all(dim=1) & (areas(targets) > 0))
    if empty.any():
        row = int(empty.nonzero()[0, 0])
        raise RslitError(
            f"{label}: the target of item {samples.items[row]!r} is {tuple(targets[row].tolist())}, which has no area; "
            "mend or leave out this item"
        )
    return boxes.to(targets.device), targets
