"""Rows that are computed once: what frozen text encoders and VAEs make of prompts and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["RowCache"]

# A row's last bits depend on how many are computed together. A resumed run meets rows in other company than the run it
# continues, and must make the same of them.
_TOGETHER = 4


class RowCache:
    """Named tensors with one row per key, kept on the CPU until `gib` is full.

    What is held stays: training passes over the data again and again, and a cache that drops what was used longest ago
    would drop each row just before it is asked for.

    Args:
        gib: Memory, GiB; 0 keeps nothing.
    """

    def __init__(self, gib: float) -> None:
        self.limit = int(gib * 2**30)
        self._held: dict[str, dict[str, Tensor]] = {}
        self._bytes = 0

    def rows(self, keys: Sequence[str], make: Callable[[list[int]], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The rows of keys, in order.

        Args:
            keys: May repeat.
            make: Computes rows; it is given places in `keys` of those that are not held, always four, the last one
                repeated where there are fewer.

        Returns:
            Tensors (len(keys), ...) on the CPU.
        """
        places = {key: place for place, key in reversed(list(enumerate(keys)))}
        fresh = sorted(place for key, place in places.items() if key not in self._held)
        found = {key: self._held[key] for key in places if key in self._held}
        for start in range(0, len(fresh), _TOGETHER):
            some = fresh[start : start + _TOGETHER]
            filled = some + some[-1:] * (_TOGETHER - len(some))
            made = {name: value.detach().cpu() for name, value in make(filled).items()}
            for row, place in enumerate(some):
                found[keys[place]] = {name: value[row] for name, value in made.items()}
                self._keep(keys[place], found[keys[place]])
        return {name: torch.stack([found[key][name] for key in keys]) for name in next(iter(found.values()))}

    def _keep(self, key: str, row: Mapping[str, Tensor]) -> None:
        size = sum(value.numel() * value.element_size() for value in row.values())
        if self._bytes + size <= self.limit:
            self._bytes += size
            # Not views that keep a whole batch alive.
            self._held[key] = {name: value.clone() for name, value in row.items()}
