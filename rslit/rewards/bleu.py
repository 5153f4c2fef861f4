"""BLEU of single captions, as pycocoevalcap computes it per sentence (Papineni et al. 2002)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from rslit.errors import RslitError
from rslit.rewards.caption import EOS, CaptionReward, Ngrams, Pair, References, ngrams
from rslit.rewards.caption_tokens import Words, words

__all__ = ["BleuReward"]

# pycocoevalcap's, so that an n-gram order without a match does not end in a division or a product of zeros.
_SMALL, _TINY = 1e-9, 1e-15


class BleuReward(CaptionReward):
    """Sentence-level BLEU-n in [0, 1] with the brevity penalty of the closest reference length; an empty text gets 0.

    Equal to the scores per sentence of pycocoevalcap's `Bleu`.

    Args:
        n: Longest n-gram, 1 to 4.
        append_eos: Let the end of a sentence count as a word, in texts and references, so that a text that breaks off
            loses n-grams (SacreEOS, Hu et al. 2022).
        name: Column name of its scores; default `bleu` and n.
        field: The texts to score.
        references: The field with the references of each.
        average: The mean over references of the score against each alone.

    Raises:
        RslitError: n is not 1 to 4.
    """

    unit = "BLEU"
    range = (0.0, 1.0)

    def __init__(
        self,
        n: int = 4,
        append_eos: bool = False,
        name: str | None = None,
        field: str = "caption",
        references: str = "references",
        average: bool = False,
    ) -> None:
        super().__init__(name or f"bleu{n}", field, references, average)
        if not 1 <= n <= 4:
            raise RslitError(f"BleuReward '{self.name}': n is {n}; it must be 1, 2, 3 or 4")
        self.n = n
        self.append_eos = append_eos

    def score_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        """BLEU of each pair."""
        end = (EOS,) if self.append_eos else ()
        return [_bleu(text + end, *_reference_counts(references, end), self.n) for text, references in pairs]


def _bleu(text: Words, lengths: tuple[int, ...], most: tuple[Ngrams, ...], n: int) -> float:
    if not text:
        return 0.0
    product = 1.0
    for order, (counts, limits) in enumerate(zip(ngrams(text)[:n], most, strict=False)):
        said = max(0, len(text) - order)
        common = counts.keys() & limits.keys()
        # Where no n-gram is said twice, as mostly, the references clip none.
        correct = len(common) if len(counts) == said else sum(min(counts[gram], limits[gram]) for gram in common)
        product *= (correct + _TINY) / (said + _SMALL)
    value = math.pow(product, 1.0 / n)
    closest = min((abs(length - len(text)), length) for length in lengths)[1]
    ratio = (len(text) + _TINY) / (closest + _SMALL)
    return value * math.exp(1.0 - 1.0 / ratio) if ratio < 1.0 else value


@functools.lru_cache(maxsize=2048)
def _reference_counts(references: References, end: Words) -> tuple[tuple[int, ...], tuple[Ngrams, ...]]:
    """The length of each reference, and how often each n-gram occurs in the reference that has it most often."""
    sentences = [words(reference) + end for reference in references]
    most: tuple[Ngrams, ...] = ({}, {}, {}, {})
    for sentence in sentences:
        for limits, counts in zip(most, ngrams(sentence), strict=True):
            for gram, count in counts.items():
                if count > limits.get(gram, 0):
                    limits[gram] = count
    return tuple(map(len, sentences)), most
