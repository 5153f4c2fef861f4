"""Ten people who answer a question: most agree, some use other words, a few are wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from rslit.scenes.shapes import SHAPES
from rslit.scenes.words import NUMBERS
from rslit.scenes.world import Thing

__all__ = ["Votes", "ask_ten"]

_WRONG = 0.05
# What is taken for what.
_CONFUSED = {
    "red": ("orange", "pink"),
    "orange": ("red", "yellow"),
    "yellow": ("orange", "gold"),
    "green": ("blue", "teal"),
    "blue": ("purple", "green"),
    "purple": ("blue", "pink"),
}
_SHAPE_NEAR = {
    "circle": ("round", "disc"),
    "square": ("box",),
    "cross": ("plus sign", "plus"),
    "heart": ("love heart",),
}
_SIZE_NEAR = {"small": ("little", "tiny"), "medium": ("average", "medium sized"), "large": ("big", "huge")}
_SIDES = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class Votes:
    """What people may answer.

    Attributes:
        truth: What most say.
        near: Other words for the truth.
        wrong: What some take it for.
        near_share: The share of the answers in other words.
    """

    truth: str
    near: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    near_share: float = 0.0

    @classmethod
    def number(cls, number: int) -> Votes:
        """Of a count: in figures, seldom in a word, sometimes off by one."""
        off = tuple(str(n) for n in (number - 1, number + 1) if n >= 0)
        return cls(str(number), (NUMBERS[number] if number else "none",), off, 0.06)

    @classmethod
    def colour(cls, colour: str, others: tuple[str, ...]) -> Votes:
        """Of a colour: taken for one that is near it, or for another of those there are."""
        near = {"purple": ("violet",), "gray": ("grey", "light gray")}.get(colour, ())
        wrong = _CONFUSED.get(colour) or tuple(other for other in others if other != colour)
        return cls(colour, near, wrong, 0.15 if near else 0.0)

    @classmethod
    def shape(cls, thing: Thing) -> Votes:
        """Of what a thing is: many say its colour too."""
        colour = f"{thing.colour} {thing.shape}"
        near = (colour, colour, colour, f"{thing.size} {colour}", *_SHAPE_NEAR.get(thing.shape, ()))
        return cls(thing.shape, near, tuple(shape for shape in SHAPES if shape != thing.shape), 0.3)

    @classmethod
    def place(cls, place: str) -> Votes:
        """Of where a thing is: in one word or in a phrase, a corner sometimes by one of its sides."""
        if place == "middle":
            return cls(place, ("center", "in the middle", "in the center"), ("left", "top"), 0.35)
        first, *rest = place.split()
        if rest:
            upper = {"top": "upper", "bottom": "lower"}[first]
            near = (f"{upper} {rest[0]}", f"{place} corner", f"in the {place} corner", rest[0])
            return cls(place, near, (f"{_SIDES[first]} {rest[0]}", f"{first} {_SIDES[rest[0]]}"), 0.4)
        on = f"on the {place}" if place in ("left", "right") else f"at the {place}"
        return cls(
            place, (on, f"{place} side" if place in ("left", "right") else f"the {place}"), (_SIDES[place],), 0.35
        )

    @classmethod
    def size(cls, size: str) -> Votes:
        """Of a size: its neighbours are taken for it."""
        wrong = {"small": ("medium",), "medium": ("small", "large"), "large": ("medium",)}[size]
        return cls(size, _SIZE_NEAR[size], wrong, 0.25)


def ask_ten(votes: Votes, rng: Random) -> tuple[tuple[str, str], ...]:
    """Ten answers with the annotators' confidence; the truth is given more often than any other answer."""
    answers: list[tuple[str, str]] = []
    for _ in range(10):
        draw = rng.random()
        if draw < _WRONG and votes.wrong:
            answers.append((rng.choice(votes.wrong), rng.choice(("yes", "maybe", "no"))))
        else:
            near = votes.near and draw < _WRONG + votes.near_share
            answers.append((rng.choice(votes.near) if near else votes.truth, "maybe" if rng.random() < 0.1 else "yes"))
    while not _leads(votes.truth, answers):
        other = next(k for k, (answer, _) in enumerate(answers) if answer != votes.truth)
        answers[other] = (votes.truth, "yes")
    return tuple(answers)


def _leads(truth: str, answers: list[tuple[str, str]]) -> bool:
    given = Counter(answer for answer, _ in answers)
    own = given.pop(truth, 0)
    return own > max(given.values(), default=0)
