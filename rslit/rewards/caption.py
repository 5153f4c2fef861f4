"""What the caption rewards share: a text scored against several references, with pycocoevalcap's numbers.

Notation: B texts with one or more references each; a word is what `rslit.rewards.caption_tokens.words` makes.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.caption_tokens import Words, words
from rslit.samples import Samples

__all__ = ["EOS", "CaptionReward", "Ngrams", "Pair", "References", "ngrams"]

# The end of a caption as a word. Words of captions are in lower case: none can be mistaken for it.
EOS = "EOS"

References = tuple[str, ...]
Pair = tuple[Words, References]
Ngrams = dict[Words, int]


class CaptionReward(ABC):
    """A text scored against its references. A subclass says how in `score_pairs`.

    Args:
        name: Column name of its scores.
        field: The texts to score, str.
        references: The field with the references of each text, a list of at least one str.
        average: Score against each reference alone and take the mean, not against all of them at once. For VQA, whose
            ten annotators each give an answer.
    """

    def __init__(
        self, name: str, field: str = "caption", references: str = "references", average: bool = False
    ) -> None:
        self.name = name
        self._field = field
        self._references = references
        self._average = average

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32."""
        references = samples[self._references]
        for item, found in zip(samples.items, references, strict=True):
            if not found or isinstance(found, str):
                raise RslitError(
                    f"reward '{self.name}': item {item!r} has no list of {self._references}; add its reference texts "
                    "to the annotation file, or leave the item out of the data"
                )
        return torch.tensor(self.values(samples[self._field], references), dtype=torch.float32)

    def values(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Scores in double precision.

        Args:
            texts: B texts, raw or tokenised.
            references: The references of each, at least one.

        Returns:
            B scores. Texts that are said twice about the same references are scored once.
        """
        found = [words(text) for text in texts]
        if not self._average:
            pairs = [(text, tuple(several)) for text, several in zip(found, references, strict=True)]
            return self._unique_scores(pairs)
        singles = [(text, (one,)) for text, several in zip(found, references, strict=True) for one in several]
        scores = iter(self._unique_scores(singles))
        return [sum(next(scores) for _ in several) / len(several) for several in references]

    @abstractmethod
    def score_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        """Scores of texts, given as words, against their references, given as they came; no pair is there twice."""

    def _unique_scores(self, pairs: Sequence[Pair]) -> list[float]:
        unique = list(dict.fromkeys(pairs))
        scores = dict(zip(unique, self.score_pairs(unique), strict=True))
        return [scores[pair] for pair in pairs]


# Small: for several rewards that score the same batch one after the other.
@functools.lru_cache(maxsize=256)
def ngrams(sentence: Words) -> tuple[Ngrams, ...]:
    """How often each run of 1, 2, 3 and 4 words occurs.

    Returns:
        Counts by n-gram, for each of the four lengths. They are shared: they must not be changed.
    """
    second, third, fourth = sentence[1:], sentence[2:], sentence[3:]
    return (
        _counts(list(zip(sentence, strict=True))),
        _counts(list(zip(sentence, second, strict=False))),
        _counts(list(zip(sentence, second, third, strict=False))),
        _counts(list(zip(sentence, second, third, fourth, strict=False))),
    )


def _counts(grams: list[Words]) -> Ngrams:
    found = dict.fromkeys(grams, 1)
    # A Counter is slow to make, and longer runs are hardly ever said twice.
    return found if len(found) == len(grams) else Counter(grams)
