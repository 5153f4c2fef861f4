"""Objectives: free functions on tensors, without Lightning, policies or rewards.

`tanh_normal` is a namespace of its own: `tanh_normal.sample`, `.log_prob`, `.entropy`, `.mode`.
"""

from rslit.objectives import tanh_normal
from rslit.objectives.gae import gae
from rslit.objectives.kl import AdaptiveKL, FixedKL, k1, k2, k3, kl_estimate, warn_bad_pair
from rslit.objectives.masked import masked_mean
from rslit.objectives.ppo import PolicyLoss, clipped_policy_loss, value_loss, whiten
from rslit.objectives.reinforce import greedy_advantages, leave_one_out_advantages, reinforce_loss
from rslit.objectives.reward_weighted import (
    combine,
    denoising_errors,
    denoising_target,
    keep_and_rescale,
    noised,
    reward_weighted_loss,
)
from rslit.objectives.token_rewards import last_tokens, sequence_kl, token_advantages, token_rewards

__all__ = [
    "AdaptiveKL",
    "FixedKL",
    "PolicyLoss",
    "clipped_policy_loss",
    "combine",
    "denoising_errors",
    "denoising_target",
    "gae",
    "greedy_advantages",
    "k1",
    "k2",
    "k3",
    "keep_and_rescale",
    "kl_estimate",
    "last_tokens",
    "leave_one_out_advantages",
    "masked_mean",
    "noised",
    "reinforce_loss",
    "reward_weighted_loss",
    "sequence_kl",
    "tanh_normal",
    "token_advantages",
    "token_rewards",
    "value_loss",
    "warn_bad_pair",
    "whiten",
]
