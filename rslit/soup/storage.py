"""Writing to disk so that no moment leaves a half-written file: safetensors, single files, whole folders.

A folder is replaced in two renames: the old one aside to `.NAME.old`, the new one (`.NAME.new`) into place. Whoever
dies between the two leaves `.NAME.old`, complete; `settled` finds it and the next writer puts it back. This asks of the
file system only that a rename is atomic, which network file systems grant too (an exchange of two folders, as
renameat2 has it, they do not).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from rslit.errors import RslitError

__all__ = ["new_file", "new_folder", "raw_bytes", "safetensors_header", "settled", "tensor_bytes", "write_tensors"]

# safetensors' names, in the order in which its own writer lays tensors out: by this list, then by key.
_DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = {dtype: place for place, dtype in enumerate(_DTYPES)}


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The raw bytes of a tensor, row-major; without a copy if it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def safetensors_header(tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> tuple[bytes, list[str]]:
    """The start of a safetensors file and the order in which the tensors' bytes follow it.

    Byte for byte what `safetensors.torch.save_file(state, path, metadata={"format": "pt"})` writes; transformers asks
    for that metadata.

    Args:
        tensors: dtype and shape by key.

    Raises:
        RslitError: A dtype the format does not know.
    """
    for key, (dtype, _) in tensors.items():
        if dtype not in _DTYPES:
            raise RslitError(f"weight '{key}' has dtype {dtype}, which safetensors cannot store; convert it first")
    keys = sorted(tensors, key=lambda key: (_ORDER[tensors[key][0]], key))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key in keys:
        dtype, shape = tensors[key]
        end = offset + dtype.itemsize * torch.Size(shape).numel()
        header[key] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, keys


def write_tensors(file: BinaryIO, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors. Tied weights are written under each of their keys."""
    header, keys = safetensors_header({key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in state.items()})
    file.write(header)
    for key in keys:
        file.write(tensor_bytes(state[key]))


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file through a temporary sibling that takes its name only when complete and on the disk.

    Raises:
        RslitError: The operating system refused (read-only, full disk, ...); what was at `path` is intact.
    """
    temporary = path.with_name(f".{path.name}.new")
    with _refusals(path):
        try:
            with temporary.open("wb") as file:
                yield file
                _flush(file)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(path: Path, *markers: str) -> Iterator[Path]:
    """Fill a folder aside, then put it in the place of the one at `path`, if any.

    One writer per path: with several ranks, write from one.

    Args:
        path: Where the folder ends up.
        markers: Files each of which shows an existing folder to be one of ours, so that it may be replaced.

    Yields:
        The folder to fill (use `raw_bytes` or sync the files yourself).

    Raises:
        RslitError: `path` is a file or a folder of something else, or the operating system refused (read-only, full
            disk, ...); what was at `path` is intact.
    """
    new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    with _refusals(path):
        if path.is_dir() and any(path.iterdir()) and not any((path / marker).is_file() for marker in markers):
            raise RslitError(
                f"{path}: the folder holds something else (no {' or '.join(markers)}); choose another folder"
            )
        if path.exists() and not path.is_dir():
            raise RslitError(f"{path}: is a file; choose another name for the folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(new)
        if old.exists() and not path.exists():
            old.rename(path)  # a writer died between the two renames
        _clear(old)
        try:
            new.mkdir()
            yield new
            _sync_folder(new)
            replaced = path.exists()
            if replaced:
                path.rename(old)
            try:
                new.rename(path)
            except BaseException:
                if replaced:
                    old.rename(path)
                raise
            _sync_folder(path.parent)
        finally:
            _clear(new)
        _clear(old)


def settled(path: Path) -> Path:
    """`path`, or the complete folder a writer of `path` that died left aside."""
    old = path.with_name(f".{path.name}.old")
    return old if not path.exists() and old.is_dir() else path


def raw_bytes(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a file inside a folder from `new_folder` and force it to the disk."""
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        _flush(file)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Force a folder's entries to the disk, where the system lets folders be opened."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RslitError(f"{path}: cannot write: {reason}; free some space or choose a writable place") from error
