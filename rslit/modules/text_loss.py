"""The loss of a minibatch of answers: clipped policy loss, value loss and KL.

Notation: B answers, R tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from rslit.language import Scored
from rslit.objectives import PolicyLoss, clipped_policy_loss, kl_estimate, masked_mean, value_loss

__all__ = ["TextLoss"]


@dataclass(frozen=True)
class TextLoss:
    """What is minimised.

    Attributes:
        clip: Clip range of the probability ratio.
        value_clip: Largest change of a value that is trusted; None does not clip.
        value_coefficient: Weight of the value loss.
        estimator: Of the KL that is part of the loss; None where it is paid by the reward, or not at all.
    """

    clip: float
    value_clip: float | None
    value_coefficient: float
    estimator: str | None

    def __call__(
        self, scored: Scored, minibatch: Mapping[str, Tensor], coefficient: float
    ) -> tuple[Tensor, PolicyLoss, dict[str, Tensor | float]]:
        """Computes it.

        Args:
            scored: The minibatch's answers under the policy as it is.
            minibatch: Rows of an experience of :class:`rslit.modules.TextModule`.
            coefficient: Weight of the KL.

        Returns:
            The loss, its part for the policy, and numbers to log.
        """
        mask, old = minibatch["mask"], minibatch.get("logprobs", scored.logprobs.detach())
        policy = clipped_policy_loss(scored.logprobs, old, minibatch["advantages"], self.clip, mask)
        stats: dict[str, Tensor | float] = {
            "policy/approxkl_avg": policy.approx_kl,
            "policy/clipfrac_avg": policy.clip_fraction,
            "loss/policy_avg": policy.loss,
            "val/ratio": policy.ratio_mean,
        }
        loss = policy.loss
        if scored.values is not None:
            before = minibatch["values"] if self.value_clip is not None else None
            value = value_loss(scored.values, minibatch["returns"], before, self.value_clip, mask)
            stats["loss/value_avg"] = value
            loss = loss + self.value_coefficient * value
        if self.estimator is not None:
            kl = kl_estimate(self.estimator, scored.logprobs, minibatch["ref_logprobs"])
            loss = loss + coefficient * masked_mean(kl, mask)
        return loss, policy, stats
