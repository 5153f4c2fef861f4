"""Whole numbers that sum to a whole number, from which lattices on a simplex are made."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["compositions"]


def compositions(count: int, total: int) -> NDArray[np.int64]:
    """All (n_1, …, n_count) of whole numbers from 0 with sum `total`: (C(total + count − 1, count − 1), count).

    From the last number having all to the first having all.
    """
    # Stars and bars: bars at count - 1 of total + count - 1 places.
    bars = np.array(list(combinations(range(total + count - 1), count - 1)), dtype=np.int64)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, total + count - 1)))
    return np.asarray(np.diff(edges, axis=1) - 1)
