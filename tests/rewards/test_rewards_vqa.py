"""VQA accuracy against its definition and hand-made answers; scorers of captions averaged over answers."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from jsonargparse import ArgumentParser
from reward_tester import RewardTester

from rslit.errors import RslitError
from rslit.rewards import FunctionReward, Reward, score
from rslit.rewards.vqa import CONTRACTIONS, AnswerMean, VqaAccuracyReward, normalise_answer
from rslit.samples import Samples


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("  a red\tcircle\n", "red circle"),
        ("The man and an apple", "man and apple"),
        ("a", ""),
        ("", ""),
        ("two", "2"),
        ("None", "0"),
        ("ten dogs", "10 dogs"),
        ("eleven", "eleven"),
        ("someone", "someone"),
        # Periods: not before a digit.
        ("2.50", "2.50"),
        ("no.", "no"),
        ("U.S.", "us"),
        ("v. 1.5.", "v 1.5"),
        (".5", ".5"),
        # Commas in numbers, and other marks.
        ("100,978", "100978"),
        ("1,000,000 dogs", "1000000 dogs"),
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("black-and-white", "black and white"),
        ("black - white", "black white"),
        ("t-shirt?", "t shirt"),
        ("yes!", "yes"),
        ("[stop]", "stop"),
        # A mark that stands beside a space anywhere, or beside a comma of a number, leaves no space.
        ("left-hand - right-hand", "lefthand righthand"),
        ("1,000-2,000", "10002000"),
        # Apostrophes and colons stay, as do signs that are no marks.
        ("girl's", "girl's"),
        ("2:50 pm", "2:50 pm"),
        ("50%", "50%"),
        ("$5", "$5"),
        ("black & white", "black & white"),
        # Contractions.
        ("dont", "don't"),
        ("Dont know", "don't know"),
        ("can't", "can't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("yall'd've", "y'all'd've"),
        ("twas", "'twas"),
        ("oclock", "o'clock"),
        ("im", "i'm"),
        ("well", "well"),
        ("its", "its"),
        ("shed", "shed"),
        ("dont-know", "don't know"),
    ],
)
def test_answers_are_compared_as(answer, expected):
    assert normalise_answer(answer) == expected


def test_every_contraction_without_an_apostrophe():
    words = CONTRACTIONS.split()
    assert len(words) == len(set(words)) > 90
    for word in words:
        assert normalise_answer(word) == word
        if word.count("'") == 1:
            assert normalise_answer(word.replace("'", "").upper()) == word


def definition(answer: str, answers: list[str]) -> float:
    """Mean over all subsets that leave one annotator out of min(1, matches / 3)."""
    subsets = list(combinations(answers, len(answers) - 1))
    return sum(min(1.0, sum(other == answer for other in subset) / 3) for subset in subsets) / len(subsets)


def test_ten_annotators():
    rows = [["left"] * agreeing + ["other"] * (10 - agreeing) for agreeing in range(11)]
    expected = [definition("left", answers) for answers in rows]
    assert expected[:5] == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.0])
    samples = Samples(list(range(11)), {"answer": ["Left."] * 11, "answers": rows})
    RewardTester().run(VqaAccuracyReward(), samples, expected)


@pytest.mark.parametrize("annotators", [4, 5, 7, 12])
def test_other_numbers_of_annotators(annotators):
    rows = [["1"] * agreeing + ["2"] * (annotators - agreeing) for agreeing in range(annotators + 1)]
    samples = Samples(list(range(len(rows))), {"answer": ["one"] * len(rows), "answers": rows})
    RewardTester().run(VqaAccuracyReward(), samples, [definition("1", answers) for answers in rows])


def test_few_annotators():
    """Fewer than four cannot agree three to one: all the others must, and a single one is the measure."""
    rows = [["red"], ["blue"], ["red", "red"], ["red", "blue"], ["red"] * 3, ["red", "red", "blue"], ["red", "a", "b"]]
    samples = Samples(list(range(7)), {"answer": ["a red"] * 7, "answers": rows})
    RewardTester().run(VqaAccuracyReward(), samples, [1, 0, 1, 0.5, 1, 2 / 3, 1 / 3])


def test_answers_of_easy_vqa():
    from easy_vqa import get_test_questions

    questions, answers, _ = get_test_questions()
    fields = {
        "question": questions[:40],
        "answer": [answers[0].upper()] * 40,
        "answers": [[answer] for answer in answers[:40]],
    }
    expected = [float(answer == answers[0]) for answer in answers[:40]]
    RewardTester(0.0).run(VqaAccuracyReward(), Samples(list(range(40)), fields), expected)


class Overlap:
    """Share of the reference's words that the caption has; NaN for a reference without words. Counts its work."""

    name = "overlap"
    unit = "share"
    range = (0.0, 1.0)

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.items: dict[str, str] = {}

    def __call__(self, samples: Samples) -> torch.Tensor:
        assert set(samples.fields) == {"caption", "references"}
        values = []
        for item, caption, references in zip(samples.items, samples["caption"], samples["references"], strict=True):
            (reference,) = references
            assert self.items.setdefault(str(item), reference) == reference
            self.seen.append((caption, reference))
            words = reference.split()
            values.append(sum(word in caption.split() for word in words) / len(words) if words else math.nan)
        return torch.tensor(values)


ANSWERS = [["red circle"] * 7 + ["red", "circle", "blue circle"], ["two", "2"], ["left"], ["red circle"] * 10]
GIVEN = ["red circle", "two", "right", "red circle"]
SAMPLES = Samples(["a", "b", "c", "d"], {"answer": GIVEN, "answers": ANSWERS, "question": ["?"] * 4})


def test_mean_over_the_answers():
    reward = AnswerMean(Overlap())
    RewardTester().run(reward, SAMPLES, [0.95, 0.5, 0.0, 1.0])
    assert (reward.name, reward.unit, reward.range) == ("overlap", "share", (0.0, 1.0))
    assert AnswerMean(Overlap(), name="overlap_10").name == "overlap_10"


@pytest.mark.parametrize(("remember", "times"), [(100_000, 1), (7, 1), (6, 3), (0, 3)])
def test_each_pair_is_scored_once(remember, times):
    scorer = Overlap()
    reward = AnswerMean(scorer, remember=remember)
    for _ in range(3):
        assert reward(SAMPLES).tolist() == pytest.approx([0.95, 0.5, 0.0, 1.0])
    pairs = {(given, answer) for given, answers in zip(GIVEN, ANSWERS, strict=True) for answer in answers}
    assert len(pairs) == 7
    assert sorted(scorer.seen) == sorted(list(pairs) * times)


def test_pairs_that_have_no_score_are_left_out():
    samples = Samples([1, 2, 3], {"answer": ["red", "red", "blue"], "answers": [["red", "", "blue"], [""], ["blue"]]})
    RewardTester().run(AnswerMean(Overlap()), samples, [0.5, math.nan, 1.0])


@pytest.mark.parametrize("reward", [VqaAccuracyReward(), AnswerMean(Overlap())])
@pytest.mark.parametrize("answers", [[], "yes"])
def test_an_item_without_answers(reward, answers):
    samples = Samples(["q1", "q2"], {"answer": ["yes", "yes"], "answers": [["yes"], answers]})
    with pytest.raises(RslitError, match=r"item 'q2' has answers .*; give a list of one or more texts"):
        score(reward, samples, 0)


def test_scorers_that_cannot_be():
    with pytest.raises(RslitError, match="has no name"):
        AnswerMean(lambda samples: torch.zeros(1))
    with pytest.raises(RslitError, match="AnswerMean 'overlap': remember is -1"):
        AnswerMean(Overlap(), remember=-1)
    wrong = AnswerMean(FunctionReward(lambda samples: torch.zeros(len(samples), 2), name="wrong"))
    with pytest.raises(RslitError, match="reward 'wrong' returned shape"):
        score(wrong, SAMPLES, 0)


def test_from_yaml():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    text = """
    reward:
      class_path: rslit.rewards.vqa.AnswerMean
      init_args:
        scorer:
          class_path: test_rewards_vqa.Overlap
        name: mean_overlap
    """
    reward = parser.instantiate_classes(parser.parse_string(parser.dump(parser.parse_string(text)))).reward
    assert reward.name == "mean_overlap"
    assert score(reward, SAMPLES, 0).tolist() == pytest.approx([0.95, 0.5, 0.0, 1.0])
