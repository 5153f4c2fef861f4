"""Rewards without a network: sentiment, profanity and length of the response."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.pretrained import require
from rslit.samples import Samples

__all__ = ["BrevityReward", "LengthReward", "ProfanityReward", "SentimentReward"]


class SentimentReward:
    """Compound sentiment of VADER in [-1, 1]: -1 most negative, 1 most positive (Hutto and Gilbert 2014).

    A text without words of the lexicon, and so an empty one, gets 0.

    Args:
        name: Column name of its scores.
        field: The texts to score.

    Raises:
        RslitError: vaderSentiment is not installed.
    """

    unit = "VADER compound"
    range = (-1.0, 1.0)

    def __init__(self, name: str = "positive", field: str = "response") -> None:
        require("vaderSentiment", "vaderSentiment", f"SentimentReward '{name}'")
        self.name = name
        self._field = field

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32."""
        return torch.tensor([_vader()(text)["compound"] for text in samples[self._field]], dtype=torch.float32)


class ProfanityReward:
    """1 - P(profane) by alt-profanity-check, a linear SVM on a bag of words, in [0, 1]: 1 is clean.

    An empty text gets the model's value for no known word, close to 1. The package keeps its model in a pickle, which
    the package itself loads from its own folder; no other file is read that way.

    Args:
        name: Column name of its scores.
        field: The texts to score.

    Raises:
        RslitError: alt-profanity-check is not installed.
    """

    unit = "probability"
    range = (0.0, 1.0)

    def __init__(self, name: str = "clean", field: str = "response") -> None:
        require("profanity_check", "alt-profanity-check", f"ProfanityReward '{name}'")
        self.name = name
        self._field = field

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32."""
        return 1.0 - torch.as_tensor(_profanity()(list(samples[self._field])), dtype=torch.float32)


class LengthReward:
    """Minus the distance of the response's length from a target; an empty response gets minus the target.

    Args:
        target: The best length, 0 or more.
        unit: What is counted: words (between white space) or characters.
        name: Column name of its scores.

    Raises:
        RslitError: The target is negative.
    """

    range = (-math.inf, 0.0)

    def __init__(self, target: int, unit: Literal["words", "characters"] = "words", name: str = "length") -> None:
        if target < 0:
            raise RslitError(f"LengthReward '{name}': target is {target}; it must be 0 or more")
        self.target = target
        self.unit = unit
        self.name = name

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32."""
        lengths = [len(text.split()) if self.unit == "words" else len(text) for text in samples["response"]]
        return 0.0 - (torch.tensor(lengths, dtype=torch.float32) - self.target).abs()


class BrevityReward(LengthReward):
    """Minus the number of words of the response, at best 0 for an empty one.

    Args:
        name: Column name of its scores.
    """

    def __init__(self, name: str = "brevity") -> None:
        super().__init__(target=0, name=name)


@functools.cache
def _vader() -> Callable[[str], dict[str, float]]:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    scores: Callable[[str], dict[str, float]] = SentimentIntensityAnalyzer().polarity_scores
    return scores


@functools.cache
def _profanity() -> Callable[[list[str]], Any]:
    with warnings.catch_warnings():
        # Its model was saved by an older scikit-learn; the coefficients of a linear model have not changed meaning.
        warnings.filterwarnings("ignore", message=r"Trying to unpickle estimator")
        from profanity_check import predict_prob
    probabilities: Callable[[list[str]], Any] = predict_prob
    return probabilities
