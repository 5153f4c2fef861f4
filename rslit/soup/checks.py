"""What has to hold before weights are interpolated: each check raises one line that names the files and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup.blend import FLOATS, tiles
from rslit.soup.ingredient import Ingredient

__all__ = ["check_ingredients", "check_states"]


def check_ingredients(ingredients: Mapping[str, Ingredient]) -> None:
    """Ingredients of one soup come from one task and one initialisation and train the same weights.

    Raises:
        RslitError: They do not.
    """
    first = next(iter(ingredients.values()))
    for other in list(ingredients.values())[1:]:
        pair = f"{first.path} and {other.path}"
        if first.info.task != other.info.task:
            raise RslitError(
                f"{pair} are of different tasks ({first.info.task}, {other.info.task}); soup one task's experts"
            )
        if first.info.initialisation != other.info.initialisation:
            raise RslitError(
                f"{pair} are strangers: they started from different initialisations ({first.info.initialisation[:15]}, "
                f"{other.info.initialisation[:15]}); train both from the same one"
            )
        differing = sorted(set(first.info.trainable_keys) ^ set(other.info.trainable_keys))
        if differing:
            raise RslitError(f"{pair} train different weights ({_few(differing)}); train the same weights in both")


def check_states(
    states: Mapping[str, Mapping[str, Tensor]], trainable: Collection[str], paths: Mapping[str, str]
) -> None:
    """Experts have the same keys, shapes and dtypes, equal frozen buffers, and are not the same weights.

    Args:
        states: State dict by expert name.
        trainable: Keys that are interpolated; all others are frozen buffers.
        paths: Where an expert was read, for the messages.

    Raises:
        RslitError: They do not.
    """
    labels = {name: f"expert '{name}'" + (f" ({paths[name]})" if name in paths else "") for name in states}
    (name, first), *others = states.items()
    for key in trainable:
        if first[key].dtype not in FLOATS:
            dtype = first[key].dtype
            raise RslitError(
                f"{labels[name]}: weight '{key}' has dtype {dtype}, which cannot be interpolated; freeze it"
            )
    for other_name, other in others:
        _check_layout(labels[name], first, labels[other_name], other)
    for (one, a), (two, b) in combinations(states.items(), 2):
        if all(_same(a[key], b[key]) for key in trainable):
            pair = f"{labels[one]} and {labels[two]}"
            raise RslitError(f"{pair} are the same weights: interpolating changes nothing; give different experts")
    for other_name, other in others:
        for key in first:
            if key not in trainable and not _same(first[key], other[key]):
                raise RslitError(
                    f"frozen buffer '{key}' differs between {labels[name]} and {labels[other_name]}; freeze it after "
                    "pre-training, or list it among the trainable keys to interpolate it"
                )


def _check_layout(label: str, first: Mapping[str, Tensor], other_label: str, other: Mapping[str, Tensor]) -> None:
    if not first.keys() & other.keys():
        raise RslitError(f"{label} and {other_label} have no weight in common; give experts of one policy")
    if first.keys() != other.keys():
        differing = sorted(first.keys() ^ other.keys())
        raise RslitError(
            f"{label} and {other_label} have different keys ({_few(differing)}); give experts of one policy"
        )
    for key, tensor in first.items():
        if tensor.shape != other[key].shape:
            shapes = f"{tuple(tensor.shape)} in {label}, {tuple(other[key].shape)} in {other_label}"
            raise RslitError(f"shapes of '{key}' differ: {shapes}; give experts of one policy")
        if tensor.dtype != other[key].dtype:
            dtypes = f"{tensor.dtype} in {label}, {other[key].dtype} in {other_label}"
            raise RslitError(f"dtypes of '{key}' differ: {dtypes}; save the experts in one dtype")


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit (so that NaN equals itself), stopping at the first tile that differs."""
    return all(torch.equal(_bits(x), _bits(y)) for x, y in tiles((a.detach(), b.detach())))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _few(keys: list[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
