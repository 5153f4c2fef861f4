"""Distance to the initialisation: KL estimators from samples, and the controllers of the penalty's coefficient.

Notation: B trajectories, T steps; log-probabilities are (B, T) in nats, of actions drawn from the policy pi; `ref` is
the frozen reference. With d = log pi - log ref, all three estimate KL(pi || ref) per action:

    k1 = d                  unbiased, signed, high variance
    k2 = d^2 / 2            biased, never negative
    k3 = exp(-d) - 1 + d    unbiased, never negative

Sources: Schulman 2020, "Approximating KL Divergence" (blog); Ziegler et al. 2019, "Fine-Tuning Language Models from
Human Preferences", section 2.2 (adaptive controller). A good estimator of the value need not have the right gradient:
see `warn_bad_pair`, after Tang and Munos 2025, "On a few pitfalls in KL divergence gradient estimation for RL".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives.masked import check_same_shape

__all__ = ["AdaptiveKL", "Estimator", "FixedKL", "Place", "k1", "k2", "k3", "kl_estimate", "warn_bad_pair"]

Estimator = Literal["k1", "k2", "k3"]
Place = Literal["reward", "loss"]

MAX_ERROR = 0.2
"""Ziegler et al. clip the relative error of the KL to ±0.2."""


def k1(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """Log-ratio d = log pi - log ref. (B, T) -> (B, T), nats."""
    return logprob - ref_logprob


def k2(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """Half the squared log-ratio, d^2 / 2. (B, T) -> (B, T), nats."""
    return 0.5 * (logprob - ref_logprob).square()


def k3(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """The Bregman form exp(-d) - 1 + d. (B, T) -> (B, T), nats."""
    difference = logprob - ref_logprob
    # expm1 keeps the digits that exp(-d) - 1 loses while the policy is still close to the reference.
    return torch.expm1(-difference) + difference


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


def kl_estimate(name: str, logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """KL(pi || ref) per action by the named estimator.

    Args:
        name: "k1", "k2" or "k3".
        logprob: (B, T) float32, under the policy.
        ref_logprob: (B, T) float32, under the reference.

    Returns:
        (B, T) float32, nats. Multiply by the mask before summing.

    Raises:
        RslitError: Unknown name, or shapes differ.
    """
    estimator = ESTIMATORS.get(name)
    if estimator is None:
        raise RslitError(f"KL estimator '{name}' is unknown; choose one of {', '.join(ESTIMATORS)}")
    check_same_shape("kl_estimate", logprob=logprob, ref_logprob=ref_logprob)
    return estimator(logprob, ref_logprob)


BAD_PAIRS = {
    (
        "k1",
        "loss",
    ): "its gradient has mean zero, so it adds noise and no pull towards the reference; use k2 in the loss",
    ("k3", "loss"): "its gradient is that of the forward KL(ref || pi), not of KL(pi || ref); use k2 in the loss",
    ("k2", "reward"): "it is a biased value of the KL and pulls with a biased gradient; use k1 in the reward",
    ("k3", "reward"): "its value is right but it pulls with the gradient of KL(pi || ref) - KL(ref || pi), "
    "which nearly vanishes close to the reference; use k1 in the reward",
}


def warn_bad_pair(estimator: str, place: str) -> None:
    """Warns, in words, of an estimator that does not suit its place.

    In the reward the estimate is a constant that multiplies the score function: k1 gives the gradient of KL(pi || ref).
    In the loss it is differentiated itself, on actions of the current policy: k2 does. OpenRLHF warns of most of the
    same pairs; it lets k3 in the loss pass, as GRPO uses it.

    Args:
        estimator: "k1", "k2" or "k3".
        place: "reward" (subtracted from the reward of each action) or "loss" (added to the loss).

    Raises:
        RslitError: Unknown estimator or place.
    """
    if estimator not in ESTIMATORS:
        raise RslitError(f"KL estimator '{estimator}' is unknown; choose one of {', '.join(ESTIMATORS)}")
    if place not in ("reward", "loss"):
        raise RslitError(f"KL place '{place}' is unknown; choose reward or loss")
    reason = BAD_PAIRS.get((estimator, place))
    if reason is not None:
        warnings.warn(f"KL estimator {estimator} in the {place}: {reason}", stacklevel=2)


class FixedKL:
    """A coefficient that never changes.

    Args:
        coefficient: Weight of the KL penalty, >= 0, reward units per nat. 0 switches the penalty off.

    Raises:
        RslitError: The coefficient is negative or not finite.
    """

    def __init__(self, coefficient: float) -> None:
        self.coefficient = _coefficient("FixedKL", "coefficient", coefficient)

    def update(self, kl: float, n_samples: int) -> None:
        """Does nothing; takes what `AdaptiveKL.update` takes."""

    def state_dict(self) -> dict[str, float]:
        """The coefficient."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restores `state_dict()`; raises `RslitError` on other keys."""
        self.coefficient = _restored("FixedKL", state)


class AdaptiveKL:
    """Steers the measured KL towards a target by a proportional controller in log space (Ziegler et al. 2019).

        error        = clip(kl / target - 1, -0.2, 0.2)
        coefficient *= 1 + error * n_samples / horizon

    Args:
        init: First coefficient, > 0, reward units per nat.
        target: KL per sample to hold, > 0, nats.
        horizon: Samples over which a full error is worked off, > 0. Ziegler et al. use 10,000.

    Raises:
        RslitError: An argument is not a finite positive number.
    """

    def __init__(self, init: float, target: float, horizon: int) -> None:
        for name, value in (("init", init), ("target", target), ("horizon", horizon)):
            if not (math.isfinite(value) and value > 0):
                raise RslitError(f"AdaptiveKL: {name} must be a positive number, got {value}")
        self.coefficient = float(init)
        self.target = float(target)
        self.horizon = int(horizon)

    def update(self, kl: float, n_samples: int) -> None:
        """Moves the coefficient after a rollout.

        Args:
            kl: Mean KL per sample of that rollout (summed over its steps), nats, over all ranks.
            n_samples: Samples in the rollout, over all ranks.

        Raises:
            RslitError: `kl` is not finite, `n_samples` is not positive, or the rollout is so long beside the horizon
                that one update could turn the coefficient negative.
        """
        if not math.isfinite(kl):
            raise RslitError(f"AdaptiveKL: the measured KL is {kl}; the policy has diverged, lower the learning rate")
        if n_samples < 1:
            raise RslitError(f"AdaptiveKL: n_samples must be at least 1, got {n_samples}")
        if MAX_ERROR * n_samples >= self.horizon:
            raise RslitError(
                f"AdaptiveKL: horizon {self.horizon} is too short for rollouts of {n_samples} samples; "
                f"set it above {math.ceil(MAX_ERROR * n_samples)}, best above {n_samples}"
            )
        error = min(max(kl / self.target - 1.0, -MAX_ERROR), MAX_ERROR)
        self.coefficient *= 1.0 + error * n_samples / self.horizon

    def state_dict(self) -> dict[str, float]:
        """The coefficient; target and horizon come from the config."""
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restores `state_dict()`; raises `RslitError` on other keys."""
        self.coefficient = _restored("AdaptiveKL", state)


def _coefficient(owner: str, key: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise RslitError(f"{owner}: {key} must be a finite number >= 0, got {value}")
    return float(value)


def _restored(owner: str, state: Mapping[str, float]) -> float:
    if set(state) != {"coefficient"}:
        found = ", ".join(sorted(state)) or "none"
        raise RslitError(f"{owner}: the saved state must have the one key 'coefficient', found: {found}")
    return _coefficient(owner, "saved coefficient", state["coefficient"])
