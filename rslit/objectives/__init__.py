"""Objectives: free functions on tensors, without Lightning, policies or rewards.

`tanh_normal` is a namespace of its own: `tanh_normal.sample`, `.log_prob`, `.entropy`, `.mode`.
"""

from rslit.objectives import tanh_normal
from rslit.objectives.gae import gae
from rslit.objectives.kl import AdaptiveKL, FixedKL, k1, k2, k3, kl_estimate, warn_bad_pair
from rslit.objectives.masked import masked_mean
from rslit.objectives.ppo import PolicyLoss, clipped_policy_loss, value_loss, whiten
from rslit.objectives.reinforce import greedy_advantages, leave_one_out_advantages, reinforce_loss

__all__ = [
    "AdaptiveKL",
    "FixedKL",
    "PolicyLoss",
    "clipped_policy_loss",
    "gae",
    "greedy_advantages",
    "k1",
    "k2",
    "k3",
    "kl_estimate",
    "leave_one_out_advantages",
    "masked_mean",
    "reinforce_loss",
    "tanh_normal",
    "value_loss",
    "warn_bad_pair",
    "whiten",
]
