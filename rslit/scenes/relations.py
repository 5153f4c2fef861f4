"""Where things are: by themselves and to one another, in three values.

True and False are beyond dispute; None is what people would argue about. What is said of a scene is True, a question
whose answer is "no" is about something False, and an expression that singles a thing out is True of it and False of
all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from rslit.scenes.shapes import Box
from rslit.scenes.world import Scene, Thing

__all__ = ["PLACES", "RELATIONS", "Verdict", "all_of", "holds", "is_at"]

Verdict = bool | None

RELATIONS = ("left of", "right of", "above", "below", "inside", "around", "next to")
PLACES = ("left", "right", "top", "bottom", "top left", "top right", "bottom left", "bottom right", "middle")


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """False if one is, else None if one is, else True."""
    doubt = False
    for verdict in verdicts:
        if verdict is False:
            return False
        doubt |= verdict is None
    return None if doubt else True


def _within(inner: Box, outer: Box) -> bool:
    # Boxes of things that are not one inside the other are apart, so boxes tell it all.
    return outer[0] < inner[0] and outer[1] < inner[1] and inner[2] < outer[2] and inner[3] < outer[3]


def _before(a: Thing, b: Thing, axis: int) -> Verdict:
    """Whether `a` comes before `b` on an axis (0: to the left of it, 1: above it)."""
    step = (b.x - a.x, b.y - a.y)
    if _within(a.box, b.box) or _within(b.box, a.box):
        return None
    if step[axis] <= 0:
        return False
    return True if a.box[axis + 2] <= b.box[axis] and abs(step[1 - axis]) <= step[axis] else None


def _near(a: Thing, b: Thing, size: int) -> Verdict:
    if _within(a.box, b.box) or _within(b.box, a.box):
        return None
    between = [max(a.box[k] - b.box[k + 2], b.box[k] - a.box[k + 2], 0) for k in (0, 1)]
    gap = math.hypot(*between) / size
    return True if gap <= 0.1 else False if gap > 0.25 else None


def holds(scene: Scene, relation: str, a: Thing, b: Thing) -> Verdict:
    """Whether `a` stands in one of `RELATIONS` to `b`."""
    match relation:
        case "left of":
            return _before(a, b, 0)
        case "right of":
            return _before(b, a, 0)
        case "above":
            return _before(a, b, 1)
        case "below":
            return _before(b, a, 1)
        case "inside":
            return _within(a.box, b.box)
        case "around":
            return _within(b.box, a.box)
        case "next to":
            return _near(a, b, scene.size)
    raise ValueError(relation)


def _low(share: float) -> Verdict:
    return True if share < 0.36 else False if share >= 0.5 else None


def is_at(scene: Scene, thing: Thing, place: str) -> Verdict:
    """Whether a thing is at one of `PLACES`, judged by its centre."""
    x, y = thing.x / scene.size, thing.y / scene.size
    if place == "middle":
        off = max(abs(x - 0.5), abs(y - 0.5))
        return True if off <= 0.1 else False if off > 0.2 else None
    sides = {"left": _low(x), "right": _low(1 - x), "top": _low(y), "bottom": _low(1 - y)}
    return all_of(sides[side] for side in place.split())
