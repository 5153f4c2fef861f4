"""Pickles that hold plain values only, as RefCOCO's official files are.

A pickle is a program: what it names, it may call. Here it may name nothing at all, which leaves lists, dicts, tuples,
sets, texts, bytes, numbers, truth values and None, and no way to run anything.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from rslit.errors import RslitError

__all__ = ["read_plain_pickle"]


class _Plain(pickle.Unpickler):
    def __init__(self, content: bytes, path: Path) -> None:
        # Texts of Python 2 have no encoding; as Latin-1 each byte is a character, so none fails.
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.path = path

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise RslitError(
            f"data.source: {self.path} names {module_name}.{global_name}, and a pickle that names anything could run "
            f"code: only plain lists, dicts, texts and numbers are read; fetch the official file, or save it as JSON"
        )


def read_plain_pickle(path: Path) -> Any:
    """The value in a pickle of plain containers and primitives, of Python 2 or 3.

    Raises:
        RslitError: There is no such file, it is broken, or it names a class, function or any other global.
    """
    try:
        return _Plain(path.read_bytes(), path).load()
    except FileNotFoundError:
        raise RslitError(f"data.source: {path} does not exist; put it there or give its place") from None
    except RslitError:
        raise
    except Exception as error:  # a broken pickle may end in almost any exception
        raise RslitError(f"data.source: {path} is no pickle that can be read ({error}); fetch it again") from error
