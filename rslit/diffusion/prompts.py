"""Prompts to draw: a text file, JSONL, COCO's captions, or a column of a table; each with the seed of its image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rslit.errors import RslitError
from rslit.seeds import stream_seed
from rslit.tables import rows
from rslit.vision.files.parsing import entries, get, read_json

__all__ = ["ImagePrompt", "PromptColumns", "image_seed", "read_prompts", "some_of"]


@dataclass(frozen=True)
class ImagePrompt:
    """A prompt and the seed of the image that is drawn from it.

    Attributes:
        item: Its id: the same in every run, unique within its source. It names the image's file.
        prompt: What to draw; never empty.
        seed: Of the image's noise, in [0, 2⁶³): the same for every λ, batch size and number of processes (the paper's
            "each prompt has a unique seed for all models", appendix E.1).
    """

    item: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class PromptColumns:
    """Where in a table prompts are: a hub's data set, a copy of one, or a file (parquet, CSV, TSV, JSONL, JSON).

    Attributes:
        prompt: Column of prompts.
        item: Column of ids; None numbers the rows.
        split: Split of the prompts; slices as in ``train[:1000]`` are fine.
        eval_split: Split of the held-out prompts.
        subset: Configuration on the hub; in a local copy the folder of that name.
        folder: Folder inside the data set to keep to.
    """

    prompt: str = "prompt"
    item: str | None = None
    split: str = "train"
    eval_split: str = "test"
    subset: str | None = None
    folder: str | None = None


def image_seed(seed: int, item: str) -> int:
    """The seed of an item's image.

    Args:
        seed: The data's ``image_seed``, which all stages of an experiment share.
        item: The prompt's id.
    """
    return stream_seed(seed, "image", item)


def read_prompts(
    place: str,
    seed: int = 0,
    key: str = "data.prompts",
    columns: PromptColumns | None = None,
    held_out: bool = False,
) -> list[ImagePrompt]:
    """All prompts of a source, in its order.

    Ids are those of the source, else its name and a number, such as ``train-00012`` for line 12 of ``train.txt``.

    Args:
        place: A file ``.txt`` (one a line), ``.jsonl`` (``prompt``; if wanted ``item``, ``seed``; the ``images.jsonl``
            of a folder of images is one) or ``.json`` (COCO's captions, of each image the first); else a table.
        seed: See `image_seed`.
        key: The option that names the source, for messages.
        columns: Where in a table they are. With it, all but ``.txt`` is a table.
        held_out: Read the table's `eval_split`.

    Raises:
        RslitError: There is no such file, it is of another kind, it has no prompt, or one of its prompts is no text or
            has another's id.
    """
    found, where = _read(place, columns, held_out, key)
    if not found:
        raise RslitError(f"{key}: {where} has no prompts; write one a line, or give another file")
    prompts: dict[str, ImagePrompt] = {}
    for item, prompt, own in found:
        if not _is_text(prompt) or not _is_text(item):
            raise RslitError(f"{key}: {where}: item {item!r} has no text ({prompt!r:.40}); mend it or take it out")
        if item in prompts:
            raise RslitError(f"{key}: {where} has item {item} twice; give each prompt its own id")
        prompts[item] = ImagePrompt(item, prompt.strip(), image_seed(seed, item) if own is None else own)
    return list(prompts.values())


def some_of(prompts: Sequence[ImagePrompt], count: int | None) -> list[ImagePrompt]:
    """So many prompts, as if drawn by lot, in their order: always the same ones, and among more of them if more.

    Files are often sorted, so that the first ones would be of one kind.
    """
    if count is None or count >= len(prompts):
        return list(prompts)
    drawn = sorted(range(len(prompts)), key=lambda k: stream_seed(0, "some of", prompts[k].item))
    return [prompts[k] for k in sorted(drawn[:count])]


# Id, text and seed (None: it follows from the id).
_Found = tuple[str, Any, int | None]


def _read(place: str, columns: PromptColumns | None, held_out: bool, key: str) -> tuple[list[_Found], str]:
    """What a source has, and what it is called."""
    path = Path(place).expanduser()
    readers = {".txt": _lines, ".jsonl": _records, ".json": _coco}
    with _named(key):
        if path.suffix in readers and (columns is None or path.suffix == ".txt"):
            return readers[path.suffix](path), place
        columns = columns or PromptColumns()
        split = columns.eval_split if held_out else columns.split
        return _column(place, split, columns), f"{place} (split '{split}')"


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Readers that others share speak of their own option."""
    try:
        yield
    except RslitError as error:
        raise RslitError(f"{key}: {str(error).removeprefix('data.source: ')}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows' editors put a mark before the first line
    except (FileNotFoundError, NotADirectoryError):
        raise RslitError(f"{path} does not exist; put the file there or give its place") from None
    except (OSError, UnicodeError) as error:
        raise RslitError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error


def _lines(path: Path) -> list[_Found]:
    # Not splitlines(): it also splits at characters that may stand inside a prompt.
    lines = enumerate(_text(path).split("\n"), 1)
    return [(f"{path.stem}-{number:05}", line, None) for number, line in lines if line.strip()]


def _records(path: Path) -> list[_Found]:
    found: list[_Found] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RslitError(f"{path}, line {number} is no JSON ({error}); mend the line") from error
        if not isinstance(record, Mapping) or "prompt" not in record:
            raise RslitError(f"{path}, line {number} has no 'prompt'; each line is a record that has one")
        own = record.get("seed")
        if own is not None and (isinstance(own, bool) or not isinstance(own, int) or not 0 <= own < 2**63):
            raise RslitError(f"{path}, line {number}: 'seed' must be a whole number from 0 to 2⁶³ - 1, got {own!r:.40}")
        item = record.get("item")
        found.append((f"{path.stem}-{number:05}" if item is None else str(item), record["prompt"], own))
    return found


def _coco(path: Path) -> list[_Found]:
    content = read_json(path)
    images = [str(get(entry, "id", path, "an image")) for entry in entries(content, "images", path)]
    first: dict[str, Any] = {}
    for entry in entries(content, "annotations", path):
        caption = get(entry, "caption", path, "an annotation")
        if not isinstance(caption, str) or caption.strip():  # COCO has a few that are empty
            first.setdefault(str(get(entry, "image_id", path, "an annotation")), caption)
    return [(image, first[image], None) for image in images if image in first]


def _column(place: str, split: str, columns: PromptColumns) -> list[_Found]:
    name = split.partition("[")[0]
    found: list[_Found] = []
    for number, row in enumerate(rows(place, split, subset=columns.subset, folder=columns.folder)):
        for column in (columns.prompt, columns.item):
            if column is not None and column not in row:
                raise RslitError(f"{place} has no column '{column}' (data.columns); it has: {', '.join(map(str, row))}")
        item = f"{name}-{number:05}" if columns.item is None else str(row[columns.item])
        found.append((item, row[columns.prompt], None))
    return found


def _is_text(value: Any) -> bool:
    """Whether a value says something and can be written to a file (JSON may hold half a character)."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
