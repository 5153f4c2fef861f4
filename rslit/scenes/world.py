"""Scenes: two to five coloured shapes on a plain background, none of which hides a part of another's outline."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from rslit.scenes.shapes import SHAPES, Box, contains, height, outline

__all__ = ["BACKGROUNDS", "COLOURS", "SIZES", "SPLITS", "Scene", "Thing", "area_limits", "sample_scene", "split_of"]

Rgb = tuple[int, int, int]

COLOURS: Mapping[str, Rgb] = {
    "red": (222, 45, 48),
    "orange": (247, 143, 30),
    "yellow": (248, 214, 48),
    "green": (46, 160, 78),
    "blue": (42, 104, 222),
    "purple": (146, 72, 188),
}
BACKGROUNDS: Mapping[str, Rgb] = {"white": (255, 255, 255), "gray": (206, 210, 216), "black": (26, 27, 32)}

SIZES: Mapping[str, tuple[float, float]] = {"large": (0.46, 0.56), "medium": (0.27, 0.34), "small": (0.14, 0.19)}
"""Widths by size, as shares of the image's side; gaps between them keep the words beyond dispute."""
_SMALL_BELOW, _LARGE_FROM = 0.05, 0.15  # shares of the image's area: in the middle of the gaps

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Thing:
    """A shape in a scene.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `COLOURS`.
        size: One of `SIZES`.
        box: Its extent.
    """

    shape: str
    colour: str
    size: str
    box: Box

    @property
    def x(self) -> float:
        """The centre's distance from the image's left side, in pixels."""
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        """The centre's distance from the image's top, in pixels."""
        return (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> int:
        """The area of the box in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Scene:
    """What is in an image.

    Attributes:
        size: Width and height in pixels.
        background: One of `BACKGROUNDS`.
        things: In the order in which they are drawn, the larger ones first.
    """

    size: int
    background: str
    things: tuple[Thing, ...]


def area_limits(size: int) -> tuple[float, float]:
    """What tells the sizes apart by the area of a box.

    Args:
        size: Width and height of the image in pixels.

    Returns:
        In square pixels: boxes below the first number are small, boxes from the second on are large.
    """
    return _SMALL_BELOW * size**2, _LARGE_FROM * size**2


def sample_scene(seed: int, split: str, index: int, size: int = 64) -> Scene:
    """The scene with this number.

    Which split a scene may be in is decided by a hash of the scene itself, so two splits share no scene, whatever the
    seeds and however many scenes there are.

    Args:
        seed: The world's seed.
        split: One of `SPLITS`.
        index: The scene's number in its split, from 0.
        size: Width and height of the image in pixels.
    """
    rng = Random(f"{seed}/{split}/{index}/scene")
    while True:
        scene = _attempt(rng, size)
        if scene is not None and split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> str:
    """The split that a scene may be in: half of all are to train on, a quarter each to validate and to test on."""
    content = repr((scene.size, scene.background, sorted((t.shape, t.colour, t.box) for t in scene.things)))
    byte = hashlib.sha256(content.encode()).digest()[0]
    return "train" if byte < 128 else "val" if byte < 192 else "test"


def _attempt(rng: Random, size: int) -> Scene | None:
    """A scene, or None where its things do not go into one image."""
    (count,) = rng.choices((2, 3, 4, 5), (4, 6, 6, 5))
    shapes = _shapes(rng, count)
    sizes = sorted(rng.choices(list(SIZES), (8, 7, 6), k=count))  # happens to be large, medium, small
    background = rng.choices(list(BACKGROUNDS), (3, 2, 2))[0]
    # Trying again keeps crowded scenes as frequent as they were meant to be.
    for _ in range(20):
        things = _layout(rng, shapes, sizes, size)
        if things is not None:
            return Scene(size, background, things)
    return None


def _layout(rng: Random, shapes: Sequence[str], sizes: Sequence[str], size: int) -> tuple[Thing, ...] | None:
    """Places for all, or None where a thing found no room or could not be told from its twin."""
    things: list[Thing] = []
    for shape, kind in zip(shapes, sizes, strict=True):
        placed = _place(rng, shape, kind, things, size)
        if placed is None:
            return None
        box, host = placed
        things.append(Thing(shape, _colour(rng, things, host), kind, box))
    return tuple(things) if _told_apart(things, size) else None


def _shapes(rng: Random, count: int) -> list[str]:
    """Mostly several of one shape: then a shape alone tells nobody which is meant."""
    if rng.random() < 0.4:
        return rng.choices(SHAPES, k=count)
    crowd, *others = rng.sample(SHAPES, len(SHAPES))
    members = rng.randint(2, max(2, count - 1))
    shapes = [crowd] * members + rng.choices(others, k=count - members)
    rng.shuffle(shapes)
    return shapes


def _colour(rng: Random, things: Sequence[Thing], host: Thing | None) -> str:
    used = [thing.colour for thing in things]
    chosen = rng.choice(used) if used and rng.random() < 0.2 else rng.choice(list(COLOURS))
    while host is not None and chosen == host.colour:
        chosen = rng.choice(list(COLOURS))
    return chosen


def _place(rng: Random, shape: str, kind: str, things: Sequence[Thing], size: int) -> tuple[Box, Thing | None] | None:
    """A box with a gap to all others, or inside a larger thing, which then comes second."""
    low, high = (round(share * size) for share in SIZES[kind])
    width = rng.randint(low, high)
    tall = height(shape, width)
    gap = max(2, round(0.03 * size))
    hosts = [thing for thing in things if thing.size != kind and not any(_holds(thing, t) for t in things)]
    if hosts and rng.random() < 0.3:
        host = rng.choice(hosts)
        for _ in range(12):
            x, y = round(rng.gauss(host.x, gap) - width / 2), round(rng.gauss(host.y, gap) - tall / 2)
            if _fits((x, y, x + width, y + tall), host, gap):
                return (x, y, x + width, y + tall), host
    for _ in range(12):
        x, y = rng.randint(gap - 1, size - gap + 1 - width), rng.randint(gap - 1, size - gap + 1 - tall)
        box = (x, y, x + width, y + tall)
        if all(_apart(box, thing.box, gap) for thing in things):
            return box, None
    return None


def _holds(host: Thing, thing: Thing) -> bool:
    a, b = host.box, thing.box
    return host is not thing and a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3]


def _fits(box: Box, host: Thing, gap: int) -> bool:
    """Whether a box, widened by `gap`, lies inside the outline of the host."""
    around = outline(host.shape, host.box)
    x0, y0, x1, y1 = box[0] - gap, box[1] - gap, box[2] + gap, box[3] + gap
    # The notch of a heart could reach between two corners, hence the middles of the sides.
    xs, ys = (x0, (x0 + x1) / 2, x1), (y0, (y0 + y1) / 2, y1)
    return all(contains(around, x, y) for x in xs for y in ys)


def _apart(a: Box, b: Box, gap: int) -> bool:
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


def _told_apart(things: Sequence[Thing], size: int) -> bool:
    """No three of one kind, and two of one kind only where one is clearly further left or further up."""
    if max(Counter((t.shape, t.colour, t.size) for t in things).values()) > 2:
        return False
    return all(
        max(abs(a.x - b.x), abs(a.y - b.y)) >= 0.2 * size
        for a, b in combinations(things, 2)
        if (a.shape, a.colour, a.size) == (b.shape, b.colour, b.size)
    )
