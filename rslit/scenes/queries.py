"""What a noun phrase says of a thing, and which thing of a scene it picks out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rslit.scenes.relations import Verdict, all_of, holds, is_at
from rslit.scenes.world import Scene, Thing

__all__ = ["MOST", "Query", "count", "find"]


@dataclass(frozen=True)
class Query:
    """A description; what is None is not said.

    Attributes:
        shape: "circle".
        colour: "red".
        size: "small".
        place: One of `PLACES`.
        relation: One of `RELATIONS`, and to what.
        most: One of `MOST`: which of the things that all else is true of.
    """

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    relation: tuple[str, Query] | None = None
    most: str | None = None


MOST: Mapping[str, tuple[Callable[[Thing, int], float], float]] = {
    "leftmost": (lambda thing, size: -thing.x / size, 0.08),
    "rightmost": (lambda thing, size: thing.x / size, 0.08),
    "topmost": (lambda thing, size: -thing.y / size, 0.08),
    "bottommost": (lambda thing, size: thing.y / size, 0.08),
    "largest": (lambda thing, size: thing.area**0.5 / size, 0.05),
    "smallest": (lambda thing, size: -(thing.area**0.5) / size, 0.05),
}
"""What has the most of what, in shares of the image's side, and by how much it must lead the next."""


def _fits(thing: Thing, query: Query) -> bool:
    return (
        query.shape in (None, thing.shape) and query.colour in (None, thing.colour) and query.size in (None, thing.size)
    )


def _judge(scene: Scene, query: Query, anchor: Thing | None, thing: Thing) -> Verdict:
    """Whether all but `most` is true of a thing, where the relation is one to `anchor`."""
    if not _fits(thing, query) or anchor is thing:
        return False
    verdicts: list[Verdict] = []
    if query.place is not None:
        verdicts.append(is_at(scene, thing, query.place))
    if query.relation is not None and anchor is not None:
        verdicts.append(holds(scene, query.relation[0], thing, anchor))
    return all_of(verdicts)


def find(scene: Scene, query: Query) -> Thing | None:
    """The one thing that `query` picks out beyond dispute, or None."""
    anchor = None if query.relation is None else find(scene, query.relation[1])
    if query.relation is not None and anchor is None:
        return None
    found = []
    for thing in scene.things:
        verdict = _judge(scene, query, anchor, thing)
        if verdict is None:
            return None
        if verdict:
            found.append(thing)
    if query.most is None:
        return found[0] if len(found) == 1 else None
    if len(found) < 2:  # "the leftmost star" of one star is odd
        return None
    measure, lead = MOST[query.most]
    first, second = sorted(found, key=lambda thing: measure(thing, scene.size), reverse=True)[:2]
    return first if measure(first, scene.size) - measure(second, scene.size) >= lead else None


def count(scene: Scene, query: Query) -> int:
    """How many things have the query's shape, colour and size."""
    return sum(_fits(thing, query) for thing in scene.things)
