"""Lightning modules: the base of every task, the tasks, and the evaluator of soups."""

from rslit.modules.captioning import CaptioningModule
from rslit.modules.grounding import GroundingModule
from rslit.modules.image_scorer import ImageScorer
from rslit.modules.interpolation import InterpolationEvaluator
from rslit.modules.locomotion import LocomotionModule
from rslit.modules.rewarded import RewardedModule
from rslit.modules.search import SearchEvaluator
from rslit.modules.text import TextModule
from rslit.modules.text_to_image import TextToImageModule
from rslit.modules.vqa import VqaModule

__all__ = [
    "CaptioningModule",
    "GroundingModule",
    "ImageScorer",
    "InterpolationEvaluator",
    "LocomotionModule",
    "RewardedModule",
    "SearchEvaluator",
    "TextModule",
    "TextToImageModule",
    "VqaModule",
]
