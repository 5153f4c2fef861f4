"""What has to hold before weights are interpolated: each check raises one line that names the files and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup.adapters import SPACES, Adapter, check_factors, factor_of, lora_layers
from rslit.soup.blend import FLOATS, tiles
from rslit.soup.info import IngredientInfo
from rslit.soup.ingredient import Ingredient, fingerprint

__all__ = ["adapter_of", "base_of", "check_ingredients", "check_lora", "check_states", "origin", "resolve_space"]


def adapter_of(info: IngredientInfo) -> dict[str, Any] | None:
    """PEFT's adapter config of a LoRA ingredient, else None."""
    adapter = info.config.get("adapter")
    return adapter if isinstance(adapter, dict) else None


def base_of(info: IngredientInfo) -> dict[str, str] | None:
    """Name and fingerprint of the model from a hub or folder that was fine-tuned; None for other policies."""
    base = info.config.get("base")
    return base if isinstance(base, dict) and {"name", "fingerprint"} <= base.keys() else None


def origin(info: IngredientInfo, space: str) -> tuple[str, str]:
    """What the experts of one soup have in common: the task, and the weights that they started from.

    In space delta that is the base model: the adapters' own initialisations may differ.
    """
    base = base_of(info)
    return info.task, base["fingerprint"] if space == "delta" and base else info.initialisation


def resolve_space(space: str | None, names: Collection[str], adapters: Collection[str]) -> str:
    """The space to interpolate in.

    Args:
        space: As asked for; None chooses `factors` for LoRA, else `weights`.
        names: The experts.
        adapters: Those of them that are LoRA.

    Raises:
        RslitError: Only some are LoRA, or the space is not for them.
    """
    plain = [name for name in names if name not in adapters]
    if adapters and plain:
        lora = next(name for name in names if name in adapters)
        raise RslitError(f"expert '{lora}' is LoRA, expert '{plain[0]}' is not; soup experts of one kind")
    known = SPACES if adapters else ("weights",)
    if space is not None and space not in known:
        kind = "LoRA experts" if adapters else "experts that are not LoRA"
        raise RslitError(f"space '{space}': {kind} are interpolated in space {' or '.join(known)}")
    return space or known[0]


def check_ingredients(ingredients: Mapping[str, Ingredient], space: str) -> None:
    """Ingredients of one soup come from one task, base and initialisation and train the same weights.

    The initialisation itself may be among them: a soup towards it (WiSE, Wortsman et al. 2022).

    Raises:
        RslitError: They do not.
    """
    for ingredient in ingredients.values():
        if space in SPACES and base_of(ingredient.info) is None:
            raise RslitError(f"{ingredient.path}: has an adapter but names no base (config.base); write it again")
    first = next(iter(ingredients.values()))
    for other in list(ingredients.values())[1:]:
        pair = f"{first.path} and {other.path}"
        if first.info.task != other.info.task:
            raise RslitError(
                f"{pair} are of different tasks ({first.info.task}, {other.info.task}); soup one task's experts"
            )
        bases = base_of(first.info), base_of(other.info)
        if space in SPACES and bases[0] and bases[1] and bases[0]["fingerprint"] != bases[1]["fingerprint"]:
            given = ", ".join(f"{base['name']} {base['fingerprint'][:15]}" for base in bases if base)
            raise RslitError(f"{pair} are adapters of different bases ({given}); soup adapters of one base model")
        alike = origin(first.info, space) == origin(other.info, space)
        if not (alike or _starts(first, other) or _starts(other, first)):
            remedy = " or use space delta" if space == "factors" else ""
            raise RslitError(
                f"{pair} are strangers: they started from different initialisations ({first.info.initialisation[:15]}, "
                f"{other.info.initialisation[:15]}); train both from the same one{remedy}"
            )
        differing = sorted(set(first.info.trainable_keys) ^ set(other.info.trainable_keys))
        if differing:
            raise RslitError(f"{pair} train different weights ({_few(differing)}); train the same weights in both")


def _starts(first: Ingredient, other: Ingredient) -> bool:
    """Whether `other` was trained from `first` itself."""
    return other.info.initialisation == fingerprint(first.state_dict())


def check_lora(
    states: Mapping[str, Mapping[str, Tensor]],
    adapters: Mapping[str, Adapter],
    space: str,
    paths: Mapping[str, str],
) -> None:
    """LoRA experts are of plain LoRA on linear layers and, in space factors, of one rank and scaling.

    Args:
        states: State dict by expert name.
        adapters: Adapter config by expert name.
        space: "factors" or "delta".
        paths: Where an expert was read, for the messages.

    Raises:
        RslitError: They are not.
    """
    labels = _labels(states, paths)
    layers = {name: lora_layers(state, adapters[name], labels[name]) for name, state in states.items()}
    if space == "factors":
        check_factors(layers, labels)


def check_states(
    states: Mapping[str, Mapping[str, Tensor]],
    trainable: Collection[str],
    paths: Mapping[str, str],
    space: str = "weights",
) -> None:
    """Experts have the same keys, shapes and dtypes, equal frozen buffers, and are not the same weights.

    Args:
        states: State dict by expert name.
        trainable: Keys that are interpolated; all others are frozen buffers.
        paths: Where an expert was read, for the messages.
        space: In space delta the ranks of LoRA factors may differ.

    Raises:
        RslitError: They do not.
    """
    labels = _labels(states, paths)
    (name, first), *others = states.items()
    for key in trainable:
        if first[key].dtype not in FLOATS:
            dtype = first[key].dtype
            raise RslitError(
                f"{labels[name]}: weight '{key}' has dtype {dtype}, which cannot be interpolated; freeze it"
            )
    for other_name, other in others:
        _check_layout(labels[name], first, labels[other_name], other, space)
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


def _labels(names: Collection[str], paths: Mapping[str, str]) -> dict[str, str]:
    return {name: f"expert '{name}'" + (f" ({paths[name]})" if name in paths else "") for name in names}


def _check_layout(
    label: str, first: Mapping[str, Tensor], other_label: str, other: Mapping[str, Tensor], space: str
) -> None:
    if not first.keys() & other.keys():
        raise RslitError(f"{label} and {other_label} have no weight in common; give experts of one policy")
    if first.keys() != other.keys():
        differing = sorted(first.keys() ^ other.keys())
        raise RslitError(
            f"{label} and {other_label} have different keys ({_few(differing)}); give experts of one policy"
        )
    for key, tensor in first.items():
        if _shape(key, tensor, space) != _shape(key, other[key], space):
            shapes = f"{tuple(tensor.shape)} in {label}, {tuple(other[key].shape)} in {other_label}"
            raise RslitError(f"shapes of '{key}' differ: {shapes}; give experts of one policy")
        if tensor.dtype != other[key].dtype:
            dtypes = f"{tensor.dtype} in {label}, {other[key].dtype} in {other_label}"
            raise RslitError(f"dtypes of '{key}' differ: {dtypes}; save the experts in one dtype")


def _shape(key: str, tensor: Tensor, space: str) -> tuple[int, ...]:
    """The shape, in space delta without a LoRA factor's rank."""
    named = factor_of(key) if space == "delta" else None
    shape = tuple(tensor.shape)
    return shape if named is None else shape[1:] if named[1] == "A" else shape[:1]


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit (so that NaN equals itself), stopping at the first tile that differs."""
    return a.shape == b.shape and all(torch.equal(_bits(x), _bits(y)) for x, y in tiles((a.detach(), b.detach())))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _few(keys: list[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
