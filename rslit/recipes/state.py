"""What is known on disk about each stage: whether it is done, and what it was made from."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from rslit.errors import RslitError
from rslit.recipes.recipe import Recipe, config_files

__all__ = ["StageState", "Task", "fingerprint", "plan", "read_state", "set_aside", "write_json", "write_state"]


@dataclass(frozen=True)
class StageState:
    """The content of `stage.json`.

    Attributes:
        state: "running" also stands for a stage that was interrupted: nobody was left to say so.
        command: The whole command, program included.
        fingerprint: SHA-256 of `inputs`.
        inputs: What the stage is made from: `command` (folders left as `{root}` and `{recipe}`), `files` (SHA-256 of
            the content of each YAML file by its name in the command), `needs` (fingerprints of the needed stages).
        started: Start of the latest attempt, ISO 8601 in UTC.
        finished: Its end; None while it runs.
        seconds: Duration of the latest attempt; None while it runs.
        returncode: Exit code; negative for a signal; None while it runs, or if it vanished without one.
    """

    state: Literal["running", "done", "failed"]
    command: list[str]
    fingerprint: str
    inputs: dict[str, Any]
    started: str
    finished: str | None = None
    seconds: float | None = None
    returncode: int | None = None


@dataclass(frozen=True)
class Task:
    """What is to be done about one stage.

    Attributes:
        name: The stage.
        written: Its name in the recipe file, see `Stage.written`.
        needs: Stages that must be done first.
        folder: The stage's folder.
        command: Arguments of `rslit`.
        inputs: See `StageState.inputs`.
        fingerprint: SHA-256 of `inputs`.
        action: "skip" a stage that is done, "resume" one that was interrupted or failed, "run" one never started.
        seconds: How long a skipped stage took.
    """

    name: str
    written: str
    needs: tuple[str, ...]
    folder: Path
    command: tuple[str, ...]
    inputs: dict[str, Any]
    fingerprint: str
    action: Literal["skip", "resume", "run"]
    seconds: float | None = None


def plan(recipe: Recipe, root: Path, redo: Collection[str] = ()) -> list[Task]:
    """Compares every stage of the recipe with what lies under `root`.

    Args:
        recipe: The recipe with its variables set.
        root: Folder of the stages' folders.
        redo: Stages to treat as never started, together with all that need them.

    Returns:
        One task per stage, needed stages first.

    Raises:
        RslitError: A configuration file is missing, a started stage has changed, or was made from a stage that is
            gone.
    """
    fresh = _with_dependants(recipe, redo)
    tasks: dict[str, Task] = {}
    for stage in recipe.stages.values():
        command = recipe.command(stage.name, root)
        for name in config_files(command):
            if not Path(name).is_file() and not _made_by_stage(Path(name), recipe, root):
                raise RslitError(f"recipe {recipe.path}: stage '{stage.name}': no config file {name}; mend its 'run'")
        inputs = {
            "command": list(recipe.portable_command(stage.name)),
            "files": dict(_yaml_files(recipe, stage.name, root)),
            "needs": {need: tasks[need].fingerprint for need in stage.needs},
        }
        old = None if stage.name in fresh else read_state(root / stage.name)
        if old is not None:
            _check_unchanged(recipe, stage.name, root, old, inputs)
            for need in stage.needs:
                if tasks[need].action != "skip":
                    raise RslitError(
                        f"stage '{stage.name}' in {root} was started from a '{need}' that is no longer there; "
                        f"make it anew with --redo {stage.name}, or use another --root"
                    )
        action: Literal["skip", "resume", "run"] = "run"
        if old is not None:
            action = "skip" if old.state == "done" else "resume"
        tasks[stage.name] = Task(
            name=stage.name,
            written=stage.written,
            needs=stage.needs,
            folder=root / stage.name,
            command=command,
            inputs=inputs,
            fingerprint=fingerprint(inputs),
            action=action,
            seconds=old.seconds if old is not None and action == "skip" else None,
        )
    return list(tasks.values())


def set_aside(recipe: Recipe, root: Path, redo: Collection[str]) -> list[tuple[str, Path]]:
    """Moves the folders of stages, and of all that need them, into `<root>/.redone`.

    Dependants are moved first, so that a kill half-way never leaves one beside a stage that is gone.

    Returns:
        Stage and new place of each folder moved.
    """
    moved = []
    chosen = _with_dependants(recipe, redo)
    for name in reversed(list(recipe.stages)):
        folder = root / name
        if name in chosen and folder.exists():
            number = 1
            while (place := root / ".redone" / f"{name}.{number}").exists():
                number += 1
            place.parent.mkdir(exist_ok=True)
            folder.rename(place)
            moved.append((name, place))
    return moved


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what a stage is made from."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def read_state(folder: Path) -> StageState | None:
    """Reads `stage.json`.

    Returns:
        None where the stage was never started.

    Raises:
        RslitError: The file is damaged.
    """
    path = folder / "stage.json"
    try:
        state = StageState(**json.loads(path.read_text(encoding="utf-8")))
        if state.state not in ("running", "done", "failed") or set(state.inputs) != {"command", "files", "needs"}:
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError):
        raise RslitError(f"{path} is damaged; make the stage anew with --redo {folder.name}") from None
    return state


def write_state(folder: Path, state: StageState) -> None:
    """Writes `stage.json` in one step."""
    write_json(folder / "stage.json", asdict(state))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file so that a reader, or a power cut, finds the old file or the new one, whole."""
    text = json.dumps(content, indent=2) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _with_dependants(recipe: Recipe, names: Collection[str]) -> set[str]:
    return {*names}.union(*(recipe.downstream(name) for name in names))


def _yaml_files(recipe: Recipe, name: str, root: Path) -> Iterator[tuple[str, str]]:
    """Names, as in the portable command, and hashes of the YAML files of a command and of those they name in turn."""
    words = zip(recipe.portable_command(name), recipe.command(name, root), strict=True)
    waiting = [(label.rpartition("=")[2], Path(word.rpartition("=")[2])) for label, word in words]
    seen: set[Path] = set()
    while waiting:
        label, path = waiting.pop(0)
        if path.suffix not in (".yaml", ".yml") or path in seen or not path.is_file():
            continue
        if _made_by_stage(path, recipe, root):
            continue
        seen.add(path)
        content, data = _content(path)
        yield label, hashlib.sha256(data).hexdigest()
        waiting += [(f"{label} > {text}", path.parent / text) for text in _texts(content)]


def _content(path: Path) -> tuple[object, bytes]:
    """Parsed content, and bytes that comments and layout do not change."""
    data = path.read_bytes()
    try:
        content = yaml.safe_load(data)
        return content, json.dumps(content, default=str).encode()
    except (yaml.YAMLError, TypeError, ValueError):
        # What YAML or JSON cannot hold is compared byte by byte; whether it is a good config is its reader's affair.
        return None, data


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _texts(value)


def _made_by_stage(path: Path, recipe: Recipe, root: Path) -> bool:
    """Whether a file lies in a stage's folder: it need not be there yet, and the needs' fingerprints stand for it."""
    return any(path.absolute().is_relative_to(root / stage) for stage in recipe.stages)


def _check_unchanged(recipe: Recipe, name: str, root: Path, old: StageState, inputs: Mapping[str, Any]) -> None:
    if old.fingerprint == fingerprint(inputs):
        return
    raise RslitError(
        f"stage '{name}' in {root} was started with {_difference(old.inputs, inputs)}; make it and all that need it "
        f"anew with --redo {name}, or use another --root"
    )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, after = old["command"], new["command"]
    if len(before) == len(after) and before != after:
        place = next(index for index, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
        option = f"{before[place - 1]} " if place and before[place - 1].startswith("-") else ""
        return f"another command ({option}'{before[place]}' is now '{after[place]}')"
    if before != after:
        # A word may be there twice (--list+ a --list+ b), so by place and not by name.
        changes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        gone = " ".join(word for kind, i, j, _, _ in changes if kind != "equal" for word in before[i:j])
        come = " ".join(word for kind, _, _, i, j in changes if kind != "equal" for word in after[i:j])
        return f"another command ('{gone}' is now '{come}')"
    for file in sorted({*old["files"], *new["files"]}):
        if old["files"].get(file) != new["files"].get(file):
            return f"another content of {file}"
    return f"other needs ({', '.join(sorted(old['needs'])) or 'none'}, now {', '.join(sorted(new['needs'])) or 'none'})"
