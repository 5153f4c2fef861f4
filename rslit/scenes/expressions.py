"""Referring expressions: noun phrases that pick out one thing of a scene, as the annotators of RefCOCO write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from random import Random

from rslit.scenes.queries import MOST, Query, find
from rslit.scenes.relations import PLACES, RELATIONS, holds, is_at
from rslit.scenes.words import PLACE_PHRASES, RELATION_PHRASES, describe
from rslit.scenes.world import Scene, Thing

__all__ = ["named", "refer_to", "say", "unique_queries"]

_MOST_PHRASES = {
    "leftmost": ("{} furthest to the left", "{} on the far left"),
    "rightmost": ("{} furthest to the right", "{} on the far right"),
    "topmost": ("{} closest to the top", "{} at the very top"),
    "bottommost": ("{} closest to the bottom", "{} at the very bottom"),
}
_MOST_WORDS = {
    "leftmost": ("leftmost",),
    "rightmost": ("rightmost",),
    "topmost": ("topmost", "highest"),
    "bottommost": ("bottommost", "lowest"),
    "largest": ("largest", "biggest"),
    "smallest": ("smallest",),
}


def named(thing: Thing) -> Iterator[Query]:
    """The descriptions of a thing by shape, colour and size, the shorter ones first."""
    choices = sorted(product((False, True), repeat=3), key=sum)
    for shape, colour, size in choices:
        yield Query(thing.shape if shape else None, thing.colour if colour else None, thing.size if size else None)


@lru_cache(maxsize=16)
def unique_queries(scene: Scene, thing: Thing) -> Mapping[str, Sequence[Query]]:
    """What picks out `thing` beyond dispute, by kind: "name", "place", "most" and "relation".

    A size is only told by the kind "name", or of a thing that has no unique name.
    """
    names = list(named(thing))
    found = {"name": [query for query in names if find(scene, query) is thing]}
    short = [query for query in names if query.size is None or not found["name"]]
    places = [place for place in PLACES if is_at(scene, thing, place)]
    found["place"] = [replace(query, place=place) for place, query in product(places, short)]
    found["most"] = [replace(query, most=most) for most, query in product(MOST, short)]
    found["relation"] = []
    for other in scene.things:
        anchors = [query for query in named(other) if query.shape and find(scene, query) is other][:2]
        relations = [relation for relation in RELATIONS if other is not thing and holds(scene, relation, thing, other)]
        said = product(relations, anchors, (Query(), Query(thing.shape), Query(thing.shape, thing.colour)))
        found["relation"] += [replace(query, relation=(relation, anchor)) for relation, anchor, query in said]
    unique = {kind: [query for query in queries if find(scene, query) is thing] for kind, queries in found.items()}
    return {kind: queries for kind, queries in unique.items() if queries}


def say(rng: Random, query: Query) -> str:
    """A query as a noun phrase without article: "small red circle to the left of the square"."""
    phrase = describe(rng, shape=query.shape, colour=query.colour, size=query.size)
    if query.most is not None:
        forms = _MOST_PHRASES.get(query.most, ())
        if forms and rng.random() < 0.5:
            phrase = rng.choice(forms).format(phrase)
        else:
            phrase = f"{rng.choice(_MOST_WORDS[query.most])} {phrase}"
    if query.place is not None:
        phrase = f"{phrase} {rng.choice(PLACE_PHRASES[query.place])}"
    if query.relation is not None:
        relation, other = query.relation
        phrase = f"{phrase} {rng.choice(RELATION_PHRASES[relation])} the {say(rng, other)}"
    return phrase


def refer_to(scene: Scene, thing: Thing, rng: Random) -> tuple[str, ...]:
    """One to three expressions for one thing of a scene, of different lengths.

    Args:
        scene: What is to be seen.
        thing: What is meant.
        rng: Where all choices come from.

    Returns:
        Noun phrases in lower case without a period.
    """
    queries = unique_queries(scene, thing)
    weights = {"name": 4, "relation": 4, "place": 2, "most": 2}
    kinds = [kind for kind in weights if kind in queries]
    texts: list[str] = []
    for _ in range(rng.choices((1, 2, 3), (1, 2, 3))[0]):
        for _ in range(8):
            kind = rng.choices(kinds, [weights[kind] for kind in kinds])[0]
            article = "the " if rng.random() < 0.4 else ""
            text = article + say(rng, rng.choice(queries[kind]))
            if all(len(text.split()) != len(other.split()) for other in texts):
                texts.append(text)
                break
    return tuple(texts)
