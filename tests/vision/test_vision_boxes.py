"""Areas, overlaps, size classes and the check of boxes: by hand and by counting pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rslit.errors import RslitError
from rslit.vision.boxes import areas, checked_boxes, clip, iou, size_classes

NAN = math.nan


def test_areas_by_hand():
    boxes = torch.tensor([[0, 0, 4, 3], [1.5, 2, 2, 6], [2, 2, 2, 5], [4, 0, 1, 3], [NAN, 0, 1, 1]])
    torch.testing.assert_close(areas(boxes), torch.tensor([12, 2, 0, 0, NAN]), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overlaps_by_hand(dtype):
    pairs = [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [0, 0, 10, 5], 0.5),
        ([0, 0, 10, 10], [5, 5, 15, 15], 25 / 175),
        ([0, 0, 10, 10], [2, 2, 4, 4], 4 / 100),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0),
        ([0, 0, 10, 10], [NAN, NAN, NAN, NAN], 0.0),
        ([0, 0, 10, 10], [0, 0, NAN, 10], 0.0),
        ([0, 0, 10, 10], [0, 0, math.inf, 10], 0.0),
        ([-math.inf, 0, 10, 10], [-math.inf, 0, 10, 10], 0.0),
        ([3, 3, 3, 3], [3, 3, 3, 3], 0.0),
        ([0, 0, 10, 10], [8, 2, 4, 6], 0.0),
        ([8, 8, 2, 2], [8, 8, 2, 2], 0.0),
    ]
    first, second, expected = (torch.tensor(column, dtype=dtype) for column in zip(*pairs, strict=True))
    for values in (iou(first, second), iou(second, first)):
        assert values.dtype == dtype
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)


def test_overlaps_are_counts_of_pixels():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 24, size=(2, 300, 2, 2)), axis=2)
    boxes = corners.reshape(2, 300, 4)

    def raster(box):
        x0, y0, x1, y1 = box
        mask = np.zeros((24, 24), dtype=bool)
        mask[y0:y1, x0:x1] = True
        return mask

    expected = []
    for one, other in zip(*boxes, strict=True):
        either = (raster(one) | raster(other)).sum()
        expected.append((raster(one) & raster(other)).sum() / either if either else 0.0)
    assert sum(value > 0 for value in expected) > 100
    values = iou(*torch.tensor(boxes, dtype=torch.float64))
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(areas(torch.tensor(boxes[0])).numpy(), [raster(box).sum() for box in boxes[0]])


def test_no_boxes():
    assert iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    assert checked_boxes(torch.zeros(0, 4), torch.zeros(0, 2)).shape == (0, 4)


def test_clip():
    boxes = torch.tensor([[-3, -1, 700, 500], [1, 2, 3, 4], [NAN, -1, 10, 481]])
    expected = torch.tensor([[0, 0, 640, 480], [1, 2, 3, 4], [NAN, 0, 10, 480]])
    sizes = torch.tensor([[640, 480]] * 3)
    torch.testing.assert_close(clip(boxes, sizes), expected, rtol=0, atol=0, equal_nan=True)


def test_size_classes_at_the_papers_limits():
    """Table 4: small < 30,000 <= medium < 100,000 <= large."""
    sides = [(100, 299.9), (100, 300), (100, 999.9), (100, 1000)]
    boxes = torch.tensor([[5, 7, 5 + width, 7 + height] for width, height in sides])
    assert size_classes(boxes, 30_000, 100_000).tolist() == [0, 1, 1, 2]


def test_checked_boxes_are_clipped_by_at_most_a_pixel():
    boxes = torch.tensor([[-0.5, 0, 640.9, 480], [1, 2, 1, 3]])
    checked = checked_boxes(boxes, torch.tensor([[640, 480]] * 2))
    assert checked.tolist() == [[0, 0, 640, 480], [1, 2, 1, 3]]
    assert checked.dtype == torch.float64


@pytest.mark.parametrize(
    ("box", "size", "message"),
    [
        ([0, 0, 642, 10], [640, 480], r"reaches outside of the image: box \(0, 0, 642, 10\), image 640 x 480"),
        ([0, -2, 64, 10], [640, 480], r"reaches outside of the image: box \(0, -2, 64, 10\), image 640 x 480"),
        ([0, 0, NAN, 10], [640, 480], r"is not four finite numbers: box \(0, 0, nan, 10\)"),
        ([0, 0, math.inf, 10], [640, 480], r"is not four finite numbers: box \(0, 0, inf, 10\)"),
        ([9, 0, 3, 10], [640, 480], r"has x1 < x0 or y1 < y0: box \(9, 0, 3, 10\)"),
        ([0, 0, 0, 0], [0, 480], r"the image has no size: box \(0, 0, 0, 0\), image 0 x 480"),
    ],
)
def test_a_box_that_cannot_be(box, size, message):
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], box])
    sizes = torch.tensor([[640, 480], size])
    with pytest.raises(RslitError, match=r"item 'ref 7': the (box|image) .*; give x0, y0, x1, y1 in pixels") as error:
        checked_boxes(boxes, sizes, ["ref 6", "ref 7"])
    assert "\n" not in str(error.value)
    with pytest.raises(RslitError, match=f"box 1: .*{message}"):
        checked_boxes(boxes, sizes)
