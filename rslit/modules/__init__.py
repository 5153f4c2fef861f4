"""Lightning modules: the base of every task, the tasks, and the evaluator of soups."""

from rslit.modules.captioning import CaptioningModule
from rslit.modules.grounding import GroundingModule
from rslit.modules.interpolation import InterpolationEvaluator
from rslit.modules.locomotion import LocomotionModule
from rslit.modules.rewarded import RewardedModule
from rslit.modules.text import TextModule
from rslit.modules.vqa import VqaModule

__all__ = [
    "CaptioningModule",
    "GroundingModule",
    "InterpolationEvaluator",
    "LocomotionModule",
    "RewardedModule",
    "TextModule",
    "VqaModule",
]
