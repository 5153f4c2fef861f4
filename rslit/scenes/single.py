"""Scenes of one shape, for text-to-image: a small model can draw them, and what a text asks for can be checked.

What a text says is a *wish*: shape and colour always; background, size and place mostly left open, at most two of the
three told. A quarter of all wishes are held out: no caption of a training image and no training prompt tells one of
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from rslit.scenes.relations import is_at
from rslit.scenes.shapes import SHAPES, height
from rslit.scenes.words import PLACE_PHRASES, a
from rslit.scenes.world import BACKGROUNDS, COLOURS, Scene, Thing, split_of

__all__ = [
    "LARGE_FROM",
    "PARTS",
    "WIDTHS",
    "Wish",
    "captions_of",
    "is_held_out",
    "prompts",
    "sample_anywhere",
    "sample_single",
    "wishes",
]

WIDTHS = {"small": 0.44, "large": 0.69}
"""Widths by size, as shares of the image's side."""
LARGE_FROM = 0.33
"""Share of the image's area from which a box is large: within the gap."""

# A shape stands at one of a few places: a model followed 29 % of the prompts after 16 minutes of two cores
# where shapes stood anywhere, 65 % after 18 where they stand at these places.
_SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}
_PLACES = tuple(_SIDES)
_OFF = 0.22  # how far from the middle, as a share of the image's side
_CAPTIONS = 3
PARTS = ("train", "test")


@dataclass(frozen=True)
class Wish:
    """What a text tells of a picture.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `COLOURS`.
        background: One of `BACKGROUNDS`, or None where the text leaves it open, as with the two below.
        size: One of `WIDTHS`.
        place: Left, right, top, bottom or middle.
    """

    shape: str
    colour: str
    background: str | None = None
    size: str | None = None
    place: str | None = None

    @property
    def text(self) -> str:
        """In words, such as "a large red circle on a white background"."""
        words = [word for word in (self.size, self.colour, self.shape) if word is not None]
        where = [] if self.place is None else [PLACE_PHRASES[self.place][0]]
        ground = [] if self.background is None else [f"{'of' if where else 'on'} a {self.background} background"]
        return " ".join([a(" ".join(words)), *where, *ground])


def wishes() -> Iterator[Wish]:
    """All there are, in a fixed order; none that no scene fulfils."""
    for shape, colour in product(SHAPES, COLOURS):
        yield from _tell(shape, colour, tuple(BACKGROUNDS), tuple(WIDTHS), _PLACES)


def _tell(
    shape: str, colour: str, backgrounds: Sequence[str], sizes: Sequence[str], places: Sequence[str]
) -> Iterator[Wish]:
    """All ways to tell of a shape some of these."""
    for background, size, place in product((None, *backgrounds), (None, *sizes), (None, *places)):
        told = sum(extra is not None for extra in (background, size, place))
        # A large shape has no room to be off the middle.
        if told <= 2 and (size != "large" or place in (None, "middle")):
            yield Wish(shape, colour, background, size, place)


def is_held_out(wish: Wish) -> bool:
    """Whether a wish is one of the quarter that training never reads.

    The numbers of its words, summed, are a multiple of four. So every word is in both parts, and of nothing,
    background, size and both, at least two are left to say of a training scene.
    """
    numbers = [
        SHAPES.index(wish.shape),
        list(COLOURS).index(wish.colour),
        (None, *BACKGROUNDS).index(wish.background),
        (None, *WIDTHS).index(wish.size),
        (None, *_PLACES).index(wish.place),
    ]
    return sum(numbers) % 4 == 0


def prompts(part: str) -> list[str]:
    """All texts of a part, in an order that makes every beginning of the list a fair sample.

    Args:
        part: One of `PARTS`: "train", or "test" for those held out.
    """
    texts = [wish.text for wish in wishes() if is_held_out(wish) == (part == "test")]
    Random(f"prompts/{part}").shuffle(texts)
    return texts


def sample_single(seed: int, split: str, index: int, size: int = 32) -> Scene:
    """The one-shape scene with this number. There are only 648 different ones: a large world repeats them.

    As with :func:`rslit.scenes.world.sample_scene`, a hash of the scene decides on its split.

    Args:
        seed: The world's seed.
        split: "train", "val" or "test".
        index: The scene's number in its split, from 0.
        size: Width and height of the image in pixels.
    """
    rng = Random(f"{seed}/{split}/{index}/single")
    while True:
        look = _sample_look(rng)
        kind = rng.choice(list(WIDTHS))
        place = rng.choice(_PLACES) if kind == "small" else "middle"
        width = round(WIDTHS[kind] * size)
        lengths = width, height(look[0], width)
        x, y = (
            round(size * (0.5 + _OFF * side) - length / 2) for side, length in zip(_SIDES[place], lengths, strict=True)
        )
        scene = _scene(size, look, kind, (x, y), lengths)
        if split_of(scene) == split:
            return scene


def sample_anywhere(rng: Random, size: int = 32) -> Scene:
    """A scene whose shape has any width and stands anywhere: what a classifier learns from, as drawn images vary more.

    Args:
        rng: Where all choices come from.
        size: Width and height of the image in pixels.
    """
    look = _sample_look(rng)
    width = rng.randint(round(0.4 * size), round(0.8 * size))
    lengths = width, height(look[0], width)
    x, y = (rng.randint(0, size - length) for length in lengths)
    kind = "large" if math.prod(lengths) >= LARGE_FROM * size**2 else "small"
    return _scene(size, look, kind, (x, y), lengths)


def _sample_look(rng: Random) -> tuple[str, str, str]:
    """Shape, colour and background."""
    shape, colour, background = (rng.choice(list(words)) for words in (SHAPES, COLOURS, BACKGROUNDS))
    return shape, colour, background


def _scene(size: int, look: tuple[str, str, str], kind: str, at: tuple[int, int], lengths: tuple[int, int]) -> Scene:
    """The scene of one shape, of this width and height, whose box begins here."""
    shape, colour, background = look
    (x, y), (width, tall) = at, lengths
    return Scene(size, background, (Thing(shape, colour, kind, (x, y, x + width, y + tall)),))


def captions_of(scene: Scene, split: str, rng: Random) -> tuple[str, ...]:
    """Two or three different captions, each true; those of a training scene tell no wish that is held out.

    Args:
        scene: A scene of one shape.
        split: The scene's split.
        rng: Where all choices come from.
    """
    (thing,) = scene.things
    places = [place for place in _PLACES if is_at(scene, thing, place)]
    true = _tell(thing.shape, thing.colour, [scene.background], [thing.size], rng.sample(places, min(1, len(places))))
    texts = [wish.text for wish in true if split != "train" or not is_held_out(wish)]
    return tuple(rng.sample(texts, min(_CAPTIONS, len(texts))))
