"""Rewards: what a policy is trained for and scored by. Pure functions of `rslit.samples.Samples`, without Lightning."""

from rslit.rewards.base import FunctionReward, Reward, WeightedSum, score_terms
from rslit.rewards.classifier import ClassifierReward
from rslit.rewards.lexicon import BrevityReward, LengthReward, ProfanityReward, SentimentReward
from rslit.rewards.score import reward_name, score
from rslit.rewards.sentence import SimilarityReward
from rslit.rewards.terms import TermsReward

__all__ = [
    "BrevityReward",
    "ClassifierReward",
    "FunctionReward",
    "LengthReward",
    "ProfanityReward",
    "Reward",
    "SentimentReward",
    "SimilarityReward",
    "TermsReward",
    "WeightedSum",
    "reward_name",
    "score",
    "score_terms",
]
