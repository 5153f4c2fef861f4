"""Rewards of visual question answering: VQA accuracy, and any caption reward averaged over the annotators' answers.

They read the fields `answer` (str, what the policy said) and `answers` (the annotators', normally ten; one is enough).
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.base import Reward
from rslit.rewards.score import checked_values, reward_name
from rslit.samples import Samples

__all__ = ["AnswerMean", "VqaAccuracyReward", "normalise_answer"]

# What follows is the processing of answers that visualqa.org/evaluation.html describes: its words and marks.
ARTICLES = frozenset(("a", "an", "the"))
COUNTING = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(COUNTING)}
# Marks that separate words. Apostrophes belong to words, colons to times of the day.
MARKS = ';/[]"{}()=+\\_-><@`,?!'
# The right spellings; a word that is one of these but for one apostrophe is mended.
CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
    somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll
    what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
SPELLING = {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
}
COMMA_IN_NUMBER = re.compile(r"[0-9],[0-9]")
# Not before a digit: a decimal point stays.
PERIOD = re.compile(r"\.(?![0-9])")


@functools.lru_cache(maxsize=1 << 17)
def normalise_answer(answer: str) -> str:
    """An answer as VQA accuracy compares it (visualqa.org/evaluation.html).

    Lower case; marks become spaces, but go without one where they stand beside a space or where a comma is part of a
    number (`100,978` is `100978`); periods go unless a digit follows; number words become digits, articles go,
    contractions get their apostrophe (`dont` is `don't`). The challenge's script does the same, mark by mark, for the
    policy's answer; of the annotators' answers, which its files keep lower-cased, it leaves some steps out. Here all
    answers are treated alike, as the description has it.

    Args:
        answer: Any text.
    """
    text = answer.lower().replace("\n", " ").replace("\t", " ").strip()
    joined = COMMA_IN_NUMBER.search(text) is not None
    gaps = {
        ord(mark): "" if joined or mark + " " in text or " " + mark in text else " " for mark in MARKS if mark in text
    }
    text = PERIOD.sub("", text.translate(gaps))
    words = [NUMBERS.get(word, word) for word in text.split()]
    return " ".join(SPELLING.get(word, word) for word in words if word not in ARTICLES)


class VqaAccuracyReward:
    """VQA accuracy in [0, 1] (Antol et al. 2015): right is what three of the other annotators say too.

    Each annotator is left out in turn; an answer gets min(1, n / 3) for the n of the others who gave it, and the mean
    over the annotators. Of ten, 1, 2, 3 and 4 who gave it mean 0.3, 0.6, 0.9 and 1. With fewer than four annotators all
    others must agree instead of three, and with a single one (easy-VQA) the answer must be his. Answers are compared as
    `normalise_answer` has them.

    Args:
        name: Column name of its scores.
    """

    unit = "VQA accuracy"
    range = (0.0, 1.0)

    def __init__(self, name: str = "vqa_accuracy") -> None:
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32.

        Raises:
            RslitError: A sample has no answers to compare with.
        """
        values = []
        for given, answers in _answers(samples, f"VqaAccuracyReward '{self.name}'"):
            said = normalise_answer(given)
            values.append(_accuracy(sum(normalise_answer(answer) == said for answer in answers), len(answers)))
        return torch.tensor(values, dtype=torch.float32)


class AnswerMean:
    """A caption reward for answers, averaged over the annotators' answers (paper, Table 5: BLEU-1 and METEOR).

    The scorer sees the fields `caption` and `references` with one reference each, so that it neither picks the best of
    the answers nor pools them. Each distinct pair of answer and reference is scored once, and remembered: most answers
    to questions are among few. Where the scorer does not apply (NaN) the pair is left out of the mean.

        class_path: rslit.rewards.AnswerMean
        init_args:
          scorer:
            class_path: my_package.Bleu1

    Args:
        scorer: A reward on `caption` and `references`.
        name: Column name of its scores; defaults to the scorer's.
        remember: How many pairs are kept; when there are more, all are dropped.

    Attributes:
        unit: The scorer's.
        range: The scorer's.

    Raises:
        RslitError: The scorer has no name, or `remember` is negative.
    """

    def __init__(self, scorer: Reward, name: str | None = None, remember: int = 100_000) -> None:
        self.scorer = scorer
        self.name = name or reward_name(scorer)
        if remember < 0:
            raise RslitError(f"AnswerMean '{self.name}': remember is {remember}; it must be 0 or more")
        self.unit = scorer.unit
        self.range = scorer.range
        self._remember = remember
        self._scores: dict[tuple[str, str], float] = {}

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32, NaN where no pair has a score.

        Raises:
            RslitError: A sample has no answers to compare with, or the scorer fails, see `rslit.rewards.score`.
        """
        rows = [(given, Counter(answers)) for given, answers in _answers(samples, f"AnswerMean '{self.name}'")]
        # The item of a pair names the reference, for scorers that keep what they know of references by item.
        pairs = {
            (given, reference): f"{item}/{place}"
            for item, (given, counts) in zip(samples.items, rows, strict=True)
            for place, reference in enumerate(counts)
        }
        self._score(pairs)
        values = [_mean([(self._scores[given, text], n) for text, n in counts.items()]) for given, counts in rows]
        return torch.tensor(values, dtype=torch.float32)

    def _score(self, pairs: dict[tuple[str, str], str]) -> None:
        """Has scores for all these pairs in `_scores`."""
        if len(self._scores.keys() | pairs.keys()) > self._remember:
            self._scores = {}
        new = {pair: item for pair, item in pairs.items() if pair not in self._scores}
        if new:
            captions = [given for given, _ in new]
            references = [[reference] for _, reference in new]
            samples = Samples(list(new.values()), {"caption": captions, "references": references})
            values = checked_values(self.scorer, samples)
            self._scores.update(zip(new, values.tolist(), strict=True))


def _answers(samples: Samples, label: str) -> list[tuple[str, Sequence[str]]]:
    """Each sample's answer with those of the annotators."""
    pairs = list(zip(samples["answer"], samples["answers"], strict=True))
    for item, (_, answers) in zip(samples.items, pairs, strict=True):
        if isinstance(answers, str) or not answers:
            raise RslitError(f"{label}: item {item!r} has answers {answers!r}; give a list of one or more texts")
    return pairs


def _accuracy(agreeing: int, annotators: int) -> float:
    """Mean over the annotators of min(1, agreeing others / needed)."""
    if annotators == 1:
        return float(agreeing)
    needed = min(3, annotators - 1)
    # Leaving out one of those who agree takes one vote away, leaving out another takes none.
    left_out = agreeing * min(agreeing - 1, needed) + (annotators - agreeing) * min(agreeing, needed)
    return left_out / (needed * annotators)


def _mean(scores: list[tuple[float, int]]) -> float:
    """Mean of scores with how often each counts, without those that are NaN."""
    known = [(value, n) for value, n in scores if not math.isnan(value)]
    total = sum(n for _, n in known)
    return sum(value * n for value, n in known) / total if total else math.nan
