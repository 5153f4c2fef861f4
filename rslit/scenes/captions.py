"""Five captions of a scene, as five people would write them: some name two shapes, some tell where everything is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from rslit.scenes.relations import PLACES, RELATIONS, holds, is_at
from rslit.scenes.words import NUMBERS, PLACE_PHRASES, RELATION_PHRASES, a, describe, join, noun
from rslit.scenes.world import Scene, Thing

__all__ = ["caption_scene"]

Teller = Callable[[Scene, Random], str | None]

# How likely a thing is to be mentioned and its size to be told: what is large is seen first, "medium" seldom said.
_SEEN = {"large": 8, "medium": 3, "small": 1}
_SIZE_TOLD = {"large": 0.65, "medium": 0.15, "small": 0.65}


def _name(rng: Random, thing: Thing) -> str:
    size = thing.size if rng.random() < _SIZE_TOLD[thing.size] else None
    return a(describe(rng, shape=thing.shape, colour=thing.colour, size=size))


def _salient(scene: Scene, rng: Random, number: int) -> list[Thing]:
    left = list(scene.things)
    chosen: list[Thing] = []
    while left and len(chosen) < number:
        chosen.append(rng.choices(left, [_SEEN[thing.size] for thing in left])[0])
        left.remove(chosen[-1])
    return chosen


def _ground(scene: Scene) -> str:
    return f"on a {scene.background} background"


def _where(scene: Scene, rng: Random, thing: Thing) -> str | None:
    """Where a thing is, by its corner rather than by its side."""
    places = [place for place in PLACES if is_at(scene, thing, place)]
    return rng.choice(PLACE_PHRASES[max(places, key=len)]) if places else None


def _related(scene: Scene, rng: Random, things: Sequence[Thing]) -> tuple[Thing, str, Thing] | None:
    """Two of `things` and what the first is to the second; inside and next to are told before left and above."""
    found = [
        (b, relation, c)
        for relation in RELATIONS
        for b in things
        for c in things
        if b is not c and holds(scene, relation, b, c) and relation != "around"
    ]
    if not found:
        return None
    rank = {"inside": 12, "next to": 3}
    return rng.choices(found, [rank.get(relation, 2) * _SEEN[b.size] * _SEEN[c.size] for b, relation, c in found])[0]


# -- short ------------------------------------------------------------------------------------------------------------


def _pair(scene: Scene, rng: Random) -> str | None:
    b, c = _salient(scene, rng, 2)
    if (b.shape, b.colour) == (c.shape, c.colour):
        return None
    ground = f" {_ground(scene)}" if rng.random() < 0.3 else ""
    return f"{_name(rng, b)} and {_name(rng, c)}{ground}"


def _gist(scene: Scene, rng: Random) -> str:
    number = NUMBERS[len(scene.things)]
    start = rng.choice(("", "there are ", "a picture of "))
    coloured = rng.choice(("", "colored "))
    return f"{start}{number} {coloured}{noun(rng, None, plural=True)} {_ground(scene)}"


def _crowd(scene: Scene, rng: Random) -> str | None:
    shape, number = Counter(thing.shape for thing in scene.things).most_common(1)[0]
    rest = len(scene.things) - number
    if number == 1:
        return None
    colours = {thing.colour for thing in scene.things if thing.shape == shape}
    colour = colours.pop() if len(colours) == 1 else None
    crowd = f"{NUMBERS[number]} {describe(rng, shape=shape, colour=colour, plural=True)}"
    if rest == 0:
        return f"{crowd} {_ground(scene)}"
    return f"{crowd} and {NUMBERS[rest]} other {noun(rng, None, plural=rest > 1)}"


# -- of middle length -------------------------------------------------------------------------------------------------


def _relation(scene: Scene, rng: Random) -> str | None:
    related = _related(scene, rng, scene.things)
    if related is None:
        return None
    b, relation, c = related
    verb = rng.choice(("", "is ", "sits "))
    return f"{_name(rng, b)} {verb}{rng.choice(RELATION_PHRASES[relation])} {_name(rng, c)}"


def _inventory(scene: Scene, rng: Random) -> str:
    parts = []
    for shape, number in Counter(thing.shape for thing in scene.things).most_common():
        colours = {thing.colour for thing in scene.things if thing.shape == shape}
        colour = colours.pop() if len(colours) == 1 and rng.random() < 0.6 else None
        what = describe(rng, shape=shape, colour=colour, plural=number > 1)
        parts.append(f"{NUMBERS[number]} {what}" if number > 1 else a(what))
    verb = "are" if parts[0].split()[0] in NUMBERS else "is"
    start = rng.choice(("", f"there {verb} ", "an image of ", "a drawing with "))
    return start + join(parts)


def _placed(scene: Scene, rng: Random) -> str | None:
    parts = [
        f"{_name(rng, thing)} {where}"
        for thing in _salient(scene, rng, 2)
        if (where := _where(scene, rng, thing)) is not None
    ]
    return join(parts) if parts else None


def _nested(scene: Scene, rng: Random) -> str | None:
    found = [(b, c) for b in scene.things for c in scene.things if holds(scene, "inside", b, c)]
    if not found:
        return None
    b, c = rng.choice(found)
    others = [thing for thing in _salient(scene, rng, 5) if thing is not b and thing is not c]
    rest = f" and {_name(rng, others[0])}" if others and rng.random() < 0.6 else ""
    if rng.random() < 0.5:
        return f"{_name(rng, c)} with {_name(rng, b)} inside it{rest}"
    return f"{_name(rng, b)} inside {_name(rng, c)}{rest}"


# -- long -------------------------------------------------------------------------------------------------------------


def _detailed(scene: Scene, rng: Random) -> str:
    """The most salient thing, then two others by where they are to it or in the image, and the background."""
    first, *others = _salient(scene, rng, 3)
    where = _where(scene, rng, first)
    parts = [f"{_name(rng, first)} {where}" if where else _name(rng, first)]
    for other in others:
        to_first = [relation for relation in RELATIONS if relation != "around" and holds(scene, relation, other, first)]
        place = _where(scene, rng, other)
        if to_first and (place is None or rng.random() < 0.6):
            relation = "inside" if "inside" in to_first else rng.choice(to_first)
            parts.append(f"{_name(rng, other)} {rng.choice(RELATION_PHRASES[relation])} it")
        elif place is not None:
            parts.append(f"{_name(rng, other)} {place}")
        else:
            parts.append(_name(rng, other))
    text = join(parts)
    start, end = rng.choice((("", ""), ("there is ", ""), ("", f", all {_ground(scene)}"), (f"{_ground(scene)}, ", "")))
    return start + text + end


_SHORT: Sequence[Teller] = (_pair, _pair, _gist, _crowd)
_MIDDLE: Sequence[Teller] = (_relation, _relation, _inventory, _placed, _nested, _pair)


def caption_scene(scene: Scene, rng: Random) -> tuple[str, ...]:
    """Five different captions, each true: one short, one long, three between them, in any order.

    Args:
        scene: What to tell.
        rng: Where all choices come from.

    Returns:
        Sentences with a capital and a period, of about 4 to 35 words.
    """
    texts: list[str] = []
    for tellers in (_SHORT, (_detailed,), _MIDDLE, _MIDDLE, _MIDDLE):
        text = None
        while text is None or text in texts:
            text = rng.choice(tellers)(scene, rng)
        texts.append(text)
    rng.shuffle(texts)
    return tuple(f"{text[0].upper()}{text[1:]}." for text in texts)
