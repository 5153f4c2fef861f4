"""Questions about a scene, in VQA's kinds: yes or no, number, other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from rslit.scenes.annotators import Votes, ask_ten
from rslit.scenes.expressions import named, say, unique_queries
from rslit.scenes.queries import MOST, Query, count, find
from rslit.scenes.relations import holds, is_at
from rslit.scenes.shapes import SHAPES
from rslit.scenes.words import RELATION_PHRASES, a, describe, noun
from rslit.scenes.world import BACKGROUNDS, COLOURS, SIZES, Scene, Thing

__all__ = ["Question", "ask_about"]


@dataclass(frozen=True)
class Question:
    """A question with what ten people answered.

    Attributes:
        text: "How many stars are there?"
        answer_type: "yes/no", "number" or "other".
        answers: Ten pairs of an answer and the annotator's confidence ("yes", "maybe" or "no").
        truth: The true answer in its usual words; more annotators gave it than any other.
    """

    text: str
    answer_type: str
    answers: tuple[tuple[str, str], ...]
    truth: str


Asked = tuple[str, Votes]
Asker = Callable[[Scene, Random], Asked | None]
_RELATIVE = ("left of", "right of", "above", "below", "inside", "next to")


def _yes_no(truth: bool) -> Votes:
    return Votes("yes" if truth else "no", wrong=("no" if truth else "yes",))


def _the(scene: Scene, rng: Random, thing: Thing) -> str | None:
    """The shortest name of a thing that fits no other, with a shape in it; sometimes a longer one."""
    names = [query for query in named(thing) if query.shape and find(scene, query) is thing]
    return f"the {say(rng, rng.choice(names[:2]))}" if names else None


def _two(scene: Scene, rng: Random) -> tuple[Thing, str, Thing, str] | None:
    b, c = rng.sample(scene.things, 2)
    first, second = _the(scene, rng, b), _the(scene, rng, c)
    return None if first is None or second is None else (b, first, c, second)


# -- yes or no --------------------------------------------------------------------------------------------------------


def _is_there(scene: Scene, rng: Random) -> Asked:
    thing = rng.choice(scene.things)
    query = rng.choice([query for query in named(thing) if query.shape or query.colour])
    if rng.random() < 0.5:  # something else, near what is there
        changes = [replace(query, shape=shape) for shape in SHAPES if query.shape]
        changes += [replace(query, colour=colour) for colour in COLOURS if query.colour]
        changes += [replace(query, size=size) for size in SIZES if query.size]
        query = rng.choice([change for change in changes if not count(scene, change)] or [query])
    what = describe(rng, shape=query.shape, colour=query.colour, size=query.size)
    form = rng.choice(("Is there {}?", "Is there {} in the picture?", "Do you see {}?"))
    return form.format(a(what)), _yes_no(count(scene, query) > 0)


def _is_it_there(scene: Scene, rng: Random) -> Asked | None:
    """A relation that holds, or one that clearly does not."""
    pair = _two(scene, rng)
    if pair is None:
        return None
    b, first, c, second = pair
    wanted = rng.random() < 0.5
    relations = [relation for relation in _RELATIVE if holds(scene, relation, b, c) is wanted]
    if not relations:
        return None
    phrase = rng.choice(RELATION_PHRASES[rng.choice(relations)])
    return f"Is {first} {phrase} {second}?", _yes_no(wanted)


def _is_it_bigger(scene: Scene, rng: Random) -> Asked | None:
    pair = _two(scene, rng)
    if pair is None or pair[0].size == pair[2].size:
        return None
    b, first, c, second = pair
    word, sign = rng.choice((("bigger", 1), ("larger", 1), ("smaller", -1)))
    return f"Is {first} {word} than {second}?", _yes_no((b.area - c.area) * sign > 0)


def _are_there_more(scene: Scene, rng: Random) -> Asked | None:
    b, c = rng.choice(scene.things).shape, rng.choice(SHAPES)
    if rng.random() < 0.5:
        b, c = c, b
    more = count(scene, Query(b)) - count(scene, Query(c))
    if more == 0:
        return None
    return f"Are there more {noun(rng, b, plural=True)} than {noun(rng, c, plural=True)}?", _yes_no(more > 0)


# -- numbers ----------------------------------------------------------------------------------------------------------


def _how_many(scene: Scene, rng: Random) -> Asked:
    thing = rng.choice(scene.things)
    query = rng.choice((Query(thing.shape), Query(thing.shape), Query(colour=thing.colour), Query(rng.choice(SHAPES))))
    if rng.random() < 0.25:
        query = Query()
    number = count(scene, query)
    what = describe(rng, shape=query.shape, colour=query.colour, plural=True)
    form = rng.choice(("How many {} are there?", "How many {} are in the picture?", "How many {} can you see?"))
    return form.format(what), Votes.number(number)


# -- other ------------------------------------------------------------------------------------------------------------


def _any(scene: Scene, rng: Random, thing: Thing, *, shape: bool, colour: bool) -> str | None:
    """A phrase for a thing that tells no shape, or no colour, as one likes."""
    queries = [
        query
        for several in unique_queries(scene, thing).values()
        for query in several
        if (shape or query.shape is None) and (colour or query.colour is None)
    ]
    return say(rng, rng.choice(queries[:6])) if queries else None


def _what_colour(scene: Scene, rng: Random) -> Asked | None:
    if rng.random() < 0.15:
        return "What color is the background?", Votes.colour(scene.background, tuple(BACKGROUNDS))
    thing = rng.choice(scene.things)
    phrase = _any(scene, rng, thing, shape=True, colour=False)
    return None if phrase is None else (f"What color is the {phrase}?", Votes.colour(thing.colour, tuple(COLOURS)))


def _what_shape(scene: Scene, rng: Random) -> Asked | None:
    thing = rng.choice(scene.things)
    phrase = _any(scene, rng, thing, shape=False, colour=True)
    return None if phrase is None else (f"What shape is the {phrase}?", Votes.shape(thing))


def _what_is_there(scene: Scene, rng: Random) -> Asked | None:
    """What stands in a relation to a thing, where only one thing does."""
    anchor = rng.choice(scene.things)
    names = [query for query in named(anchor) if query.shape and find(scene, query) is anchor]
    found = [
        (relation, thing)
        for relation in _RELATIVE
        if names and (thing := find(scene, Query(relation=(relation, names[0])))) is not None
    ]
    if not found:
        return None
    relation, thing = rng.choice(found)
    return f"What is {rng.choice(RELATION_PHRASES[relation])} the {say(rng, names[0])}?", Votes.shape(thing)


def _what_is_the_most(scene: Scene, rng: Random) -> Asked | None:
    most = rng.choice(list(MOST))
    thing = find(scene, Query(most=most))
    return None if thing is None else (f"What is the {say(rng, Query(most=most))}?", Votes.shape(thing))


def _where(scene: Scene, rng: Random) -> Asked | None:
    thing = rng.choice(scene.things)
    name = _the(scene, rng, thing)
    if name is None:
        return None
    # A side alone is what one says of a thing that is halfway up, or across, the image.
    sides = [side for side in ("top", "bottom", "left", "right") if is_at(scene, thing, side)]
    levels = [abs(centre / scene.size - 0.5) <= 0.1 for centre in (thing.x, thing.y)]
    if len(sides) + sum(levels) != 2:
        return None
    place = " ".join(sides) or "middle"
    return f"Where is {name}?", Votes.place(place)


def _what_size(scene: Scene, rng: Random) -> Asked | None:
    thing = rng.choice(scene.things)
    name = next((query for query in named(thing) if query.shape and find(scene, query) is thing), None)
    if name is None or name.size is not None:
        return None
    return f"What size is the {say(rng, name)}?", Votes.size(thing.size)


_KINDS: Sequence[tuple[str, Sequence[Asker]]] = (
    ("yes/no", (_is_there, _is_it_there, _is_it_there, _is_it_bigger, _are_there_more)),
    ("number", (_how_many,)),
    ("other", (_what_colour, _what_colour, _what_shape, _what_is_there, _what_is_the_most, _where, _what_size)),
)
_PER_SCENE = {"yes/no": 2, "number": 1, "other": 3}


def ask_about(scene: Scene, rng: Random) -> tuple[Question, ...]:
    """Six different questions: two for yes or no, one for a number, three others.

    Args:
        scene: What to ask about.
        rng: Where all choices come from.
    """
    questions: dict[str, Question] = {}
    for answer_type, askers in _KINDS:
        wanted = len(questions) + _PER_SCENE[answer_type]
        while len(questions) < wanted:
            asked = rng.choice(askers)(scene, rng)
            if asked is not None and asked[0] not in questions:
                text, votes = asked
                questions[text] = Question(text, answer_type, ask_ten(votes, rng), votes.truth)
    return tuple(questions.values())
