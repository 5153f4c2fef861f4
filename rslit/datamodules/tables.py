"""Rows of a text data set, from a hub or from local files, through `datasets`: never a script, never a pickle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rslit.errors import RslitError

__all__ = ["Row", "rows"]

Row = Mapping[str, Any]

# Builders of `datasets` by the end of a file's name. Its others include one that unpickles data frames.
_BUILDERS = {"jsonl": "json", "ndjson": "json", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}


def rows(
    path: str, split: str, *, subset: str | None = None, folder: str | None = None, streaming: bool = False
) -> Iterator[Row]:
    """Reads one split, row by row.

    Args:
        path: A file, a folder, or the name of a data set on the hub. A folder is one with ``<split>.jsonl``,
            ``<split>-00000-of-00002.parquet``, ``<split>/0000.parquet`` and the like, at any depth: a copy of a hub
            data set is one.
        split: A split's name, with a slice if wanted: ``train``, ``train[:1000]``, ``train[90%:]``. Of a single file
            the name is free and only the slice counts.
        subset: The data set's configuration on the hub; in a local folder the folder of that name, if there is one.
        folder: Folder inside the data set to keep to, on the hub as here.
        streaming: Fetch only as much as is read: for large data sets of which the first rows are enough. Without a
            slice only.

    Yields:
        Rows by column name.

    Raises:
        RslitError: There is no such file, split or data set, its format is another, or it cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise RslitError("text data needs the package datasets: pip install 'rslit[text]'") from None

    place = Path(path).expanduser()
    try:
        if place.exists():
            data = _open_files(place, split, subset, folder)
        elif path.startswith(("/", ".", "~")) or path.count("/") > 1 or _format(place) is not None:
            raise RslitError(f"data.source: {path} does not exist; give a file, a folder, or a data set's hub name")
        else:
            data = _open_hub(path, split, subset, folder, streaming and "[" not in split)
        yield from data
    except (datasets.exceptions.DatasetsError, OSError, EOFError) as error:
        raise RslitError(f"data.source: {path} (split '{split}') cannot be read: {error.__cause__ or error}") from error
    except ValueError as error:  # an unknown split, or a slice out of bounds
        raise RslitError(f"data.source: {path} has no split '{split}' with rows: {error}") from error


def _open_hub(name: str, split: str, subset: str | None, folder: str | None, streaming: bool) -> Any:
    import datasets

    try:
        try:
            builder = datasets.load_dataset_builder(name, name=subset, data_dir=folder)
        except RuntimeError:  # a loading script, which datasets refuses: the hub keeps a converted copy beside it
            builder = datasets.load_dataset_builder(name, data_dir=subset, revision="refs/convert/parquet")
    except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
        raise RslitError(
            f"data.source: '{name}' is no file or folder here and no hub gave it ({str(error).splitlines()[0]}); "
            f"copy the data set's folder to this machine and give its path"
        ) from error
    if builder.builder_name not in {*_BUILDERS.values(), "arrow"}:
        raise RslitError(
            f"data.source: '{name}' is kept as {builder.builder_name}, which is not read here; "
            f"convert it to JSONL, CSV or parquet"
        )
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def _open_files(place: Path, split: str, subset: str | None, folder: str | None) -> Any:
    import datasets

    name = re.sub(r"\[.*", "", split)
    files = [place] if place.is_file() else _files_of(place, name, subset, folder)
    kinds = {_format(file) for file in files}
    kind = kinds.pop()
    if kind is None or kinds:
        raise RslitError(f"data.source: {files[0]}: the files must be all JSONL, JSON, CSV, TSV or parquet")
    options: dict[str, Any] = {}
    if kind == "csv":  # a question may be the word "None"
        options = {"sep": "\t" if ".tsv" in files[0].suffixes else ",", "keep_default_na": False}
    return datasets.load_dataset(kind, data_files={name: [str(file) for file in files]}, split=split, **options)


def _files_of(place: Path, name: str, subset: str | None, folder: str | None) -> list[Path]:
    if folder is not None:
        place = place / folder
        if not place.is_dir():
            raise RslitError(f"data.source: there is no folder {place}")
    elif subset is not None and (place / subset).is_dir():
        place = place / subset
    readable = sorted(
        file
        for file in place.rglob("*")
        if file.is_file() and _format(file) and not any(p.startswith(".") for p in file.relative_to(place).parts)
    )
    split = re.compile(rf"{re.escape(name)}([-_.].*)?")
    found = [f for f in readable if split.fullmatch(f.name) or name in f.relative_to(place).parent.parts]
    if not found:
        there = ", ".join(str(file.relative_to(place)) for file in readable[:5]) or "none that can be read"
        raise RslitError(
            f"data.source: {place} has no file of split '{name}' ({name}.jsonl, {name}-*.parquet, ...); "
            f"its data files: {there}"
        )
    return found


def _format(file: Path) -> str | None:
    return _BUILDERS.get(file.name.removesuffix(".gz").rpartition(".")[2])
