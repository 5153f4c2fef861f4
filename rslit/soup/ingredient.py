"""Ingredients: an expert's weights on disk, as a folder of `weights.safetensors` and `ingredient.json`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup.info import INFO, IngredientInfo
from rslit.soup.storage import new_folder, raw_bytes, safetensors_header, settled, tensor_bytes

__all__ = ["WEIGHTS", "Ingredient", "dtype_name", "fingerprint", "write_ingredient"]

WEIGHTS = "weights.safetensors"

# A reader that meets a writer swapping the folder looks again; one swap takes well under a millisecond.
_ATTEMPTS = 100
_FAULTS, _PAUSE = 5, 0.01  # how often a fault is seen before it is believed; seconds between


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """A name for weights: the same weights have the same one, whatever the order of the dict and the device.

    Args:
        state: Tensors by key.

    Returns:
        `sha256:<hex>` over key, dtype, shape and raw bytes of each tensor, in the order of the sorted keys.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key]
        head = json.dumps([key, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)])
        digest.update(head.encode() + b"\n")
        digest.update(tensor_bytes(tensor))
    return f"sha256:{digest.hexdigest()}"


def dtype_name(state: Mapping[str, Tensor], keys: Iterable[str]) -> str:
    """The dtype of the weights `keys`, such as `float32`; several are sorted and joined by a comma."""
    return ",".join(sorted({str(state[key].dtype).removeprefix("torch.") for key in keys}))


def write_ingredient(
    path: str | Path,
    state: Mapping[str, Tensor],
    info: IngredientInfo,
    extra_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write an ingredient, in one piece or not at all.

    Whoever reads the folder finds the old ingredient or the new one, also if the process is killed at any moment. One
    process writes a path at a time: with several ranks, write from rank zero.

    Args:
        path: The folder; an ingredient already there is replaced.
        state: Weights and buffers on any device.
        info: What goes into `ingredient.json`.
        extra_files: More files of the folder by name, such as `adapter_config.json`.

    Returns:
        The folder's path.

    Raises:
        RslitError: `info` does not fit `state`, a weight is not finite, the folder holds something else, or the disk
            is full or read-only. What was at `path` is then intact.
    """
    path = Path(path)
    extra_files = extra_files or {}
    for name in extra_files:
        if Path(name).name != name or name in ("", "..", INFO, WEIGHTS):
            raise RslitError(f"{path}: '{name}' cannot be an extra file; use a plain file name other than {INFO}")
    _check_state(path, state, info)
    text = info.to_json(str(path / INFO))
    header, keys = safetensors_header({key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in state.items()})
    with new_folder(path, INFO) as folder:
        raw_bytes(folder / WEIGHTS, (header, *(tensor_bytes(state[key]) for key in keys)))
        raw_bytes(folder / INFO, (text.encode(),))
        for name, content in extra_files.items():
            raw_bytes(folder / name, (content,))
    return path


class Ingredient:
    """An ingredient opened for reading. Weights stay on disk until touched: tensors are views of a memory map.

    Attributes:
        path: The folder.
        info: What its `ingredient.json` holds.
    """

    def __init__(self, path: Path, info: IngredientInfo, weights: Any) -> None:
        self.path = path
        self.info = info
        self._weights = weights
        self._keys: dict[str, None] = dict.fromkeys(weights.keys())

    @classmethod
    def load(cls, path: str | Path) -> Ingredient:
        """Open an ingredient.

        Raises:
            RslitError: The folder or a file of it is missing, cut short or malformed, or a trainable key has no weight.
        """
        path = Path(path)
        faults = 0
        for _ in range(_ATTEMPTS):
            folder = settled(path)
            before = _identity(folder)
            try:
                ingredient = cls._open(path, folder)
            except RslitError:
                # Path and .old are looked at one after the other: beside a writer both can seem to be missing, even
                # repeatedly. A fault that is one outlasts some pauses.
                if _identity(folder) == before and settled(path) == folder:
                    faults += 1
                    if faults == _FAULTS:
                        raise
                    time.sleep(_PAUSE)
                continue
            # Only if the folder is still the same one do the two files belong together.
            if _identity(folder) == before:
                return ingredient
        raise RslitError(f"{path}: is being replaced again and again; wait for its writer")

    @classmethod
    def _open(cls, path: Path, folder: Path) -> Ingredient:
        if not folder.is_dir():
            raise RslitError(f"{path}: no such folder; give the folder of an ingredient")
        for name in (INFO, WEIGHTS):
            if not (folder / name).is_file():
                raise RslitError(f"{path}: has no {name}; give the folder of an ingredient")
        try:
            info = IngredientInfo.from_json((folder / INFO).read_text(encoding="utf-8"), str(path / INFO))
            weights: Any = safe_open(folder / WEIGHTS, framework="pt", device="cpu")
            # The map is made by the first tensor asked for, from the file's name: make it now, while the name is right.
            for key in list(weights.keys())[:1]:
                weights.get_tensor(key)
        except (SafetensorError, OSError, RuntimeError, UnicodeDecodeError) as error:
            raise RslitError(f"{path}: cannot be read ({error}); the file is damaged, write it again") from None
        ingredient = cls(path, info, weights)
        missing = sorted(set(info.trainable_keys) - ingredient._keys.keys())
        if missing:
            raise RslitError(
                f"{path / WEIGHTS}: lacks the trainable weight '{missing[0]}' ({len(missing)} in all); write it again"
            )
        return ingredient

    def keys(self) -> list[str]:
        """Keys of weights and buffers in the order of the file."""
        return list(self._keys)

    def tensor(self, key: str) -> Tensor:
        """One tensor as a view of the file. Do not write to it.

        Raises:
            RslitError: There is no such key.
        """
        if key not in self._keys:
            raise RslitError(f"{self.path / WEIGHTS}: has no tensor '{key}'; see its keys()")
        tensor: Tensor = self._weights.get_tensor(key)
        return tensor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by key, read from the file's header."""
        return {key: tuple(self._weights.get_slice(key).get_shape()) for key in self._keys}

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors as views of the file. Do not write to them."""
        return {key: self.tensor(key) for key in self._keys}


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Which folder this is: another one renamed to the same path differs."""
    try:
        stat = folder.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns


def _check_state(path: Path, state: Mapping[str, Tensor], info: IngredientInfo) -> None:
    if not info.trainable_keys:
        raise RslitError(f"{path}: trainable_keys is empty; name the weights that training changes")
    for key in info.trainable_keys:
        if key not in state:
            raise RslitError(f"{path}: trainable key '{key}' is not in the state; give its weight or leave it out")
        if not state[key].is_floating_point():
            raise RslitError(
                f"{path}: trainable weight '{key}' has dtype {state[key].dtype}; only floats can be trained"
            )
        if not torch.isfinite(state[key]).all():
            raise RslitError(f"{path}: weight '{key}' is not finite: training diverged; lower the learning rate")
    if info.dtype != dtype_name(state, info.trainable_keys):
        found = dtype_name(state, info.trainable_keys)
        raise RslitError(f"{path}: dtype is '{info.dtype}' but the weights are '{found}'; write the latter")
