"""The one exception for mistakes a user can mend."""

from __future__ import annotations

__all__ = ["RslitError"]


class RslitError(Exception):
    """Bad input: one line that names the file, key or value at fault and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
