"""A grid of stages: those of a recipe that are repeated over axes, written out as ordinary stages.

A stage `expert` over the axes `reward` and `seed` becomes `expert-risky-0`, `expert-risky-1` and so on. It needs those
instances of a needed grid stage that have its own values on the axes both share. In `run` an axis stands for its
value, and a grid stage for the folder of one instance:

- `{expert}`: the only instance there is with the stage's own values on the shared axes;
- `{expert[reward=risky]}`: the one of these with a certain value on an axis;
- `{expert[*]}`: all of these, the word being repeated for each; in it every axis of `expert` stands for its value.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rslit.errors import RslitError
from rslit.recipes.stage import BRACES, Stage, a_text, a_word, known_names

__all__ = ["Axis", "expand", "read_axis", "set_axis"]

_VALUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_REFERENCE = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")


@dataclass(frozen=True)
class Axis:
    """What grid stages are repeated over.

    Attributes:
        values: By the short name that goes into a stage's name, what the placeholder stands for.
        named: Whether the recipe gives values and names apart, so that no value can be set that it does not name.
        where: What messages call it.
    """

    values: Mapping[str, str]
    named: bool
    where: str


@dataclass(frozen=True)
class _Instance:
    """One stage of a grid: `point` holds the name of its value on each of its axes."""

    stage: Stage
    point: Mapping[str, str]

    def agrees(self, point: Mapping[str, str]) -> bool:
        return all(self.point[axis] == name for axis, name in point.items() if axis in self.point)


def read_axis(name: object, content: object, path: Path) -> Axis:
    """Reads an axis of a recipe.

    Args:
        name: The axis.
        content: A list of values, or a mapping of short names to values.
        path: The recipe, for messages.

    Raises:
        RslitError: The axis is empty, has a value twice, or one that cannot be part of a stage's name.
    """
    where = f"recipe {path}: axis '{a_word(name, f'recipe {path}: axis')}'"
    if isinstance(content, dict):
        values = {a_text(key, f"{where}: a name"): a_text(value, f"{where}: '{key}'") for key, value in content.items()}
        return _checked(Axis(values, named=True, where=where), list(values))
    if not isinstance(content, list):
        raise RslitError(f"{where} must be a list of values or a mapping of short names to values, got {content!r:.60}")
    return _listed([a_text(value, f"{where}: a value") for value in content], where)


def set_axis(axis: Axis, text: str) -> Axis:
    """The axis with other values.

    Args:
        axis: The axis of the recipe.
        text: Values, or names of values, with commas between them.

    Raises:
        RslitError: As for `read_axis`, or a name that the axis does not have.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not axis.named:
        return _listed(names, axis.where)
    for name in names:
        if name not in axis.values:
            raise RslitError(f"{axis.where} has no value named '{name}'; {known_names(name, axis.values)}")
    return _checked(replace(axis, values={name: axis.values[name] for name in names}), names)


def expand(
    stages: Mapping[str, Stage], axes: Mapping[str, Axis], taken: Collection[str], path: Path
) -> dict[str, Stage]:
    """Replaces each grid stage by its instances.

    Args:
        stages: As written, every one after those it needs.
        axes: By name.
        taken: Names that no instance may have.
        path: The recipe, for messages.

    Returns:
        Stages whose `run` holds the placeholders of an ordinary recipe only.

    Raises:
        RslitError: A stage is over an axis that is none or twice over one, no stage is over an axis, two stages would
            have one name, or a placeholder stands for several stages or selects none.
    """
    for axis in axes:
        if not any(axis in stage.over for stage in stages.values()):
            raise RslitError(f"recipe {path}: no stage is over the axis '{axis}'; remove it or add it to an 'over'")
    found: dict[str, _Instance] = {}
    for stage in stages.values():
        _check_over(stage, axes, path)
        for names in itertools.product(*(axes[axis].values for axis in stage.over)):
            name = "-".join([stage.name, *names])
            if name in found or name in taken or (name in stages and name != stage.name):
                raise RslitError(
                    f"recipe {path}: an instance of '{stage.name}' is named '{name}', as something else is; "
                    "rename one of them"
                )
            found[name] = _Instance(replace(stage, name=name), dict(zip(stage.over, names, strict=True)))
    upstream: dict[str, dict[str, _Instance]] = {}
    for name, instance in found.items():
        needs = [
            other
            for need in instance.stage.needs
            for other, needed in found.items()
            if needed.stage.written == need and needed.agrees(instance.point)
        ]
        found[name] = replace(instance, stage=replace(instance.stage, needs=tuple(needs)))
        upstream[name] = {other: found[other] for need in needs for other in [need, *upstream[need]]}
    return {
        name: replace(instance.stage, run=tuple(_Words(instance, upstream[name], stages, axes, path)))
        for name, instance in found.items()
    }


class _Words:
    """The words of an instance's `run` with axes and grid stages filled in.

    Braces that are no business of the grid's are left as they are, and those of a value doubled.
    """

    def __init__(
        self,
        instance: _Instance,
        upstream: Mapping[str, _Instance],
        stages: Mapping[str, Stage],
        axes: Mapping[str, Axis],
        path: Path,
    ) -> None:
        self._instance = instance
        self._upstream = upstream
        self._stages = stages
        self._axes = axes
        self._where = f"recipe {path}: stage '{instance.stage.written}'"

    def __iter__(self) -> Iterator[str]:
        for word in self._instance.stage.run:
            repeated = {name for name, selection in map(_reference, BRACES.findall(word)) if selection == "*"}
            if len(repeated) > 1:
                raise RslitError(
                    f"{self._where}: '{word}' repeats over {' and '.join(sorted(repeated))}; write two words"
                )
            ones: Sequence[_Instance | None] = self._candidates(repeated.pop(), {}) if repeated else [None]
            for one in ones:
                yield BRACES.sub(functools.partial(self._filled, one=one), word)

    def _filled(self, found: re.Match[str], one: _Instance | None) -> str:
        """What stands for a placeholder in a word, or in its repetition for `one`."""
        name, selection = _reference(found[1] or "")
        point = {**(one.point if one else {}), **self._instance.point}
        if name in point and selection is None:
            return self._axes[name].values[point[name]].replace("{", "{{").replace("}", "}}")
        if name in self._axes:
            raise RslitError(f"{self._where} uses {found[0]} but is not over '{name}'; add it to 'over'")
        if name == self._instance.stage.written and selection is None:
            return f"{{{self._instance.stage.name}}}"
        if name not in self._stages or (selection is None and not self._stages[name].over):
            return found[0]
        if selection == "*" and one is not None:
            return f"{{{one.stage.name}}}"
        chosen = self._candidates(name, self._selected(name, selection))
        if len(chosen) != 1:
            names = ", ".join(candidate.stage.name for candidate in chosen)
            axis = next(axis for axis in self._stages[name].over if len({other.point[axis] for other in chosen}) > 1)
            raise RslitError(
                f"{self._where}: {found[0]} is several stages ({names}); select one by '{axis}', as in "
                f"{{{name}[{axis}={chosen[0].point[axis]}]}}, or repeat the word for all with {{{name}[*]}}"
            )
        return f"{{{chosen[0].stage.name}}}"

    def _selected(self, name: str, selection: str | None) -> dict[str, str]:
        point = {}
        for part in selection.split(",") if selection is not None else []:
            axis, _, value = (text.strip() for text in part.partition("="))
            if axis not in self._stages[name].over:
                raise RslitError(
                    f"{self._where}: {{{name}[{selection}]}} selects by '{axis}'; write {name}[axis=value] with an "
                    f"axis '{name}' is over ({', '.join(self._stages[name].over) or 'none'})"
                )
            if value not in self._axes[axis].values:
                raise RslitError(
                    f"{self._where}: {{{name}[{selection}]}}: axis '{axis}' has no value '{value}'; "
                    f"{known_names(value, self._axes[axis].values)}"
                )
            point[axis] = value
        return point

    def _candidates(self, name: str, selected: Mapping[str, str]) -> list[_Instance]:
        """Instances of a stage upstream that have the selected values, and else those of this instance."""
        if name not in self._stages:
            raise RslitError(f"{self._where}: {{{name}[*]}}: no stage '{name}'; {known_names(name, self._stages)}")
        point = {**self._instance.point, **selected}
        above = [other for other in self._upstream.values() if other.stage.written == name]
        if not above:
            raise RslitError(f"{self._where} uses {{{name}}} but does not need '{name}'; add it to needs")
        chosen = [other for other in above if other.agrees(point)]
        if not chosen:
            values = ", ".join(f"{axis}={value}" for axis, value in selected.items())
            names = ", ".join(other.stage.name for other in above)
            raise RslitError(
                f"{self._where}: {{{name}[{values}]}} is none of those that '{self._instance.stage.name}' needs; take "
                f"one of {names}"
            )
        order = list(itertools.product(*(self._axes[axis].values for axis in self._stages[name].over)))
        return sorted(chosen, key=lambda other: order.index(tuple(other.point.values())))


def _reference(text: str) -> tuple[str, str | None]:
    """A placeholder's name and what stands in its brackets."""
    found = _REFERENCE.fullmatch(text)
    return (found[1], found[2]) if found else (text, None)


def _listed(values: list[str], where: str) -> Axis:
    return _checked(Axis({value: value for value in values}, named=False, where=where), values)


def _checked(axis: Axis, names: list[str]) -> Axis:
    if not names:
        raise RslitError(f"{axis.where} has no values; give it one or more, such as [0, 1, 2]")
    for name in names:
        if names.count(name) > 1:
            raise RslitError(f"{axis.where} has the value '{name}' twice; remove one")
        if not _VALUE_NAME.fullmatch(name):
            raise RslitError(
                f"{axis.where}: '{name}' cannot be part of a stage's name (letters, digits, _ . and -); give it a "
                "short name in a mapping of short names to values"
            )
    return axis


def _check_over(stage: Stage, axes: Mapping[str, Axis], path: Path) -> None:
    for axis in stage.over:
        if axis not in axes:
            raise RslitError(
                f"recipe {path}: stage '{stage.name}' is over '{axis}', which is no axis; {known_names(axis, axes)}"
            )
        if stage.over.count(axis) > 1:
            raise RslitError(f"recipe {path}: stage '{stage.name}' is over '{axis}' twice; remove one")
