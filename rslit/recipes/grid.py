"""Grids of stages: experts x seeds x weightings of the rewards, written once and run as ordinary stages.

    axes: {seed: [0, 1, 2], reward: [risky, cautious], mu: {m25: "[0.25, 0.75]", m50: "[0.5, 0.5]"}}
    stages:
      expert: {over: [reward, seed], needs: [pretrain], run: "fit --config {recipe}/rewards/{reward}.yaml …"}

An axis is a list of words, or a mapping from word to what `{axis}` stands for. A stage over axes becomes one stage per
combination, named after it: `expert-risky-0`. Of a stage it needs, it needs the instances that agree with it on the
axes they share, or one of them by its name with the shared axes left out (`expert-risky`). In its `run`:

- `{seed}` is the value of an axis it is over;
- `{pretrain}` is the folder of the one instance of `pretrain` it needs;
- `{expert-risky}` that of one of several;
- a word with `{expert*}` is repeated for all of them, together with an option before it that ends in `+`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from rslit.errors import RslitError

__all__ = ["Axes", "expand", "read_axes"]

Axes = Mapping[str, Mapping[str, str]]
"""By axis, its values by name."""

_VALUE = re.compile(r"[A-Za-z0-9_]+")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True)
class _Instance:
    """One combination of a stage's axes: name of the value by axis."""

    stage: str
    point: Mapping[str, str]

    @property
    def name(self) -> str:
        return "-".join([self.stage, *self.point.values()])


def read_axes(entry: Mapping[str, Any], chosen: Mapping[str, str], where: str) -> dict[str, dict[str, str]]:
    """The axes of a recipe.

    Args:
        entry: What the recipe has under `axes`.
        chosen: Values to keep by axis, as `--set axis=a,b` gives them; of a list also values it does not hold.
        where: The recipe, for error messages.

    Raises:
        RslitError: An axis is empty, has a value twice or one that cannot be part of a name, or lacks a chosen value.
    """
    axes: dict[str, dict[str, str]] = {}
    for axis, values in entry.items():
        if not isinstance(values, list | dict) or not values:
            raise RslitError(f"{where}: axis '{axis}' must be a list or mapping of at least one value")
        named = values if isinstance(values, dict) else {str(value): value for value in values}
        if len(named) < len(values):
            raise RslitError(f"{where}: axis '{axis}' has a value twice; name each once")
        found = {str(name): str(value) for name, value in named.items()}
        if axis in chosen:
            names = [name for name in chosen[axis].split(",") if name]
            missing = [name for name in names if name not in found and isinstance(values, dict)]
            if missing or not names or len(set(names)) < len(names):
                raise RslitError(
                    f"--set {axis}={chosen[axis]}: give values of the axis '{axis}', each once; known: "
                    f"{', '.join(found)}"
                )
            found = {name: found.get(name, name) for name in names}
        for name in found:
            if not _VALUE.fullmatch(name):
                raise RslitError(
                    f"{where}: axis '{axis}': '{name}' cannot be part of a stage's name; use letters, digits and _, or "
                    f"a mapping such as {{a: {name}}}"
                )
        axes[str(axis)] = found
    return axes


def expand(stages: Mapping[str, Any], axes: Axes, where: str) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Replaces every stage over axes by its instances.

    Args:
        stages: Entries of the recipe by stage; those that are malformed are left for the reader to refuse.
        axes: See `read_axes`.
        where: The recipe, for error messages.

    Returns:
        Entries without `over`, and by stage over axes the names of its instances.

    Raises:
        RslitError: An unknown axis, two instances of one name, or a placeholder that stands for several instances.
    """
    instances = {str(name): _instances(str(name), entry, axes, where) for name, entry in stages.items()}
    expanded: dict[str, Any] = {}
    for name, entry in stages.items():
        if not isinstance(entry, dict):
            expanded[str(name)] = entry
            continue
        for own in instances[str(name)]:
            if own.name in expanded or (own.point and own.name in stages):
                raise RslitError(f"{where}: two stages are called '{own.name}'; rename one")
            expanded[own.name if own.point else name] = _instance(own, entry, instances, axes, where)
    groups = {name: tuple(own.name for own in found) for name, found in instances.items() if found[0].point}
    return expanded, groups


def _instances(stage: str, entry: Any, axes: Axes, where: str) -> list[_Instance]:
    over = entry.get("over", []) if isinstance(entry, dict) else []
    if not isinstance(over, list) or not all(isinstance(axis, str) for axis in over) or len(set(over)) < len(over):
        raise RslitError(f"{where}: stage '{stage}': 'over' must be a list of axes such as [seed], got {over!r:.60}")
    for axis in over:
        if axis not in axes:
            raise RslitError(f"{where}: stage '{stage}' is over '{axis}', which is no axis; known: {', '.join(axes)}")
    return [_Instance(stage, dict(zip(over, point, strict=True))) for point in product(*(axes[axis] for axis in over))]


def _instance(
    own: _Instance, entry: Mapping[str, Any], instances: Mapping[str, list[_Instance]], axes: Axes, where: str
) -> dict[str, Any]:
    """The entry of one instance, in the words of ordinary stages."""
    result = {key: value for key, value in entry.items() if key != "over"}
    needs = entry.get("needs", [])
    if not isinstance(needs, list) or not isinstance(entry.get("run"), str):
        return result  # refused by the reader
    # What a name stands for, directly needed or through others; the reader checks that it is needed at all.
    named = {stage: _agreeing(own, found) for stage, found in instances.items()}
    result["needs"] = [name for need in needs for name in _needed(str(need), own, named)]
    result["run"] = _filled(entry["run"], own, named, axes, f"{where}: stage '{own.name}'")
    return result


def _needed(need: str, own: _Instance, named: Mapping[str, list[_Instance]]) -> list[str]:
    """All instances of a stage that fit, or one of them by its short name; what is nobody's the reader refuses."""
    if need in named:
        return [one.name for one in named[need]]
    return [one.name for found in named.values() for one in found if one.point and _short(own, one) == need] or [need]


def _agreeing(own: _Instance, others: Sequence[_Instance]) -> list[_Instance]:
    """The instances of a stage that have `own`'s values on the axes they share."""
    return [other for other in others if all(own.point.get(axis, name) == name for axis, name in other.point.items())]


def _filled(run: str, own: _Instance, named: Mapping[str, list[_Instance]], axes: Axes, where: str) -> str:
    words = re.split(r"(\s+)", run)
    parts: list[str] = []
    for word in words:
        many = next((found for found in _PLACEHOLDER.finditer(word) if (found[1] or "").endswith("*")), None)
        if many is None:
            parts.append(_PLACEHOLDER.sub(lambda found: _one(found, own, named, axes, where), word))
            continue
        stage = many[1][:-1]
        if stage not in named:
            raise RslitError(f"{where}: {many[0]} stands for no stage; known: {', '.join(named)}")
        # --list+ A --list+ B: what appends is repeated with what it appends.
        option = parts[-2] if len(parts) > 1 and parts[-2].startswith("--") and parts[-2].endswith("+") else None
        head, tail = (
            _PLACEHOLDER.sub(lambda found: _one(found, own, named, axes, where), part)
            for part in (word[: many.start()], word[many.end() :])
        )
        each = [f"{head}{{{one.name}}}{tail}" for one in named[stage]]
        parts.append((f" {option} " if option else " ").join(each))
    return "".join(parts)


def _one(found: re.Match[str], own: _Instance, named: Mapping[str, list[_Instance]], axes: Axes, where: str) -> str:
    """What one placeholder becomes; those that are nobody's here are left for the reader."""
    name = found[1]
    if name is None:
        return found[0]
    if name in own.point:
        return axes[name][own.point[name]].replace("{", "{{").replace("}", "}}")
    if name == own.stage:
        return f"{{{own.name}}}"
    if name in named and named[name][0].point:
        if len(named[name]) > 1:
            several = ", ".join(f"{{{_short(own, one)}}}" for one in named[name])
            raise RslitError(f"{where}: {{{name}}} stands for several; write {several}, or {{{name}*}} for all")
        return f"{{{named[name][0].name}}}"
    for instances in named.values():
        for one in instances:
            if one.point and name == _short(own, one):
                return f"{{{one.name}}}"
    if name in axes:
        raise RslitError(f"{where}: uses {{{name}}} but is not over '{name}'; add it to 'over'")
    return found[0]


def _short(own: _Instance, one: _Instance) -> str:
    """An instance's name with the axes left out that both are over."""
    return "-".join([one.stage, *(value for axis, value in one.point.items() if axis not in own.point)])
