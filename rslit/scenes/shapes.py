"""Outlines of the shapes: what is drawn, what COCO calls a segmentation, and what another shape must fit into."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

__all__ = ["SHAPES", "Box", "Outline", "area", "contains", "height", "outline"]

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are the first beyond."""
Outline = tuple[tuple[float, float], ...]
"""Corners of a polygon, x and y in pixels."""


def _circle() -> Outline:
    return tuple((math.sin(k * math.pi / 32), -math.cos(k * math.pi / 32)) for k in range(64))


def _star() -> Outline:
    turns = [k * math.pi / 5 for k in range(10)]
    # The inner radius of a pentagram is 0.38; plumper arms are still seen in a star of ten pixels.
    radii = [0.48 if k % 2 else 1.0 for k in range(10)]
    return tuple((r * math.sin(t), -r * math.cos(t)) for r, t in zip(radii, turns, strict=True))


def _heart() -> Outline:
    def at(t: float) -> tuple[float, float]:
        up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        return 16 * math.sin(t) ** 3, -up

    return tuple(at(k * math.pi / 32) for k in range(64))


def _cross() -> Outline:
    a, b = 1 / 3, 2 / 3
    return (a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)


_MAKE: Mapping[str, Callable[[], Outline]] = {
    "circle": _circle,
    "square": lambda: ((0, 0), (1, 0), (1, 1), (0, 1)),
    "triangle": lambda: ((0.5, 0), (1, math.sqrt(0.75)), (0, math.sqrt(0.75))),
    "star": _star,
    "heart": _heart,
    "cross": _cross,
}

SHAPES = tuple(_MAKE)
"""The names, in the order of their COCO category ids (from 1)."""


@cache
def _unit(shape: str) -> tuple[Outline, float]:
    """The outline stretched to the unit square, and the height of the shape whose width is 1."""
    points = _MAKE[shape]()
    (left, right), (top, bottom) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    width, tall = right - left, bottom - top
    return tuple(((x - left) / width, (y - top) / tall) for x, y in points), tall / width


def height(shape: str, width: int) -> int:
    """The height in whole pixels of a shape that is `width` pixels wide."""
    return round(width * _unit(shape)[1])


@lru_cache(maxsize=4096)
def outline(shape: str, box: Box) -> Outline:
    """The polygon of a shape that fills `box` and touches its four sides."""
    x0, y0, x1, y1 = box
    return tuple((x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in _unit(shape)[0])


def area(polygon: Outline) -> float:
    """The area of a polygon in square pixels."""
    following = (*polygon[1:], polygon[0])
    return abs(sum(x * b - a * y for (x, y), (a, b) in zip(polygon, following, strict=True))) / 2


def contains(polygon: Outline, x: float, y: float) -> bool:
    """Whether a point lies in a polygon: a ray from it to the right crosses an odd number of edges."""
    inside = False
    for (ax, ay), (bx, by) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            inside = not inside
    return inside
