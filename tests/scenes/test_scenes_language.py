from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from scene_reader import answer, caption_is_true, expression

from rslit.scenes import Thing, ask_about, caption_scene, refer_to, sample_scene
from rslit.scenes.annotators import Votes, ask_ten
from rslit.scenes.expressions import say, unique_queries
from rslit.scenes.formats import question_type, tokens
from rslit.scenes.world import COLOURS, SHAPES

SCENES = [sample_scene(7, "train", index) for index in range(120)]


def test_captions_are_true_and_five_and_differ() -> None:
    for number, scene in enumerate(SCENES):
        captions = caption_scene(scene, Random(number))
        assert len(set(captions)) == 5
        for caption in captions:
            assert caption_is_true(scene, caption), (caption, scene)
            assert not re.search(r"\b(a [aeiou]|an [^aeiou])", caption.lower())


def test_the_reader_sees_what_is_false() -> None:
    """Of scenes in other colours, in other shapes or upside down, captions that tell these are false."""
    told = [(scene, caption) for k, scene in enumerate(SCENES) for caption in caption_scene(scene, Random(k))]

    def share(change: Callable[[Thing], Thing], words: set[str]) -> float:
        changed = [
            caption_is_true(replace(scene, things=tuple(map(change, scene.things))), caption)
            for scene, caption in told
            if words & set(tokens(caption))
        ]
        assert len(changed) > 40
        return sum(changed) / len(changed)

    assert share(lambda thing: replace(thing, colour="pink"), set(COLOURS)) == 0
    assert share(lambda thing: replace(thing, shape="moon"), set(SHAPES)) == 0
    assert share(_turned, {"top", "bottom"}) < 0.2
    assert share(_turned, {"above", "below"}) < 0.3
    assert all(
        not caption_is_true(replace(scene, background="pink"), caption)
        for scene, caption in told
        if "background" in caption
    )


def _turned(thing: Thing) -> Thing:
    x0, y0, x1, y1 = thing.box
    return replace(thing, box=(64 - x1, 64 - y1, 64 - x0, 64 - y0))


def test_captions_are_short_and_long_and_have_many_words() -> None:
    texts = [tokens(caption) for k, scene in enumerate(SCENES) for caption in caption_scene(scene, Random(k))]
    lengths = [len(text) for text in texts]
    assert sum(length <= 7 for length in lengths) > 0.1 * len(lengths)
    assert sum(length >= 18 for length in lengths) > 0.1 * len(lengths)
    assert max(lengths) <= 35
    words = {word for text in texts for word in text}
    assert {"circle", "round", "disc", "large", "big", "small", "little", "purple", "violet"} <= words
    assert len(words) < 100


def test_expressions_mean_their_thing_and_no_other() -> None:
    numbers: Counter[int] = Counter()
    for scene in SCENES:
        for k, thing in enumerate(scene.things):
            texts = refer_to(scene, thing, Random(k))
            numbers[len(texts)] += 1
            assert len({len(text.split()) for text in texts}) == len(texts)
            for text in texts:
                assert expression(scene, text) is thing, (text, thing, scene)
    assert set(numbers) == {1, 2, 3}


def test_all_that_could_be_said_means_its_thing() -> None:
    kinds: Counter[str] = Counter()
    for scene in SCENES[:40]:
        for thing in scene.things:
            for kind, queries in unique_queries(scene, thing).items():
                kinds[kind] += 1
                for query in queries:
                    assert expression(scene, say(Random(0), query)) is thing
    assert set(kinds) == {"name", "place", "most", "relation"}


def test_a_shape_alone_often_does_not_do() -> None:
    crowds = sum(max(Counter(thing.shape for thing in scene.things).values()) > 1 for scene in SCENES)
    assert 0.6 < crowds / len(SCENES) < 0.95


def test_questions_have_their_true_answer() -> None:
    truths: Counter[str] = Counter()
    for number, scene in enumerate(SCENES):
        questions = ask_about(scene, Random(number))
        assert [question.answer_type for question in questions] == ["yes/no"] * 2 + ["number"] + ["other"] * 3
        assert len({question.text for question in questions}) == 6
        for question in questions:
            assert answer(scene, question.text) == question.truth, (question.text, scene)
            given = Counter(reply for reply, _ in question.answers)
            assert given.total() == 10
            assert [reply for reply, times in given.items() if times == max(given.values())] == [question.truth]
            assert {sure for _, sure in question.answers} <= {"yes", "maybe", "no"}
            truths[question.truth] += 1
    assert 0.4 < truths["yes"] / (truths["yes"] + truths["no"]) < 0.6
    assert {"0", "1", "2", "3", "red", "circle", "large", "left", "top right", "middle", "white"} <= set(truths)


def test_annotators_disagree_as_often_as_they_are_told_to() -> None:
    rng = Random(0)
    votes = Votes("star", near=("yellow star",), wrong=("heart",), near_share=0.25)
    given = Counter(reply for _ in range(2000) for reply, _ in ask_ten(votes, rng))
    # A few disagreements are given up so that the truth leads.
    assert given["heart"] / 20000 == pytest.approx(0.05, abs=0.01)
    assert given["yellow star"] / 20000 == pytest.approx(0.25, abs=0.02)
    assert {reply for reply, _ in ask_ten(Votes("yes"), rng)} == {"yes"}


def test_question_types_are_the_longest_that_fit() -> None:
    assert question_type("What is in the red box?") == "what is in the"
    assert question_type("What is inside the red box?") == "what is"
    assert question_type("Is there an orange heart?") == "is there"
    assert question_type("Whatever?") == "none of the above"
