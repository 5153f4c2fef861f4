"""CIDEr-D of single captions against document frequencies of one's choice (Vedantam et al. 2015).

What pycocoevalcap calls CIDEr is CIDEr-D: counts are clipped at the reference's, differing lengths are penalised by a
Gaussian (σ = 6), the mean over 1- to 4-grams is multiplied by 10. It counts document frequencies in the captions it
evaluates, which means nothing for a batch; a reward takes those of the training references.
"""

from __future__ import annotations

import functools
import json
import math
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rslit.errors import RslitError
from rslit.rewards.base import Reward, WeightedSum
from rslit.rewards.caption import EOS, CaptionReward, Pair, References, ngrams
from rslit.rewards.caption_tokens import Words, words

__all__ = ["CiderReward", "DocumentFrequencies", "count_documents"]

_LENGTHS = 4
_SIGMA = 6.0


@dataclass(frozen=True, eq=False)
class DocumentFrequencies:
    """In how many images' references an n-gram occurs.

    Attributes:
        images: Number of images, all kinds of n-grams together.
        counts: By n-gram of 1 to 4 words, from 2 images on: one image counts as much as none.
        append_eos: Whether the end of a sentence was counted as a word.
    """

    images: int
    counts: Mapping[Words, int]
    append_eos: bool = False

    @classmethod
    def count(cls, references: Iterable[Sequence[str]], append_eos: bool = False) -> DocumentFrequencies:
        """Counts them.

        Args:
            references: The reference captions of each image.
            append_eos: Count the end of a sentence as a word.

        Raises:
            RslitError: There are none.
        """
        end = (EOS,) if append_eos else ()
        counts: Counter[Words] = Counter()
        images = 0
        for captions in references:
            counts.update({gram for caption in captions for some in ngrams(words(caption) + end) for gram in some})
            images += 1
        if not images:
            raise RslitError("document frequencies: there are no training references to count; check the training data")
        return cls(images, {gram: count for gram, count in counts.items() if count > 1}, append_eos)

    def idf(self, gram: Words) -> float:
        """Logarithm of the number of images over those that have the n-gram, 0 or more."""
        return math.log(self.images) - math.log(self.counts.get(gram, 1))


class CiderReward(CaptionReward):
    """CIDEr-D, 0 to 10; an empty text gets 0, and an n-gram that every image has counts for nothing.

    With document frequencies of the evaluated images it equals the scores per image of pycocoevalcap's `Cider`.

    Args:
        document_frequencies: The training references to count n-grams in: a COCO captions file or Karpathy's
            dataset_coco.json (of which train and restval are read). Without it the datamodule's training references
            are counted, see `count_documents`.
        append_eos: Let the end of a sentence count as a word, in texts, references and document frequencies.
        name: Column name of its scores.
        field: The texts to score.
        references: The field with the references of each.

    Raises:
        RslitError: There is no such file.
    """

    unit = "CIDEr-D"
    range = (0.0, 10.0)

    def __init__(
        self,
        document_frequencies: Path | str | None = None,
        append_eos: bool = False,
        name: str = "cider",
        field: str = "caption",
        references: str = "references",
    ) -> None:
        super().__init__(name, field, references)
        self.append_eos = append_eos
        self._path = None if document_frequencies is None else Path(document_frequencies).expanduser()
        self._frequencies: DocumentFrequencies | None = None
        if self._path is not None and not self._path.is_file():
            raise RslitError(f"CiderReward '{name}': there is no file {self._path}; check `document_frequencies`")

    @property
    def needs_references(self) -> bool:
        """Whether it has no document frequencies yet, nor a file to count them in."""
        return self._path is None and self._frequencies is None

    def set_document_frequencies(self, frequencies: DocumentFrequencies) -> None:
        """Takes these from now on.

        Raises:
            RslitError: They were counted with another `append_eos`.
        """
        if frequencies.append_eos != self.append_eos:
            raise RslitError(
                f"reward '{self.name}' has append_eos: {self.append_eos}, but its document frequencies were counted "
                f"with {frequencies.append_eos}; count them alike"
            )
        self._frequencies = frequencies

    def score_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        """CIDEr-D of each pair."""
        if self._frequencies is None and self._path is not None:
            self._frequencies = _read(self._path, self.append_eos)
        if self._frequencies is None:
            raise RslitError(
                f"reward '{self.name}' has no document frequencies; set document_frequencies to the file of the "
                "training captions, or use a captioning datamodule"
            )
        end = (EOS,) if self.append_eos else ()
        return [_cider(text + end, references, self._frequencies) for text, references in pairs]


def count_documents(rewards: Iterable[Reward], references: Iterable[Sequence[str]]) -> None:
    """Gives the rewards that lack them the document frequencies of these references. For datamodules and modules.

    Args:
        rewards: Any rewards; a CiderReward is found within a WeightedSum too.
        references: The training references of each image. Read only if a reward needs them.
    """
    terms = [term for reward in rewards for term in (reward.rewards if isinstance(reward, WeightedSum) else [reward])]
    waiting = [term for term in terms if isinstance(term, CiderReward) and term.needs_references]
    if not waiting:
        return
    images = list(references)
    found = {kind: DocumentFrequencies.count(images, kind) for kind in {reward.append_eos for reward in waiting}}
    for reward in waiting:
        reward.set_document_frequencies(found[reward.append_eos])


def _cider(text: Words, references: References, frequencies: DocumentFrequencies) -> float:
    postings, lengths = _reference_vectors(frequencies, references)
    penalties = [math.exp(-((_length(text) - length) ** 2) / (2 * _SIGMA**2)) for length in lengths]
    total = 0.0
    for counts in ngrams(text):
        square = 0.0
        products = [0.0] * len(lengths)
        for gram, count in counts.items():
            weight = count * frequencies.idf(gram)
            square += weight * weight
            for place, limit, share in postings.get(gram, ()):
                products[place] += min(weight, limit) * share
        if square:
            total += sum(map(operator.mul, products, penalties)) / math.sqrt(square)
    return 10.0 * total / (_LENGTHS * len(lengths))


def _length(sentence: Words) -> int:
    """The length that pycocoevalcap compares: the number of 2-grams."""
    return max(0, len(sentence) - 1)


@functools.lru_cache(maxsize=2048)
def _reference_vectors(
    frequencies: DocumentFrequencies, references: References
) -> tuple[dict[Words, list[tuple[int, float, float]]], list[int]]:
    """The references by n-gram.

    Returns:
        For each n-gram of weight above 0 the references that have it: place, weight, and weight over the norm of all
        weights of n-grams of that length in that reference. And the length of each reference.
    """
    end = (EOS,) if frequencies.append_eos else ()
    postings: dict[Words, list[tuple[int, float, float]]] = {}
    lengths = []
    for place, reference in enumerate(references):
        sentence = words(reference) + end
        for counts in ngrams(sentence):
            weights = [(gram, count * frequencies.idf(gram)) for gram, count in counts.items()]
            norm = math.sqrt(sum(weight * weight for _, weight in weights))
            for gram, weight in weights:
                if weight:
                    postings.setdefault(gram, []).append((place, weight, weight / norm))
        lengths.append(_length(sentence))
    return postings, lengths


@functools.lru_cache(maxsize=4)
def _read(path: Path, append_eos: bool) -> DocumentFrequencies:
    """Document frequencies of the captions of a file.

    Raises:
        RslitError: It is no JSON file of one of the two kinds, or has no captions.
    """
    by_image: dict[object, list[str]] = {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if "annotations" in data:
            for row in data["annotations"]:
                by_image.setdefault(row["image_id"], []).append(row["caption"])
        else:
            for place, image in enumerate(data["images"]):
                if image["split"] in ("train", "restval"):
                    by_image[place] = [sentence["raw"] for sentence in image["sentences"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RslitError(
            f"document frequencies: cannot read {path} ({type(error).__name__}: {error}); give a COCO captions file or "
            "Karpathy's dataset_coco.json"
        ) from error
    if not by_image:
        raise RslitError(f"document frequencies: {path} has no captions; give the file of the training captions")
    return DocumentFrequencies.count(by_image.values(), append_eos)
