"""Captions and references for the tests of the caption rewards, and pycocoevalcap's scores of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rslit.samples import Samples

PEOPLE = ["man", "woman", "boy", "girl", "child", "person", "people", "kids"]
THINGS = [
    "dog",
    "dogs",
    "cat",
    "surfboard",
    "wave",
    "table",
    "pizza",
    "train",
    "bus",
    "kite",
    "photo",
    "picture",
    "car",
]
VERBS = ["riding", "rides", "holding", "held", "sitting", "sits", "standing", "eating", "near"]


def caption(rng: random.Random) -> str:
    words = ["a", rng.choice(PEOPLE), rng.choice(VERBS), rng.choice(["a", "the", "some"]), rng.choice(THINGS)]
    if rng.random() < 0.5:
        words += ["and", "the", rng.choice(THINGS), *rng.choices(VERBS + THINGS, k=rng.randrange(4))]
    return " ".join(words)


def random_pairs(seed: int, size: int = 60) -> tuple[list[str], list[list[str]]]:
    """Captions with one to seven references each; some equal a reference, some have one word changed."""
    rng = random.Random(seed)
    captions, references = [], []
    for _ in range(size):
        some = [caption(rng) for _ in range(rng.randrange(1, 8))]
        words = rng.choice([rng.choice(some), caption(rng)]).split()
        if rng.random() < 0.8:
            words[rng.randrange(len(words))] = rng.choice(THINGS)
        captions.append(" ".join(words))
        references.append(some)
    return captions, references


# Tokenised already: what comes out of PTBTokenizer.
EDGES: list[tuple[str, list[str]]] = [
    ("", ["a dog runs"]),
    ("dog", ["a dog runs"]),
    ("dog", ["dog"]),
    ("zebra", ["a dog runs", "a cat"]),
    ("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat"]),
    ("a a a a a dog dog dog", ["a dog and a dog", "a dog", "two dogs"]),
    ("qwerty uiop asdf", ["a man rides a wave"]),
    ("a man rides a wave", ["a man rides a wave"]),
    ("a man rides a wave on a very long surfboard in the sea on a day", ["a man rides"]),
    ("a man", ["a man rides a wave on a very long surfboard in the sea on a day", "people at the beach", "surfing"]),
    ("a man 's dog is n't here", ["a dog of a man", "the man 's dog", "it is n't a dog"]),
    ("a t-shirt and a two-story house at 10:30 a.m.", ["a t-shirt", "a house at 10:30 in the u.s. for 1,000 people"]),
    ("black & white photo", ["a black & white photo", "a black and white photo -lrb- old -rrb-"]),
    ("a dog runs", ["a dog runs", "a dog runs", ""]),
    ("runs dog a", ["a dog runs"]),
    ("café | | | 50 % naïve", ["a café", "50 % of | | | cafés"]),
]


def edge_pairs() -> tuple[list[str], list[list[str]]]:
    return [text for text, _ in EDGES], [references for _, references in EDGES]


def as_dicts(
    texts: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """The two arguments of pycocoevalcap's `compute_score`: references and captions by image."""
    return {i: list(some) for i, some in enumerate(references)}, {i: [text] for i, text in enumerate(texts)}


def caption_samples(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Samples:
    return Samples([str(i) for i in range(len(texts))], {"caption": list(texts), "references": list(references)})
