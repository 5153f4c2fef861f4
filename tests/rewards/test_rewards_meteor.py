"""METEOR against pycocoevalcap's, with the real program, and what happens when its process dies."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from caption_texts import as_dicts, caption_samples, edge_pairs, random_pairs
from reward_tester import RewardTester

from rslit.errors import RslitError
from rslit.rewards import meteor
from rslit.rewards.caption_tokens import words
from rslit.rewards.meteor import MeteorReward
from rslit.rewards.meteor_process import find_java, meteor_process
from rslit.rewards.meteor_words import meteor_form


@pytest.fixture(scope="module")
def theirs():
    """pycocoevalcap's METEOR, which calls `java` by its name."""
    from pycocoevalcap.meteor.meteor import Meteor

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{find_java().parent}{os.pathsep}{os.environ['PATH']}")
        scorer = Meteor()
    yield lambda texts, references: scorer.compute_score(*as_dicts(texts, references))[1]
    for stream in (scorer.meteor_p.stdout, scorer.meteor_p.stderr):
        stream.close()


@pytest.fixture
def unknown(monkeypatch):
    """No score is kept from another test."""
    monkeypatch.setattr(meteor, "_scores", {})


@pytest.mark.slow
@pytest.mark.timeout(1200)  # two times METEOR, which takes ten seconds of a free core to start
@pytest.mark.usefixtures("unknown")
def test_it_is_pycocoevalcaps(theirs):
    reward = MeteorReward()
    for case in (edge_pairs(), random_pairs(1), random_pairs(2)):
        expected = theirs(*case)
        assert len(set(expected)) > 5
        np.testing.assert_allclose(reward.values(*case), expected, rtol=0, atol=1e-9)
        meteor._scores.clear()
        alone = [reward.values([text], [references])[0] for text, references in zip(*case, strict=True)]
        np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-9)
    case = random_pairs(3, 12)
    RewardTester(1e-6).run(reward, caption_samples(*case), theirs(*case))
    # The scores are remembered: without a process they are the same.
    meteor_process().close()
    np.testing.assert_allclose(reward.values(*case), theirs(*case), rtol=0, atol=1e-9)
    assert meteor_process().process is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("unknown")
def test_the_process_is_killed(theirs):
    reward = MeteorReward()
    first, second = random_pairs(4), random_pairs(5)
    reward.values(*first)
    process = meteor_process().process
    os.kill(process.pid, signal.SIGKILL)
    np.testing.assert_allclose(reward.values(*second), theirs(*second), rtol=0, atol=1e-9)
    assert meteor_process().process.pid != process.pid
    assert process.poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a man riding a wave", "a man riding a wave"),
        ("a t-shirt and a black-and-white cat", "a t shirt and a black and white cat"),
        ("the man 's dog is n't here", "the man ' s dog is n 't here"),
        ("a u.s. flag at 10:30 a.m.", "a us flag at 10 : 30 am"),
        ("mr. smith on main st.", "mr. smith on main st ."),
        ("and/or 50 % of 1,000 -lrb- a & b", "and / or 50 % of 1,000 -lrb- a & b"),
    ],
)
def test_words_as_meteor_compares_them(text, form):
    # The right sides are what METEOR's own normaliser makes of the left ones.
    assert meteor_form(words(text)) == form


class Answering:
    """In place of the process: remembers what it is asked, answers the same to all."""

    def __init__(self, answer):
        self.answer, self.lines = answer, []

    def answers(self, lines, timeout):
        self.lines += lines
        return [self.answer] * len(lines)


# A text of 4 words, 1 of them a function word, of which 3 match a reference of 5 words exactly, in 2 pieces.
COUNTS = "4.0 5.0 1.0 2.0 2.0 2.0 1.0 1.0 " + "0.0 " * 12 + "2.0 3.0 3.0"


@pytest.fixture
def answering(monkeypatch, unknown):
    process = Answering(COUNTS)
    monkeypatch.setattr(meteor, "meteor_answers", process.answers)
    return process


def test_what_the_program_is_asked(answering):
    texts = ["A big dog's bowl.", "a ||| b\nc", "", "a big dog 's bowl", "runs", "x"]
    references = [["Dogs!", "a dog", "dogs"], ["a", ""], ["a"], ["Dogs!", "a dog", "dogs"], ["."], ["", "..."]]
    values = MeteorReward().values(texts, references)
    assert answering.lines == ["SCORE ||| dogs ||| a dog ||| a big dog ' s bowl", "SCORE ||| a ||| a | | | b c"]
    assert values[0] == values[1] == values[3] > 0.0
    assert values[2] == values[4] == values[5] == 0.0
    MeteorReward().values(texts, references)
    assert len(answering.lines) == 2


def test_the_formula_by_hand(answering):
    precision = (0.75 * 2 + 0.25 * 1) / (0.75 * 3 + 0.25 * 1)
    recall = (0.75 * 2 + 0.25 * 1) / (0.75 * 3 + 0.25 * 2)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    expected = mean * (1 - 0.6 * (2 / 3) ** 0.2)
    assert MeteorReward().values(["a b c d"], [["a c b e f"]]) == [pytest.approx(expected, abs=1e-12)]


def test_scores_are_kept_in_bounds(answering, monkeypatch):
    monkeypatch.setattr(meteor, "_KEPT", 10)
    for start in range(0, 60, 20):
        assert len(MeteorReward().values([f"dog{i}" for i in range(start, start + 20)], [["dog"]] * 20)) == 20
        assert len(meteor._scores) == 10


@pytest.mark.parametrize("answer", ["Error: specify SCORE or EVAL", "1.0 2.0", ""])
def test_another_answer(answering, answer):
    answering.answer = answer
    for _ in range(2):
        with pytest.raises(
            RslitError, match=r"METEOR answered .*, not its 23 counts; check the Java and the pycocoeval"
        ):
            MeteorReward().values(["a"], [["a"]])


def test_a_timeout_of_nothing():
    with pytest.raises(RslitError, match=r"'meteor': timeout is 0.0; it must be above"):
        MeteorReward(timeout=0.0)
