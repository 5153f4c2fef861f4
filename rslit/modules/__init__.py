"""Lightning modules: the base of every task, the tasks, and the evaluator of soups."""

from rslit.modules.interpolation import InterpolationEvaluator
from rslit.modules.locomotion import LocomotionModule
from rslit.modules.rewarded import RewardedModule
from rslit.modules.text import TextModule

__all__ = ["InterpolationEvaluator", "LocomotionModule", "RewardedModule", "TextModule"]
