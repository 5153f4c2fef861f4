"""Tables of a hub or of local files, through `datasets`: never a script, never a pickle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rslit.errors import RslitError

__all__ = ["Row", "open_table", "rows"]

Row = Mapping[str, Any]

# Builders of `datasets` by the end of a file's name. Its others include one that unpickles data frames.
_BUILDERS = {"jsonl": "json", "ndjson": "json", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}


def rows(
    path: str, split: str, *, subset: str | None = None, folder: str | None = None, streaming: bool = False
) -> Iterator[Row]:
    """Reads one split, row by row.

    Args:
        path: See :func:`open_table`, as for the others.
        split: A split's name, with a slice if wanted.
        subset: The data set's configuration.
        folder: Folder inside the data set.
        streaming: Fetch only as much as is read.

    Yields:
        Rows by column name.

    Raises:
        RslitError: As :func:`open_table`.
    """
    table = open_table(path, split, subset=subset, folder=folder, streaming=streaming)
    with _one_line(path, split):
        yield from table


def open_table(
    path: str, split: str, *, subset: str | None = None, folder: str | None = None, streaming: bool = False
) -> Any:
    """Opens one split.

    Args:
        path: A file, a folder, or the name of a data set on the hub. A folder is one with ``<split>.jsonl``,
            ``<split>-00000-of-00002.parquet``, ``<split>/0000.parquet`` and the like, at any depth: a copy of a hub
            data set is one.
        split: A split's name, with a slice if wanted: ``train``, ``train[:1000]``, ``train[90%:]``. Of a single file
            the name is free and only the slice counts.
        subset: The data set's configuration on the hub; in a local folder the folder of that name, if there is one.
        folder: Folder inside the data set to keep to, on the hub as here.
        streaming: Fetch only as much as is read: for large data sets of which the first rows are enough. Of a hub's
            data set without a slice only.

    Returns:
        A ``datasets.Dataset``, or with `streaming` perhaps a ``datasets.IterableDataset``.

    Raises:
        RslitError: There is no such file, split or data set, its format is another, or it cannot be read.
    """
    place = Path(path).expanduser()
    with _one_line(path, split):
        if place.exists():
            return _open_files(place, split, subset, folder)
        if path.startswith(("/", ".", "~")) or path.count("/") > 1 or _format(place) is not None:
            raise RslitError(f"data.source: {path} does not exist; give a file, a folder, or a data set's hub name")
        return _open_hub(path, split, subset, folder, streaming and "[" not in split)


@contextmanager
def _one_line(path: str, split: str) -> Iterator[None]:
    """Says in one line what `datasets` raises of files that are broken and splits that are not there."""
    try:
        import datasets
        import pyarrow
    except ImportError:
        raise RslitError(
            f"data.source: reading {path} needs the package datasets: pip install 'rslit[text]' or 'rslit[vision]'"
        ) from None
    broken = (datasets.exceptions.DatasetsError, pyarrow.ArrowException, OSError, EOFError, UnicodeError)
    try:
        yield
    except StopIteration as error:  # what an empty JSONL file comes to
        raise RslitError(f"data.source: {path} (split '{split}') cannot be read: it is empty") from error
    except broken as error:  # before ValueError, which some of Arrow's and all of UnicodeError are
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
