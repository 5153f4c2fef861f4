"""METEOR of single captions, by the Java program that pycocoevalcap uses (Denkowski and Lavie 2014)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from rslit.errors import RslitError
from rslit.rewards.caption import CaptionReward, Pair, References
from rslit.rewards.caption_tokens import words
from rslit.rewards.meteor_process import meteor_answers, meteor_process
from rslit.rewards.meteor_words import meteor_form

__all__ = ["MeteorReward"]

# METEOR 1.5's values for English, tuned to human ranking: exact, stem, synonym and paraphrase matches.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = (1.0, 0.6, 0.8, 0.6)

# Scores that are kept, about 30 MB.
_KEPT = 65536


class MeteorReward(CaptionReward):
    """METEOR in [0, 1], the best over the references; an empty text gets 0.

    Equal to the scores per sentence of pycocoevalcap's `Meteor`. The program matches words, stems, synonyms and
    paraphrases; the formula is computed here. It runs as one Java process, or two where there are cores, started at the
    first call (some seconds, 0.6 GB each) and shared by all rewards of this Python process. Recent scores are kept: a
    text that comes again costs nothing.

    Args:
        name: Column name of its scores.
        field: The texts to score.
        references: The field with the references of each.
        average: The mean over references of the score against each alone.
        timeout: Seconds without any answer after which the process is given up and started again, once; its start
            counts.

    Raises:
        RslitError: There is no Java or no pycocoevalcap, or the timeout is not above 0.
    """

    unit = "METEOR"
    range = (0.0, 1.0)

    def __init__(
        self,
        name: str = "meteor",
        field: str = "caption",
        references: str = "references",
        average: bool = False,
        timeout: float = 600.0,
    ) -> None:
        super().__init__(name, field, references, average)
        if not timeout > 0:
            raise RslitError(f"MeteorReward '{name}': timeout is {timeout}; it must be above 0 s")
        meteor_process()  # what it needs is missed now, not after hours
        self._timeout = timeout

    def score_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        """METEOR of each pair."""
        new = [pair for pair in pairs if pair not in _scores]
        asked = {pair: line for pair in new if (line := _command(pair)) is not None}
        answers = meteor_answers(list(asked.values()), self._timeout) if asked else []
        scores = dict(zip(asked, map(_score, answers), strict=True))
        _scores.update((pair, scores.get(pair, 0.0)) for pair in new)
        found = [_scores[pair] for pair in pairs]
        while len(_scores) > _KEPT:
            del _scores[next(iter(_scores))]
        return found


_scores: dict[Pair, float] = {}


def _command(pair: Pair) -> str | None:
    """What to ask the program, None where nothing can match."""
    text, references = pair
    known = _reference_lines(references)
    return f"SCORE ||| {known} ||| {meteor_form(text)}" if text and known else None


@functools.lru_cache(maxsize=2048)
def _reference_lines(references: References) -> str:
    """The references as the program takes them; those without words, and those said twice, cannot change the best."""
    lines = dict.fromkeys(meteor_form(words(reference)) for reference in references)
    return " ||| ".join(line for line in lines if line)


def _score(answer: str) -> float:
    """The score from the program's counts against the best reference.

    Args:
        answer: 23 numbers: words of text and reference; function words of each; for each kind of match the content
            words of text and reference that have one, and the function words; chunks; matched words of each.

    Raises:
        RslitError: It is something else.
    """
    try:
        numbers = [float(number) for number in answer.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 23:
        raise RslitError(f"METEOR answered {answer!r}, not its 23 counts; check the Java and the pycocoevalcap in use")
    lengths, functions, chunks, matched = numbers[:2], numbers[2:4], numbers[20], numbers[21:]
    kinds = [numbers[start : start + 4] for start in range(4, 20, 4)]
    precision, recall = (
        sum(
            weight * (_DELTA * counts[side] + (1 - _DELTA) * counts[2 + side])
            for weight, counts in zip(_WEIGHTS, kinds, strict=True)
        )
        / (_DELTA * (lengths[side] - functions[side]) + (1 - _DELTA) * functions[side])
        for side in (0, 1)
    )
    if not precision or not recall:
        return 0.0
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    # A text that is its reference word for word is in one piece.
    fragments = 0.0 if chunks == 1 and matched == lengths else chunks / (sum(matched) / 2)
    return mean * (1 - _GAMMA * math.pow(fragments, _BETA))
