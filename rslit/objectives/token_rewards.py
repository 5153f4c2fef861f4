"""From one score per answer to rewards, advantages and targets per token.

Notation: B answers, R tokens; tensors are (B, R) unless said otherwise. A mask is true on an answer's own tokens, which
come first. The state-action view is that of Ziegler et al. 2019, section 2.2: a token is an action, the score arrives
with the last one, and every token pays for its distance to the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.gae import gae
from rslit.objectives.masked import check_same_shape, masked_values

__all__ = ["last_tokens", "sequence_kl", "token_advantages", "token_rewards"]


def last_tokens(mask: Tensor) -> Tensor:
    """The last counted token of each answer, bool (B, R): one per row, none in an empty one.

    Args:
        mask: bool or 0/1 (B, R), true on the first tokens of a row.

    Raises:
        RslitError: An answer has a gap.
    """
    own = mask.bool()
    following = torch.cat([own[:, 1:], torch.zeros_like(own[:, :1])], 1)
    if bool((following & ~own).any()):
        raise RslitError("last_tokens: an answer's tokens must come first and without a gap")
    return own & ~following


def sequence_kl(kl: Tensor, mask: Tensor) -> Tensor:
    """KL estimates (B, R) summed over each answer's tokens, (B,), nats."""
    check_same_shape("sequence_kl", kl=kl, mask=mask)
    return masked_values(kl, mask).sum(1)


def token_rewards(scores: Tensor, kl: Tensor | None, coefficient: float, mask: Tensor) -> Tensor:
    """The score at an answer's last token, and everywhere the penalty -coefficient * kl.

    Args:
        scores: float32 (B,), higher is better.
        kl: float32 (B, R), estimate of the KL per token in nats; None leaves the penalty out.
        coefficient: Weight of the penalty, reward units per nat.
        mask: bool (B, R). The end token is one of an answer's own: it gets the score, not the padding behind it.

    Returns:
        float32 (B, R), 0 behind the answer.

    Raises:
        RslitError: Shapes do not fit.
    """
    check_same_shape("token_rewards", kl=kl, mask=mask)
    if scores.shape != mask.shape[:1]:
        raise RslitError(f"token_rewards: {tuple(scores.shape)} scores for {tuple(mask.shape)} tokens; give one a row")
    rewards = last_tokens(mask).to(scores.dtype) * scores.unsqueeze(1)
    return rewards if kl is None else rewards - coefficient * masked_values(kl, mask)


def token_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantages and value targets; an answer ends with its last token, cut off or not.

    Args:
        rewards: float32 (B, R).
        values: float32 (B, R), of the state each token was chosen in.
        mask: bool (B, R).
        gamma: Discount per token; 1 is usual.
        lam: Decay of GAE's trace.

    Returns:
        `(advantages, returns)`, float32 (B, R), 0 behind the answer.
    """
    values = masked_values(values, mask)
    over = last_tokens(mask) | ~mask.bool()
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    advantages, returns = gae(rewards, values, following, over, torch.zeros_like(over), gamma, lam)
    return masked_values(advantages, mask), masked_values(returns, mask)
