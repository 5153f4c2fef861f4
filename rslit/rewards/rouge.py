"""ROUGE-L of single captions, as pycocoevalcap computes it (Lin 2004)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from rslit.rewards.caption import CaptionReward, Pair, References
from rslit.rewards.caption_tokens import Words, words

__all__ = ["RougeReward"]

_BETA_SQUARED = 1.2**2


class RougeReward(CaptionReward):
    """ROUGE-L in [0, 1]: an F score (β = 1.2) of the longest common subsequence; an empty text gets 0.

    Precision and recall are each the best over the references. Equal to pycocoevalcap's `Rouge`.

    Args:
        name: Column name of its scores.
        field: The texts to score.
        references: The field with the references of each.
        average: The mean over references of the score against each alone.
    """

    unit = "ROUGE-L"
    range = (0.0, 1.0)

    def __init__(
        self, name: str = "rouge", field: str = "caption", references: str = "references", average: bool = False
    ) -> None:
        super().__init__(name, field, references, average)

    def score_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        """ROUGE-L of each pair."""
        scores = []
        for text, references in pairs:
            positions, places, used = _reference_bits(references)
            common = _common(text, positions, places, used)
            precision = max(common) / (len(text) or 1)
            recall = max(found / (length or 1) for found, (_, length) in zip(common, places, strict=True))
            weight = recall + _BETA_SQUARED * precision
            scores.append((1 + _BETA_SQUARED) * precision * recall / weight if weight else 0.0)
        return scores


def _common(text: Words, positions: dict[str, int], places: Sequence[tuple[int, int]], used: int) -> list[int]:
    """Lengths of the longest common subsequences with all references at once, by the bits of one integer.

    A row of the usual table grows by 0 or 1 from one word of a reference to the next: a bit says where it does not
    (Crochemore et al. 2001, Hyyrö 2004). The unused bit after each reference takes up the carry of the addition.
    """
    row = used
    for word in text:
        hits = row & positions.get(word, 0)
        if hits:
            row = ((row + hits) | (row - hits)) & used
    return [length - ((row >> start) & ((1 << length) - 1)).bit_count() for start, length in places]


@functools.lru_cache(maxsize=2048)
def _reference_bits(references: References) -> tuple[dict[str, int], tuple[tuple[int, int], ...], int]:
    """The references laid end to end, one bit a word.

    Returns:
        The bits of each word, first bit and length of each reference, and all bits that stand for a word.
    """
    positions: dict[str, int] = {}
    places = []
    start = 0
    for reference in references:
        sentence = words(reference)
        for place, word in enumerate(sentence, start):
            positions[word] = positions.get(word, 0) | 1 << place
        places.append((start, len(sentence)))
        start += len(sentence) + 1
    return positions, tuple(places), sum(positions.values())
