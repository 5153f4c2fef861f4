"""A recipe: the stages of one experiment, read from YAML and checked before anything runs."""

from __future__ import annotations

import difflib
import graphlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rslit.errors import RslitError

__all__ = ["VERBS", "Recipe", "Stage", "config_files", "load_recipe"]

VERBS = ("fit", "validate", "test", "predict", "soup", "front")
"""The commands of `rslit` that a stage may run."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_OWN_PLACEHOLDERS = ("root", "recipe")


@dataclass(frozen=True)
class Stage:
    """One training or evaluation of a recipe.

    Attributes:
        name: The stage's name and, below the root, its folder.
        run: Argument line of `rslit`, split into words; words may hold placeholders.
        needs: Stages that must be done first, as written in the recipe.
        slurm: Submitit parameters of this stage; they win over the recipe's.
    """

    name: str
    run: tuple[str, ...]
    needs: tuple[str, ...]
    slurm: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """The stages of one experiment.

    Attributes:
        name: Runs go to `runs/<name>` unless told otherwise.
        path: The recipe file.
        vars: Values of the recipe's own placeholders, as text.
        stages: By name, every stage after those it needs and otherwise in the order of the file.
        slurm: Submitit parameters of all stages.
    """

    name: str
    path: Path
    vars: Mapping[str, str]
    stages: Mapping[str, Stage]
    slurm: Mapping[str, Any]

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
        """The recipe with some variables set.

        Args:
            settings: Texts `key=value`; a later one wins.

        Raises:
            RslitError: A setting has no `=` or names a variable that the recipe does not have.
        """
        values = dict(self.vars)
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise RslitError(f"--set {setting}: write it as --set key=value")
            if key not in values:
                raise RslitError(f"--set {setting}: {self.path} has no variable '{key}'; {_known(key, values)}")
            values[key] = value
        return replace(self, vars=values)

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
        path: A YAML file with the keys `name`, `stages` and, if wanted, `vars` and `slurm`.

    Raises:
        RslitError: The file is missing or not YAML, has an unknown key or verb, a stage without `run`, an unknown or
            circular need, or a placeholder that does not exist or names a stage outside the needs.
    """
    path = path.absolute()
    content = _mapping(_read_yaml(path), f"recipe {path}")
    _check_keys(content, ("name", "vars", "stages", "slurm"), f"recipe {path}")
    name = content.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RslitError(f"recipe {path}: 'name' must be one word of letters, digits, _ and -, got {name!r}")
    variables = {
        _word(key, f"recipe {path}: variable"): _text(value, f"recipe {path}: variable '{key}'")
        for key, value in _mapping(content.get("vars", {}), f"recipe {path}: 'vars'").items()
    }
    entries = _mapping(content.get("stages", {}), f"recipe {path}: 'stages'")
    if not entries:
        raise RslitError(f"recipe {path}: no stages; add a mapping 'stages'")
    stages = {str(key): _stage(key, value, path) for key, value in entries.items()}
    for taken in [*variables, *stages]:
        if taken in _OWN_PLACEHOLDERS or (taken in variables and taken in stages):
            other = "a placeholder of every recipe" if taken in _OWN_PLACEHOLDERS else "a variable and a stage"
            raise RslitError(f"recipe {path}: the name '{taken}' is {other}; choose another")
    slurm = _mapping(content.get("slurm", {}), f"recipe {path}: 'slurm'")
    recipe = Recipe(name, path, variables, _ordered(stages, path), slurm)
    for stage in recipe.stages.values():
        _check_placeholders(recipe, stage)
    return recipe


def config_files(command: Sequence[str]) -> Iterator[str]:
    """Yields the words of a command that stand after `--config`."""
    for option, word in zip(["", *command], command, strict=False):
        if option in ("--config", "-c"):
            yield word
        elif word.startswith("--config="):
            yield word.partition("=")[2]


def _stage(name: object, entry: object, path: Path) -> Stage:
    word = _word(name, f"recipe {path}: stage")
    where = f"recipe {path}: stage '{word}'"
    content = _mapping(entry, where)
    _check_keys(content, ("needs", "run", "slurm"), where)
    needs = content.get("needs", [])
    if not isinstance(needs, list) or not all(isinstance(need, str) for need in needs):
        raise RslitError(f"{where}: 'needs' must be a list of stages such as [pretrain], got {needs!r}")
    line = content.get("run")
    if not isinstance(line, str) or not line.strip():
        raise RslitError(f"{where} has no 'run'; give it the arguments of rslit, such as 'fit --config a.yaml'")
    try:
        # shlex would turn the backslash-newline of a literal block into a word of its own.
        words = tuple(shlex.split(line.replace("\\\n", " ")))
    except ValueError as error:
        raise RslitError(f"{where}: 'run' is not a shell line ({error}); balance its quotes") from None
    if words[0] not in VERBS:
        raise RslitError(f"{where}: 'run' starts with '{words[0]}', not with a command; {_known(words[0], VERBS)}")
    return Stage(word, words, tuple(needs), _mapping(content.get("slurm", {}), f"{where}: 'slurm'"))


def _ordered(stages: Mapping[str, Stage], path: Path) -> dict[str, Stage]:
    rank = {name: index for index, name in enumerate(stages)}
    for stage in stages.values():
        for need in stage.needs:
            if need not in stages:
                raise RslitError(
                    f"recipe {path}: stage '{stage.name}' needs '{need}', which is no stage; {_known(need, stages)}"
                )
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
        for found in _BRACES.finditer(word):
            name = found[1]
            if name is None and found[0] in "{}":
                raise RslitError(f"{where}: lone '{found[0]}' in '{word}'; write {{{{ or }}}} for a brace")
            if name is None or name in allowed:
                continue
            if name in recipe.stages:
                raise RslitError(f"{where} uses {{{name}}} but does not need '{name}'; add it to needs")
            raise RslitError(
                f"{where}: unknown placeholder {{{name}}}; {_known(name, allowed)}; write {{{{ and }}}} for braces"
            )


def _fill(word: str, values: Mapping[str, str]) -> str:
    return _BRACES.sub(lambda found: found[0][0] if found[1] is None else values[found[1]], word)


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


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RslitError(f"{where} must be a mapping of keys to values, got {value!r:.60}")
    return value


def _check_keys(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in content:
        if key not in known:
            raise RslitError(f"{where}: unknown key '{key}'; {_known(str(key), known)}")


def _word(value: object, what: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise RslitError(f"{what} {value!r}: a name is one word of letters, digits, _ and - (quote yes, no, on, off)")
    return value


def _text(value: object, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise RslitError(f"{where} must be a text, a number or true/false, got {value!r:.60}")
    return str(value)


def _known(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    nearest = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
