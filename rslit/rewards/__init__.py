"""Rewards: what a policy is trained for and scored by. Pure functions of `rslit.samples.Samples`, without Lightning."""

from rslit.rewards.aesthetic import AestheticReward
from rslit.rewards.base import FunctionReward, Reward, WeightedSum, score_terms
from rslit.rewards.bleu import BleuReward
from rslit.rewards.caption import CaptionReward
from rslit.rewards.cider import CiderReward, DocumentFrequencies, count_documents
from rslit.rewards.classifier import ClassifierReward
from rslit.rewards.clip import ClipMatchReward, ClipSafetyReward, ClipScoreReward
from rslit.rewards.image_classifier import ImageClassifierReward, PromptLabelReward
from rslit.rewards.image_light import (
    ColourfulnessReward,
    ContrastReward,
    JpegCompressibilityReward,
    SharpnessReward,
)
from rslit.rewards.iou import BoxHitReward, IoUReward
from rslit.rewards.lexicon import BrevityReward, LengthReward, ProfanityReward, SentimentReward
from rslit.rewards.meteor import MeteorReward
from rslit.rewards.open_nsfw import OpenNsfwReward
from rslit.rewards.rouge import RougeReward
from rslit.rewards.score import reward_name, score
from rslit.rewards.sentence import SimilarityReward
from rslit.rewards.terms import TermsReward
from rslit.rewards.vqa import AnswerMean, VqaAccuracyReward

__all__ = [
    "AestheticReward",
    "AnswerMean",
    "BleuReward",
    "BoxHitReward",
    "BrevityReward",
    "CaptionReward",
    "CiderReward",
    "ClassifierReward",
    "ClipMatchReward",
    "ClipSafetyReward",
    "ClipScoreReward",
    "ColourfulnessReward",
    "ContrastReward",
    "DocumentFrequencies",
    "FunctionReward",
    "ImageClassifierReward",
    "IoUReward",
    "JpegCompressibilityReward",
    "LengthReward",
    "MeteorReward",
    "OpenNsfwReward",
    "ProfanityReward",
    "PromptLabelReward",
    "Reward",
    "RougeReward",
    "SentimentReward",
    "SharpnessReward",
    "SimilarityReward",
    "TermsReward",
    "VqaAccuracyReward",
    "WeightedSum",
    "count_documents",
    "reward_name",
    "score",
    "score_terms",
]
