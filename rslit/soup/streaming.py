"""Soups written to disk, or only measured, a few megabytes at a time: for models larger than memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup.blend import FLOATS, blend, steps, tiles
from rslit.soup.rounding import PourReport, Rounding, warn_if_rounded
from rslit.soup.storage import new_file, safetensors_header, tensor_bytes

__all__ = ["HALVES", "stored_report", "stream_states"]

HALVES = (torch.float16, torch.bfloat16)
# 4 MB of float32 at a time.
_TILE = 1 << 20

_States = Mapping[str, Mapping[str, Tensor]]


@torch.no_grad()
def stream_states(
    states: _States,
    trainable: Collection[str],
    exact: dict[str, Fraction],
    out_path: Path,
    *,
    dtype: torch.dtype | None = None,
    rounding: Rounding | None = None,
) -> None:
    """Write the soup of `states` at the exact λ as a safetensors file; see `Soup.stream`.

    Warns:
        UserWarning: In float16 or bfloat16, if the effective λ is off or the rounding error large.

    Raises:
        RslitError: `dtype` is no floating dtype, or the file cannot be written.
    """
    chain = steps(exact)
    if dtype is not None and dtype not in FLOATS:
        raise RslitError(f"a soup cannot be stored in {dtype}; choose float32, float64, bfloat16 or float16")
    first = next(iter(states.values()))
    dtypes = {key: dtype or first[key].dtype if key in trainable else first[key].dtype for key in first}
    half = any(dtypes[key] in HALVES for key in trainable)
    if rounding is None and half:
        rounding = Rounding(exact)
    header, keys = safetensors_header({key: (dtypes[key], tuple(first[key].shape)) for key in first})
    # One buffer for all tiles: fresh pages for each would cost as much as the arithmetic.
    buffers = {wanted: torch.empty(_TILE, dtype=wanted) for wanted in set(dtypes.values())}
    with new_file(out_path) as file:
        file.write(header)
        for key in keys:
            for pieces in tiles([state[key].contiguous() for state in states.values()], _TILE):
                if key not in trainable:
                    file.write(tensor_bytes(pieces[0]))
                    continue
                stored = buffers[dtypes[key]][: pieces[0].numel()]
                by_name = dict(zip(states, pieces, strict=True))
                blend(stored, [by_name[name] for name, _ in chain], [weight for _, weight in chain])
                file.write(tensor_bytes(stored))
                if rounding is not None:
                    rounding.add(stored, pieces)
    if rounding is not None and half:
        warn_if_rounded(rounding.report(), stacklevel=4)  # past no_grad's wrapper and `Soup.stream`


@torch.no_grad()
def stored_report(
    states: _States, trainable: Collection[str], exact: dict[str, Fraction], dtype: torch.dtype | None = None
) -> PourReport:
    """Where the soup of `states` at the exact λ ends up once rounded to `dtype`; None is the experts'."""
    chain = steps(exact)
    rounding = Rounding(exact)
    for key in trainable:
        for pieces in tiles([state[key] for state in states.values()]):
            by_name = dict(zip(states, pieces, strict=True))
            stored = torch.empty_like(pieces[0], dtype=dtype)
            blend(stored, [by_name[name] for name, _ in chain], [weight for _, weight in chain])
            rounding.add(stored, pieces)
    return rounding.report()
