"""English for what is in a scene, with more than one word for most things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

__all__ = ["NUMBERS", "PLACE_PHRASES", "RELATION_PHRASES", "a", "colour_word", "describe", "join", "noun", "size_word"]

_Choice = tuple[str, int]

# Singular, plural and how often.
_NOUNS: Mapping[str, Sequence[tuple[str, str, int]]] = {
    "circle": (("circle", "circles", 6), ("disc", "discs", 1), ("round shape", "round shapes", 1)),
    "square": (("square", "squares", 6), ("box", "boxes", 1)),
    "triangle": (("triangle", "triangles", 1),),
    "star": (("star", "stars", 1),),
    "heart": (("heart", "hearts", 1),),
    "cross": (("cross", "crosses", 5), ("plus sign", "plus signs", 1)),
    "thing": (("shape", "shapes", 3), ("object", "objects", 1)),
}
_SIZE_WORDS: Mapping[str, Sequence[_Choice]] = {
    "small": (("small", 5), ("little", 3), ("tiny", 1)),
    "medium": (("medium", 2), ("medium sized", 1)),
    "large": (("large", 4), ("big", 4), ("huge", 1)),
}
_COLOUR_WORDS: Mapping[str, Sequence[_Choice]] = {"purple": (("purple", 5), ("violet", 1))}

RELATION_PHRASES: Mapping[str, Sequence[str]] = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below", "under"),
    "inside": ("inside", "in"),
    "around": ("around",),
    "next to": ("next to", "beside", "near"),
}
PLACE_PHRASES: Mapping[str, Sequence[str]] = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "top left": ("in the top left corner", "in the upper left", "at the top left"),
    "top right": ("in the top right corner", "in the upper right", "at the top right"),
    "bottom left": ("in the bottom left corner", "in the lower left", "at the bottom left"),
    "bottom right": ("in the bottom right corner", "in the lower right", "at the bottom right"),
    "middle": ("in the middle", "in the center"),
}
NUMBERS = ("no", "one", "two", "three", "four", "five")


def _pick(rng: Random, choices: Sequence[_Choice]) -> str:
    return rng.choices([word for word, _ in choices], [weight for _, weight in choices])[0]


def size_word(rng: Random, size: str) -> str:
    """A word for a size."""
    return _pick(rng, _SIZE_WORDS[size])


def colour_word(rng: Random, colour: str) -> str:
    """A word for a colour."""
    return _pick(rng, _COLOUR_WORDS.get(colour, ((colour, 1),)))


def noun(rng: Random, shape: str | None, plural: bool = False) -> str:
    """A noun for a shape, or for any shape where it is None."""
    words = _NOUNS[shape or "thing"]
    single, several, _ = rng.choices(words, [weight for *_, weight in words])[0]
    return several if plural else single


def describe(
    rng: Random, *, shape: str | None = None, colour: str | None = None, size: str | None = None, plural: bool = False
) -> str:
    """Adjectives and a noun: "small red circle"."""
    parts = [size and size_word(rng, size), colour and colour_word(rng, colour), noun(rng, shape, plural)]
    return " ".join(part for part in parts if part)


def a(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def join(phrases: Sequence[str]) -> str:
    """Phrases as a list in a sentence: "a, b and c"."""
    *most, last = phrases
    return f"{', '.join(most)} and {last}" if most else last
