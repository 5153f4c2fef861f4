"""A recipe: the stages of one experiment, read from YAML and checked before anything runs."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rslit.errors import RslitError
from rslit.recipes.grid import Axis, expand, read_axis, set_axis
from rslit.recipes.stage import BRACES, NAME, Stage, a_mapping, a_text, a_word, check_keys, known_names, read_stage

__all__ = ["Recipe", "Stage", "config_files", "load_recipe"]

_OWN_PLACEHOLDERS = ("root", "recipe")


@dataclass(frozen=True)
class Recipe:
    """The stages of one experiment.

    Attributes:
        name: Runs go to `runs/<name>` unless told otherwise.
        path: The recipe file.
        vars: Values of the recipe's own placeholders, as text.
        axes: What grid stages may be repeated over.
        written: The stages as in the file, every one after those it needs and otherwise in the order of the file.
        stages: The same with each grid stage replaced by its instances: what is run.
        slurm: Submitit parameters of all stages.
    """

    name: str
    path: Path
    vars: Mapping[str, str]
    axes: Mapping[str, Axis]
    written: Mapping[str, Stage]
    stages: Mapping[str, Stage]
    slurm: Mapping[str, Any]

    def instances(self, name: str) -> list[str]:
        """Names of the stages that `name` stands for: a stage's own, or those of a grid stage's instances."""
        return [stage.name for stage in self.stages.values() if name in (stage.name, stage.written)]

    def upstream(self, name: str) -> set[str]:
        """Names of the stages that `name` needs, directly or through others."""
        found: set[str] = set()
        waiting = list(self.stages[name].needs)
        while waiting:
            need = waiting.pop()
            if need not in found:
                found.add(need)
                waiting.extend(self.stages[need].needs)
        return found

    def downstream(self, name: str) -> set[str]:
        """Names of the stages that need `name`, directly or through others."""
        return {other for other in self.stages if name in self.upstream(other)}

    def with_vars(self, settings: Sequence[str]) -> Recipe:
        """The recipe with some variables or axes set.

        Args:
            settings: Texts `key=value`, or `axis=value,value`; a later one wins.

        Raises:
            RslitError: A setting has no `=`, names neither a variable nor an axis of the recipe, or gives an axis no
                values, one twice, or one that an axis of named values does not have.
        """
        values, axes = dict(self.vars), dict(self.axes)
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise RslitError(f"--set {setting}: write it as --set key=value")
            if key in axes:
                axes[key] = set_axis(axes[key], value)
            elif key in values:
                values[key] = value
            else:
                known = known_names(key, [*values, *axes])
                raise RslitError(f"--set {setting}: {self.path} has no variable or axis '{key}'; {known}")
        return _expanded(replace(self, vars=values, axes=axes))

    def command(self, name: str, root: Path) -> tuple[str, ...]:
        """Words of a stage's command with the folders below `root` filled in."""
        folders = {"root": str(root), "recipe": str(self.path.parent)}
        folders |= {stage: str(root / stage) for stage in self.stages}
        return tuple(_fill(word, {**self.vars, **folders}) for word in self.stages[name].run)

    def portable_command(self, name: str) -> tuple[str, ...]:
        """Words of a stage's command with folders left as `{root}` and `{recipe}`.

        It does not change when the root or the recipe's folder is moved, so it is what fingerprints are made of.
        """
        folders = {"root": "{root}", "recipe": "{recipe}"}
        folders |= {stage: f"{{root}}/{stage}" for stage in self.stages}
        return tuple(_fill(word, {**self.vars, **folders}) for word in self.stages[name].run)


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe file.

    Args:
        path: A YAML file with the keys `name`, `stages` and, if wanted, `vars`, `axes` and `slurm`.

    Raises:
        RslitError: The file is missing or not YAML, has an unknown key or verb, a stage without `run`, an unknown or
            circular need, an axis without values, with one twice or that no stage uses, a name used for two things,
            or a placeholder that does not exist, stands for several stages or for one outside the needs.
    """
    path = path.absolute()
    content = a_mapping(_read_yaml(path), f"recipe {path}")
    check_keys(content, ("name", "vars", "axes", "stages", "slurm"), f"recipe {path}")
    name = content.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RslitError(f"recipe {path}: 'name' must be one word of letters, digits, _ and -, got {name!r}")
    variables = {
        a_word(key, f"recipe {path}: variable"): a_text(value, f"recipe {path}: variable '{key}'")
        for key, value in a_mapping(content.get("vars", {}), f"recipe {path}: 'vars'").items()
    }
    entries = a_mapping(content.get("stages", {}), f"recipe {path}: 'stages'")
    if not entries:
        raise RslitError(f"recipe {path}: no stages; add a mapping 'stages'")
    stages = {str(key): read_stage(key, value, path) for key, value in entries.items()}
    axes = {
        str(key): read_axis(key, value, path)
        for key, value in a_mapping(content.get("axes", {}), f"recipe {path}: 'axes'").items()
    }
    _check_names(variables, axes, stages, path)
    slurm = a_mapping(content.get("slurm", {}), f"recipe {path}: 'slurm'")
    return _expanded(Recipe(name, path, variables, axes, _ordered(stages, path), {}, slurm))


def config_files(command: Sequence[str]) -> Iterator[str]:
    """Yields the words of a command that stand after `--config`."""
    for option, word in zip(["", *command], command, strict=False):
        if option in ("--config", "-c"):
            yield word
        elif word.startswith("--config="):
            yield word.partition("=")[2]


def _expanded(recipe: Recipe) -> Recipe:
    stages = expand(recipe.written, recipe.axes, {*recipe.vars, *recipe.axes, *_OWN_PLACEHOLDERS}, recipe.path)
    recipe = replace(recipe, stages=_ordered(stages, recipe.path))
    for stage in recipe.stages.values():
        _check_placeholders(recipe, stage)
    return recipe


def _check_names(
    variables: Mapping[str, str], axes: Mapping[str, Axis], stages: Mapping[str, Stage], path: Path
) -> None:
    kinds: dict[str, str] = dict.fromkeys(_OWN_PLACEHOLDERS, "a placeholder of every recipe")
    for kind, names in (("a variable", variables), ("an axis", axes), ("a stage", stages)):
        for name in names:
            if name in kinds:
                other = kinds[name] if name in _OWN_PLACEHOLDERS else f"{kinds[name]} and {kind}"
                raise RslitError(f"recipe {path}: the name '{name}' is {other}; choose another")
            kinds[name] = kind


def _ordered(stages: Mapping[str, Stage], path: Path) -> dict[str, Stage]:
    rank = {name: index for index, name in enumerate(stages)}
    for stage in stages.values():
        for need in stage.needs:
            if need not in stages:
                known = known_names(need, stages)
                raise RslitError(f"recipe {path}: stage '{stage.name}' needs '{need}', which is no stage; {known}")
    sorter = graphlib.TopologicalSorter({name: stage.needs for name, stage in stages.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        # The error lists each node before the one that needs it; read backwards, an arrow means "needs".
        cycle = list(reversed(error.args[1]))[1:]
        first = cycle.index(min(cycle, key=rank.__getitem__))
        cycle = [*cycle[first:], *cycle[: first + 1]]
        raise RslitError(
            f"recipe {path}: the needs run in a circle: {' -> '.join(cycle)}; remove one of them"
        ) from None
    ready: list[str] = []
    ordered: dict[str, Stage] = {}
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=rank.__getitem__)
        name, *ready = ready
        ordered[name] = stages[name]
        sorter.done(name)
    return ordered


def _check_placeholders(recipe: Recipe, stage: Stage) -> None:
    where = f"recipe {recipe.path}: stage '{stage.name}'"
    allowed = {*recipe.vars, *_OWN_PLACEHOLDERS, stage.name, *recipe.upstream(stage.name)}
    for word in stage.run:
        for found in BRACES.finditer(word):
            name = found[1]
            if name is None and found[0] in "{}":
                raise RslitError(f"{where}: lone '{found[0]}' in '{word}'; write {{{{ or }}}} for a brace")
            if name is None or name in allowed:
                continue
            if name in recipe.stages:
                raise RslitError(f"{where} uses {{{name}}} but does not need '{name}'; add it to needs")
            raise RslitError(
                f"{where}: unknown placeholder {{{name}}}; {known_names(name, allowed)}; write {{{{ and }}}} for braces"
            )


def _fill(word: str, values: Mapping[str, str]) -> str:
    return BRACES.sub(lambda found: found[0][0] if found[1] is None else values[found[1]], word)


def _read_yaml(path: Path) -> object:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise RslitError(f"recipe {path}: cannot be read ({error.strerror}); give the path of a recipe file") from None
    except UnicodeDecodeError:
        raise RslitError(f"recipe {path}: not a text file in UTF-8; give the path of a recipe file") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RslitError(f"recipe {path}{line}: not YAML ({error.problem}); mend it there") from None
    except yaml.YAMLError as error:
        raise RslitError(f"recipe {path}: not YAML ({error}); mend it there") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
