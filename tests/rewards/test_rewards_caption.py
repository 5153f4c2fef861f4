"""Captions as words against the Java tokenizer, and what all caption rewards do alike."""

from __future__ import annotations

import copy
import os
import pickle

import pytest
from caption_texts import EDGES, caption_samples, random_pairs
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from rslit.errors import RslitError
from rslit.rewards.base import WeightedSum
from rslit.rewards.bleu import BleuReward
from rslit.rewards.caption import CaptionReward
from rslit.rewards.caption_tokens import words
from rslit.rewards.cider import CiderReward
from rslit.rewards.meteor_process import find_java
from rslit.rewards.rouge import RougeReward
from rslit.rewards.score import score

CAPTIONS = """\
A man riding a wave on top of a surfboard.
A bathroom with a toilet, sink, and shower.
An old man's dog isn't here; it's gone...
The dogs' bowls, the children's toys!
A man who's, they're we've i'm i'll he'd
He cannot go, don't can't won't; gonna run, wanna eat
black & white photo of a man & a woman.
A laptop/computer on a desk w/ a mouse
A 3-way stop at 10:30 a.m.
A clock reads 12:45. It is 12:45pm
The U.S. flag and a T.V. on a table
A T.V.
A "stop" sign and a 'yield' sign: red
A sign that says 'one way'.
(left) the [red] {blue} cup (s)
Two-story building - with a roof -- tall
the 1950's car and the 50's diner, '50s style
$10 and 50% off, #5, 2nd, 1,000 people, 3.5 inches 1/2 full
Mr. Smith and Mrs. Smith on main St. and 5th Ave.
a bus, no. 5, and a man who says no.
a dog,cat and bird.a fish
a cup of coffee ? yes ! what?! no!!
A café ’quoted’ “double” – dash — em…
rock 'n' roll at 5 o'clock, ma'am
a+b = c * d @ home ~ tilde ^ _ under_score | pipe ||| end \\ <red>
black-and-white cat's t-shirt; x-ray of a 4x4 truck, 35mm
   leading   spaces  inside
lots of people, etc.
'tis the giants' field, y'all
...
.
"""


@pytest.fixture
def java_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """pycocoevalcap calls `java` by its name."""
    monkeypatch.setenv("PATH", f"{find_java().parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("java_on_path")
def test_words_are_those_of_the_java_tokenizer(capfd):
    captions = CAPTIONS.splitlines() + random_pairs(0)[0] + [text.capitalize() + "." for text in random_pairs(1)[0]]
    expected = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(captions)})
    for i, text in enumerate(captions):
        assert " ".join(words(text)) == expected[i][0], text
    # Tokenised captions stay what they are.
    for text in [" ".join(words(text)) for text in captions] + [text for text, _ in EDGES]:
        assert " ".join(words(text)) == text


@pytest.mark.parametrize("text", ["", "  ", "\n", ". ", "?"])
def test_captions_without_words(text):
    assert words(text) == ()


def test_line_breaks_are_spaces():
    assert words("a dog\r\nruns\tfast ") == ("a", "dog", "runs", "fast")


class Counting(CaptionReward):
    """Scores a text by the number of its words over the number of its references."""

    unit = "words"
    range = (0.0, 100.0)

    def __init__(self, **options):
        super().__init__("counting", **options)
        self.seen = []

    def score_pairs(self, pairs):
        self.seen += pairs
        return [len(text) / len(references) for text, references in pairs]


def test_what_is_said_twice_is_scored_once():
    reward = Counting()
    texts = ["A dog.", "a dog", "a cat runs", "a dog"]
    references = [["x", "y"], ["x", "y"], ["x", "y"], ["x"]]
    assert reward.values(texts, references) == [1.0, 1.0, 1.5, 2.0]
    assert [pair for pair, _ in reward.seen] == [("a", "dog"), ("a", "cat", "runs"), ("a", "dog")]


def test_the_average_over_the_references():
    answers = [["yes", "yes", "no"], ["a red car"]]
    reward = BleuReward(1, average=True, field="answer", references="answers")
    assert reward.values(["yes", "red car"], answers) == [
        pytest.approx(2 / 3, abs=1e-8),
        BleuReward(1).values(["red car"], [["a red car"]])[0],
    ]
    # Against all of them at once, one that agrees is enough.
    assert BleuReward(1).values(["yes"], [["yes", "yes", "no"]]) == [pytest.approx(1.0, abs=1e-8)]


def test_other_fields():
    samples = caption_samples(["a"], [["b"]])
    samples.fields = {"answer": ["a dog"], "answers": [["a dog", "dogs"]]}
    reward = RougeReward(field="answer", references="answers", name="answers")
    assert score(reward, samples, 0).tolist() == [1.0]


@pytest.mark.parametrize("missing", [[], None, "a dog"])
def test_an_image_without_references(missing):
    samples = caption_samples(["a dog", "a cat"], [["a dog"], missing])
    message = (
        "reward 'rouge' failed at step 7: reward 'rouge': item '1' has no list of references; add its reference texts "
        "to the annotation file, or leave the item out of the data"
    )
    with pytest.raises(RslitError) as error:
        score(RougeReward(), samples, 7)
    assert str(error.value) == message


def test_rewards_can_be_copied_and_belong_in_a_weighted_sum():
    texts, references = random_pairs(5)
    samples = caption_samples(texts, references)
    total = WeightedSum([BleuReward(1), RougeReward()], [0.5, 0.5])
    expected = score(total, samples, 0)
    assert total.name == "0.5*bleu1+0.5*rouge"
    assert score(copy.deepcopy(total), samples, 0).tolist() == expected.tolist()
    assert pickle.dumps([total, CiderReward()])
