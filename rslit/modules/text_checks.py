"""Signs that something is silently wrong with a training of a language model, put into words."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.language import KLOptions, SamplingOptions
from rslit.objectives import warn_bad_pair
from rslit.soup import Ingredient, Soup, fingerprint

__all__ = [
    "check_base",
    "check_ensembles",
    "check_options",
    "check_precision",
    "warn_negative_kl",
    "warn_ratio",
    "warn_unmoved",
]

# In half precision a token's log-probability moves by some hundredths with the batch's shape, the mean ratio by less.
_RATIO_TOLERANCE, _RATIO_TOLERANCE_HALF = 1e-3, 2e-2
# Standard errors below 0 before a mean KL counts as negative: with 4, chance does it once in 30,000 rollouts.
_ERRORS = 4.0
# What an adapter's factors are multiplied by follows from these; their shapes do not show it.
_STRENGTH = ("lora_alpha", "use_rslora", "alpha_pattern")


def check_base(path: str, base: Mapping[str, str], adapter: Mapping[str, Any] | None) -> None:
    """Refuses an initialisation whose adapter was trained on another base or acts with another strength.

    Args:
        path: Ingredient folder.
        base: The policy's base.
        adapter: The policy's adapter configuration; None when all weights are trained.

    Raises:
        RslitError: It was or does, or it is no language model's.
    """
    config = Ingredient.load(Path(path)).info.config
    recorded = config.get("base")
    if not isinstance(recorded, dict):
        raise RslitError(f"initialisation: {path} is no ingredient of a language model")
    if recorded.get("fingerprint") != base["fingerprint"]:
        raise RslitError(
            f"initialisation: {path} was trained on the base {recorded.get('name')}, whose weights are not those of "
            f"{base['name']}; set policy.base to it"
        )
    there = config.get("adapter")
    if adapter is None or not isinstance(there, dict):
        return  # if only one of the two has an adapter, their weights have different names
    for key in _STRENGTH:
        if there.get(key) != adapter.get(key):
            raise RslitError(
                f"initialisation: {path} is an adapter whose {key} is {there.get(key)}, this policy's is "
                f"{adapter.get(key)}; the same factors would do something else, so give both the same"
            )


def check_ensembles(soup: Soup, num_beams: int) -> None:
    """Refuses ensembles that cannot decode side by side.

    Args:
        soup: The experts.
        num_beams: Of the evaluation.

    Raises:
        RslitError: The experts are not LoRA, or answers are decoded by beams.
    """
    if not soup.adapters:
        raise RslitError("ensemble: the experts are whole models; ensembles are of LoRA experts, which share one")
    if num_beams > 1:
        raise RslitError("ensemble: beams sort the rows anew; set evaluation.num_beams to 1")


def check_options(algorithm: str, sampling: SamplingOptions, kl: KLOptions) -> None:
    """Refuses options that contradict one another, and warns of a KL estimator that does not suit its place.

    Raises:
        RslitError: They do.
    """
    if not 1 <= sampling.min_new_tokens <= sampling.max_new_tokens:
        raise RslitError("sampling: needs 1 <= min_new_tokens <= max_new_tokens")
    if sampling.temperature <= 0:
        raise RslitError(f"sampling.temperature must be above 0, got {sampling.temperature}")
    if sampling.samples_per_prompt < (2 if algorithm == "rloo" else 1):
        raise RslitError(
            f"sampling.samples_per_prompt is {sampling.samples_per_prompt}; rloo compares answers to one prompt and "
            "needs 2 or more, the other algorithms 1"
        )
    if sampling.missing_eos_penalty is not None and not sampling.stop_at_eos:
        raise RslitError("sampling.missing_eos_penalty: answers cannot end by themselves without stop_at_eos")
    if kl.coefficient < 0 or (kl.target is not None and not kl.coefficient):
        raise RslitError("kl.coefficient must be at least 0, and above 0 with a kl.target")
    if kl.coefficient > 0:
        warn_bad_pair(kl.estimator, kl.place)


def warn_negative_kl(kl: Tensor, rollout: int) -> None:
    """Warns when answers are more likely under the reference than under the policy that gave them.

    Args:
        kl: Log-ratio of each answer, (B,), nats. Single ones may be negative, their mean estimates a KL.
        rollout: For the message.
    """
    mean, error = float(kl.mean()), float(kl.std()) / math.sqrt(max(len(kl), 1)) if len(kl) > 1 else math.inf
    if mean < -_ERRORS * error and mean < -1e-3:
        warnings.warn(
            f"rollout {rollout}: the KL to the reference is negative ({mean:.3g} nats per answer): the answers were "
            "not drawn from the policy that is being scored; look for a sampling filter or another temperature",
            stacklevel=2,
        )


def warn_ratio(ratio: float, rollout: int, policy: nn.Module) -> None:
    """Warns when the first minibatch's probability ratio is not 1: its policy is the one that acted."""
    weight = next(policy.parameters())
    half = weight.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(weight.device.type)
    if not abs(ratio - 1.0) <= (_RATIO_TOLERANCE_HALF if half else _RATIO_TOLERANCE):
        warnings.warn(
            f"rollout {rollout}: the first minibatch's probability ratio is {ratio:.5f}, not 1: new and old "
            "log-probabilities are not computed alike (dropout, precision or padding)",
            stacklevel=2,
        )


def warn_unmoved(state: Mapping[str, Tensor], start: str | None) -> None:
    """Warns when training ends with the weights it began with."""
    if fingerprint(state) == start:
        warnings.warn(
            "training changed no weight of the policy: its soups would all be the initialisation; check the learning "
            "rate, target_kl and which weights are trained",
            stacklevel=2,
        )


def check_precision(precision: str) -> None:
    """Refuses a precision of the Trainer that turns the whole module, adapter and value head too, to half precision.

    Raises:
        RslitError: It does.
    """
    if precision != "32-true" and not precision.endswith("-mixed"):
        raise RslitError(
            f"trainer.precision: {precision} would train the adapter in that precision, too; leave it at 32-true "
            "and set policy.dtype: bfloat16, or use bf16-mixed"
        )
