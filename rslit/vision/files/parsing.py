"""JSON files and image folders, with errors that say where."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rslit.errors import RslitError

__all__ = ["Entry", "entries", "get", "image_root", "images_by_number", "locate", "read_json", "some", "text", "whole"]

Entry = Mapping[str, Any]


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        RslitError: There is no such file or it is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RslitError(f"data.source: {path} does not exist; put it there or give its place") from None
    except (ValueError, OSError) as error:
        raise RslitError(f"data.source: {path} is no JSON that can be read ({error}); fetch it again") from error


def entries(content: Any, key: str, path: Path) -> Iterator[Entry]:
    """The records of the list `key` of a file.

    Raises:
        RslitError: There is no such list, or something in it is no record.
    """
    found = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(found, list):
        has = ", ".join(map(str, list(content)[:6])) if isinstance(content, Mapping) else type(content).__name__
        raise RslitError(f"data.source: {path} has no list '{key}' (it has: {has}); is it a file of another kind?")
    for number, entry in enumerate(found):
        if not isinstance(entry, Mapping):
            raise RslitError(f"data.source: {path}: entry {number} of '{key}' is no record; fetch the file again")
        yield entry


def get(entry: Entry, key: str, path: object, what: str) -> Any:
    """A value of a record.

    Raises:
        RslitError: The record lacks it.
    """
    if not isinstance(entry, Mapping) or key not in entry:
        raise RslitError(f"data.source: {path}: {what} has no '{key}'; is it a file of another kind?")
    return entry[key]


def whole(entry: Entry, key: str, path: object, what: str) -> int:
    """A whole number of a record.

    Raises:
        RslitError: The record lacks it, or it is no whole number.
    """
    value = get(entry, key, path, what)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RslitError(f"data.source: {path}: '{key}' of {what} must be a whole number, got {value!r:.40}; mend it")
    return value


def text(value: Any, path: object, what: str) -> str:
    """A text that says something, without space around it.

    Raises:
        RslitError: It is none, or empty.
    """
    if not isinstance(value, str) or not value.strip():
        raise RslitError(f"data.source: {path}: {what} is no text ({value!r:.40}); mend it or take the item out")
    return value.strip()


def some(values: Iterable[Any], path: object, what: str, remedy: str) -> tuple[str, ...]:
    """Texts, less the empty ones that big data sets have here and there.

    Raises:
        RslitError: One is no text, or none is left.
    """
    found = tuple(text(value, path, what) for value in values if not (isinstance(value, str) and not value.strip()))
    if not found:
        raise RslitError(f"data.source: {path}: {what} is missing; {remedy}")
    return found


def image_root(folder: Path, images: str | None) -> Path:
    """The folder of images: `images` where given, else the data folder's ``images``, else the data folder itself."""
    if images is not None:
        return Path(images).expanduser()
    return folder / "images" if (folder / "images").is_dir() else folder


def locate(wanted: Mapping[str, str], root: Path, path: Path) -> dict[str, Path]:
    """Finds the images that a data file names; each folder is listed once, so 100,000 images take no 100,000 looks.

    Args:
        wanted: Paths inside `root` by image id.
        root: The folder of images.
        path: The data file, for messages.

    Raises:
        RslitError: Images are missing: some, or all because file and folder are of different splits.
    """
    found = {image: root / name for image, name in wanted.items()}
    listed = {folder: _listing(folder) for folder in {file.parent for file in found.values()}}
    missing = [image for image, file in found.items() if file.name not in listed[file.parent]]
    if missing and len(missing) == len(found):
        raise RslitError(
            f"data.source: {path}: none of its {len(found):,} images is in {root} (the first, of item {missing[0]}, "
            f"would be {found[missing[0]]}); give the folder of images as 'images', or the file of the right split"
        )
    if missing:
        raise RslitError(
            f"data.source: {path}: {len(missing):,} of its {len(found):,} images are missing, the first of item "
            f"{missing[0]}: {found[missing[0]]}; put them there, or take the items out of the file"
        )
    return found


def images_by_number(folder: Path) -> dict[int, Path]:
    """Images of a folder by the number at the end of their names, as in ``COCO_val2014_000000000042.jpg``.

    Raises:
        RslitError: There is no such folder.
    """
    if not folder.is_dir():
        raise RslitError(f"data.source: there is no folder of images {folder}; give the one it is in as 'images'")
    pattern = re.compile(r"(?:.*\D)?(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
    matches = ((pattern.fullmatch(name), name) for name in sorted(_listing(folder)))
    return {int(match[1]): folder / name for match, name in matches if match}


def _listing(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 - Path.iterdir makes a path of each
