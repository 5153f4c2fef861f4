"""Calling a reward and checking what comes back.

Rewards are user code. Everything that trains on or reports their values calls them through `score`, so that a value
that cannot be right stops the run with the reward's name, the step and the item at fault, instead of spoiling the
advantages of a whole batch.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.samples import Samples

if TYPE_CHECKING:
    from rslit.rewards.base import Reward

__all__ = ["checked_values", "reward_name", "score"]


def score(reward: Reward, samples: Samples, step: int, *, complete: bool = False) -> Tensor:
    """The reward of each sample, computed without gradient and checked.

    Args:
        reward: Any object with the interface of `rslit.rewards.Reward`.
        samples: B samples.
        step: Training step or evaluation index, for the message only.
        complete: Refuse NaN too. For training objectives, which need a value for every sample; an evaluation keeps NaN
            and leaves those items out of its means.

    Returns:
        (B,) float32 on the reward's device: a copy without graph, higher is better, NaN where the reward does not apply
        (never NaN with `complete`). float64, half precision, integers and booleans are converted.

    Raises:
        RslitError: The reward has no name, raises, does not return a real (B,) tensor, returns an infinite value, or
            returns NaN although `complete` is set.
    """
    name = reward_name(reward)
    where = f"at step {step}"
    values = checked_values(reward, samples, where)
    if complete:
        missing = torch.isnan(values)
        if missing.any():
            item = samples.items[int(missing.nonzero()[0, 0])]
            raise RslitError(
                f"reward '{name}' does not apply (NaN) to item {item!r} {where} "
                f"({int(missing.sum())} of {len(samples)} items), but training needs a value for each; leave such "
                "items out of the training data, or put the reward in a WeightedSum with one that always applies"
            )
    return values


def checked_values(reward: Reward, samples: Samples, where: str = "") -> Tensor:
    """The checks of `score` that hold everywhere: NaN is allowed.

    Args:
        reward: Any object with the interface of `rslit.rewards.Reward`.
        samples: B samples.
        where: Words for the message that say when this happened; may be empty.

    Returns:
        (B,) float32, see `score`.

    Raises:
        RslitError: As `score`, but for NaN.
    """
    label = f"reward '{reward_name(reward)}'"
    place = f" {where}" if where else ""
    with torch.no_grad():
        try:
            values: object = reward(samples)
        except Exception as error:
            raise RslitError(f"{label} failed{place}: {_reason(error)}") from error
    if not isinstance(values, Tensor):
        raise RslitError(
            f"{label} returned {type(values).__name__}{place}; return a tensor of shape ({len(samples)},), "
            "one number per sample"
        )
    if values.shape != (len(samples),):
        hint = "; squeeze the last dimension" if values.shape == (len(samples), 1) else ""
        raise RslitError(
            f"{label} returned shape {tuple(values.shape)}{place}; "
            f"it must be ({len(samples)},), one number per sample{hint}"
        )
    if values.is_complex():
        raise RslitError(f"{label} returned dtype {values.dtype}{place}; return real numbers")
    result = values.detach().to(torch.float32, copy=True)
    infinite = torch.isinf(result)
    if infinite.any():
        row = int(infinite.nonzero()[0, 0])
        raise RslitError(
            f"{label} gave {values[row].item()} for item {samples.items[row]!r}{place}, infinite in float32; "
            "clip it to a finite value, or return NaN where the reward does not apply"
        )
    return result


def reward_name(reward: Reward) -> str:
    """The reward's name.

    Args:
        reward: Any object with the interface of `rslit.rewards.Reward`.

    Raises:
        RslitError: It has none, as a bare function given in place of a reward.
    """
    name: object = getattr(reward, "name", None)
    if not isinstance(name, str) or not name:
        what = getattr(reward, "__qualname__", type(reward).__qualname__)
        raise RslitError(
            f"reward {what} has no name; set its attribute `name`, or wrap a function in rslit.rewards.FunctionReward"
        )
    return name


def _reason(error: Exception) -> str:
    """The message of an error in user code, with the line it came from; ours are complete as they are."""
    if isinstance(error, RslitError):
        return str(error)
    # str(KeyError("x")) is "'x'": take the message itself.
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {message} ({Path(frame.filename).name}:{frame.lineno})"
