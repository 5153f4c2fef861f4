"""Rewards: what a policy is trained for and scored by. Pure functions of `rslit.samples.Samples`, without Lightning."""

from rslit.rewards.base import FunctionReward, Reward, WeightedSum
from rslit.rewards.score import reward_name, score
from rslit.rewards.terms import TermsReward

__all__ = ["FunctionReward", "Reward", "TermsReward", "WeightedSum", "reward_name", "score"]
