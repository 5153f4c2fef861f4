"""Judges the world's English by the boxes, with rules of its own.

`plain` is what must hold of what is said; `loose` is what somebody might still call so. A true caption is plainly true;
an expression means one thing even where everything is taken loosely; "no" answers what is not even loosely so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations

from scene_phrases import PLACES, RELATIONS, Phrase, Words

from rslit.scenes import Scene, Thing


def inside(a: Thing, b: Thing) -> bool:
    return a.box[0] > b.box[0] and a.box[1] > b.box[1] and a.box[2] < b.box[2] and a.box[3] < b.box[3]


def gap(a: Thing, b: Thing) -> float:
    dx = max(a.box[0] - b.box[2], b.box[0] - a.box[2], 0)
    dy = max(a.box[1] - b.box[3], b.box[1] - a.box[3], 0)
    return float((dx**2 + dy**2) ** 0.5)


def related(scene: Scene, relation: str, a: Thing, b: Thing, *, loose: bool) -> bool:
    nested = inside(a, b) or inside(b, a)
    if relation in ("in", "around"):
        return inside(a, b) if relation == "in" else inside(b, a)
    if relation == "near":
        return loose if nested else gap(a, b) <= scene.size * (0.25 if loose else 0.1)
    if relation in ("right", "below"):
        a, b = b, a
    axis = 0 if relation in ("left", "right") else 1
    further = (a.x < b.x, a.y < b.y)[axis]
    return further if loose else further and not nested and a.box[axis + 2] <= b.box[axis]


def placed(scene: Scene, place: Sequence[str], thing: Thing, *, loose: bool) -> bool:
    x, y = thing.x / scene.size, thing.y / scene.size
    limit = 0.5 if loose else 0.36
    off = max(abs(x - 0.5), abs(y - 0.5))
    is_ = {"left": x < limit, "right": x > 1 - limit, "top": y < limit, "bottom": y > 1 - limit}
    is_["middle"] = off <= (0.2 if loose else 0.1)
    return all(is_[part] for part in place)


def meant(scene: Scene, phrase: Phrase, *, loose: bool) -> list[Thing]:
    """The things that a phrase may mean."""
    found = [thing for thing in scene.things if phrase.fits(thing)]
    found = [thing for thing in found if placed(scene, phrase.place, thing, loose=loose)]
    if phrase.relation is not None:
        relation, anchor_phrase = phrase.relation
        anchors = meant(scene, anchor_phrase, loose=loose)
        found = [a for a in found if any(a is not b and related(scene, relation, a, b, loose=loose) for b in anchors)]
    if phrase.most is not None:
        best = {"left": lambda t: -t.x, "right": lambda t: t.x, "top": lambda t: -t.y, "bottom": lambda t: t.y}
        best |= {"large": lambda t: t.area, "small": lambda t: -t.area}
        found = [max(found, key=best[phrase.most])]
    return found


def the_one(scene: Scene, phrase: Phrase) -> Thing:
    """The thing that a phrase means, plainly and even loosely."""
    loosely, plainly = (meant(scene, phrase, loose=loose) for loose in (True, False))
    assert len(loosely) == 1, (phrase, loosely)
    assert len(plainly) == 1
    assert plainly[0] is loosely[0]
    return loosely[0]


def expression(scene: Scene, text: str) -> Thing:
    """The thing that a referring expression means."""
    words = Words(text)
    phrase = words.phrase()
    assert not words.left, words.left
    return the_one(scene, phrase)


# -- captions ---------------------------------------------------------------------------------------------------------

_GROUND = re.compile(r",? ?(?:all )?on a (white|gray|black) background,? ?")
_START = re.compile(r"^(there (?:is|are)|an? (?:picture of|image of|drawing with)) ")


def caption_is_true(scene: Scene, caption: str) -> bool:
    """Whether all that a caption says holds, with a different thing for each noun phrase."""
    assert caption[0].isupper()
    assert caption.endswith(".")
    text = caption[:-1].lower()
    ground = _GROUND.search(text)
    if ground is not None and ground[1] != scene.background:
        return False
    text = _START.sub("", _GROUND.sub(" ", text).strip())
    # "with B inside it" says "B inside it" of what comes before.
    pieces = re.split(r", | and ", re.sub(r" with (.*?) inside it", r" and \1 inside it", text))
    claims: list[tuple[Phrase, tuple[str, Phrase | None] | None]] = []
    counted = 0
    for piece in pieces:
        words = Words(piece)
        phrase = words.phrase(simple=True)
        words.take({"is": True, "sits": True})
        phrase.place = words.take(dict(PLACES)) or ()  # type: ignore[assignment]
        relation = words.take(dict(RELATIONS))
        if phrase.number in (None, 1) and not phrase.other:
            to = None
            if relation is not None:
                to = (str(relation), None if words.take({"it": True}) else words.phrase(simple=True))
            claims.append((phrase, to))
        else:
            number = sum(map(phrase.fits, scene.things)) - (counted if phrase.other else 0)
            counted += number
            if phrase.number != number:
                return False
        assert not words.left, words.left
    return _some_cast(scene, claims)


def _some_cast(scene: Scene, claims: Sequence[tuple[Phrase, tuple[str, Phrase | None] | None]]) -> bool:
    def holds(cast: Sequence[Thing]) -> bool:
        for thing, (phrase, to) in zip(cast, claims, strict=True):
            if not phrase.fits(thing) or not placed(scene, phrase.place, thing, loose=False):
                return False
            if to is not None:
                others = [cast[0]] if to[1] is None else [other for other in scene.things if to[1].fits(other)]
                if not any(b is not thing and related(scene, to[0], thing, b, loose=False) for b in others):
                    return False
        return True

    return any(holds(cast) for cast in permutations(scene.things, len(claims)))


# -- questions --------------------------------------------------------------------------------------------------------


_KINDS: dict[str, object] = {
    **{"is there": "any", "do you see": "any", "is": "is", "are there more": "more", "how many": "count"},
    **{"what color is the background": "ground", "what color is": "colour", "what shape is": "shape"},
    **{"what size is": "size", "what is": "what", "where is": "where"},
}


def answer(scene: Scene, question: str) -> str:
    """The answer to a question; fails where it has none beyond dispute."""
    assert question.endswith("?")
    words = Words(question[:-1].lower())
    kind = words.take(_KINDS)
    match kind:
        case "any" | "count":
            said = words.phrase(simple=True)
            words.take({"in the picture": 1, "are there": 1, "are in the picture": 1, "can you see": 1})
            number = sum(map(said.fits, scene.things))
            reply = str(number) if kind == "count" else _yes(number > 0)
        case "more":
            first = words.phrase(simple=True)
            assert words.take({"than": True})
            difference = sum(map(first.fits, scene.things)) - sum(map(words.phrase(simple=True).fits, scene.things))
            assert difference
            reply = _yes(difference > 0)
        case "is":
            reply = _is(scene, words)
        case "ground":
            reply = scene.background
        case "what":
            relation = words.take(dict(RELATIONS))
            phrase = words.phrase() if relation is None else Phrase(relation=(str(relation), words.phrase()))
            reply = the_one(scene, phrase).shape
        case "where":
            reply = _where(scene, the_one(scene, words.phrase()))
        case _:
            thing = the_one(scene, words.phrase())
            reply = {"colour": thing.colour, "shape": thing.shape, "size": thing.size}[str(kind)]
    assert not words.left, words.left
    return reply


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _is(scene: Scene, words: Words) -> str:
    a = the_one(scene, words.phrase(simple=True))
    comparison = words.take({"bigger than": 1, "larger than": 1, "smaller than": -1})
    relation = None if comparison else str(words.take(dict(RELATIONS)))
    b = the_one(scene, words.phrase(simple=True))
    if relation is None:
        assert a.size != b.size
        return _yes((a.area - b.area) * int(str(comparison)) > 0)
    plainly, loosely = (related(scene, relation, a, b, loose=loose) for loose in (False, True))
    assert plainly == loosely
    return _yes(plainly)


def _where(scene: Scene, thing: Thing) -> str:
    x, y = thing.x / scene.size, thing.y / scene.size
    across = "left" if x < 0.36 else "right" if x > 0.64 else ""
    down = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    # A side by itself, or the middle, needs to be in the middle of the other axis.
    assert across or abs(x - 0.5) <= 0.1
    assert down or abs(y - 0.5) <= 0.1
    return f"{down} {across}".strip() or "middle"
