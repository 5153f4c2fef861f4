"""One stage of a recipe as it is written, and what reads the words of a recipe file."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rslit.errors import RslitError

__all__ = [
    "BRACES",
    "NAME",
    "VERBS",
    "Stage",
    "a_mapping",
    "a_text",
    "a_word",
    "check_keys",
    "known_names",
    "read_stage",
]

VERBS = ("fit", "validate", "test", "predict", "soup", "front")
"""The commands of `rslit` that a stage may run."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Stage:
    """One training or evaluation of a recipe.

    Attributes:
        name: The stage's name and, below the root, its folder.
        run: Argument line of `rslit`, split into words; words may hold placeholders.
        needs: Stages that must be done first, as written in the recipe.
        slurm: Submitit parameters of this stage; they win over the recipe's.
        over: Axes that the stage is repeated over.
        written: The stage's name in the recipe file, which all instances of a grid stage share.
    """

    name: str
    run: tuple[str, ...]
    needs: tuple[str, ...]
    slurm: Mapping[str, Any]
    over: tuple[str, ...]
    written: str


def read_stage(name: object, entry: object, path: Path) -> Stage:
    """Reads one entry of a recipe's `stages`.

    Raises:
        RslitError: An unknown key or verb, no `run`, or a value of the wrong type.
    """
    word = a_word(name, f"recipe {path}: stage")
    where = f"recipe {path}: stage '{word}'"
    content = a_mapping(entry, where)
    check_keys(content, ("over", "needs", "run", "slurm"), where)
    needs, over = content.get("needs", []), content.get("over", [])
    for key, names, kind in (("needs", needs, "stages such as [pretrain]"), ("over", over, "axes such as [seed]")):
        if not isinstance(names, list) or not all(isinstance(entry, str) for entry in names):
            raise RslitError(f"{where}: '{key}' must be a list of {kind}, got {names!r}")
    line = content.get("run")
    if not isinstance(line, str) or not line.strip():
        raise RslitError(f"{where} has no 'run'; give it the arguments of rslit, such as 'fit --config a.yaml'")
    try:
        # shlex would turn the backslash-newline of a literal block into a word of its own.
        words = tuple(shlex.split(line.replace("\\\n", " ")))
    except ValueError as error:
        raise RslitError(f"{where}: 'run' is not a shell line ({error}); balance its quotes") from None
    if words[0] not in VERBS:
        raise RslitError(f"{where}: 'run' starts with '{words[0]}', not with a command; {known_names(words[0], VERBS)}")
    slurm = a_mapping(content.get("slurm", {}), f"{where}: 'slurm'")
    return Stage(word, words, tuple(needs), slurm, tuple(over), word)


def a_mapping(value: object, where: str) -> dict[str, Any]:
    """The value, if it is a mapping."""
    if not isinstance(value, dict):
        raise RslitError(f"{where} must be a mapping of keys to values, got {value!r:.60}")
    return value


def check_keys(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuses a mapping with other keys than the known ones."""
    for key in content:
        if key not in known:
            raise RslitError(f"{where}: unknown key '{key}'; {known_names(str(key), known)}")


def a_word(value: object, what: str) -> str:
    """The value, if it can be a name."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise RslitError(f"{what} {value!r}: a name is one word of letters, digits, _ and - (quote yes, no, on, off)")
    return value


def a_text(value: object, where: str) -> str:
    """The value as YAML writes it, if it is a text, a number or a truth value."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise RslitError(f"{where} must be a text, a number or true/false, got {value!r:.60}")
    return str(value)


def known_names(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest of the known ones, and all of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(word, names, 1)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
