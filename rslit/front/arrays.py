"""From the long score table to arrays (seeds, items, points, rewards) that share seeds and items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rslit.errors import RslitError
from rslit.front.scores import ScoreTable

__all__ = ["ScoreArray", "align", "score_array"]


@dataclass(frozen=True)
class ScoreArray:
    """Scores of one kind as a dense array.

    Attributes:
        values: (S seeds, I items, M points, K rewards) float64; NaN where a reward does not apply.
        seeds: S training seeds, ascending.
        items: I items that every seed and point was evaluated on, in the table's order.
        points: M labels, in the table's order.
        weights: λ (M, N) for soups, μ (M, K) for MORL, (M, 0) for the initialisation.
        dropped: Number of items left out because some seed or point was not evaluated on them.
        source: File the scores came from; error messages name it.
    """

    values: NDArray[np.float64]
    seeds: tuple[int, ...]
    items: tuple[str, ...]
    points: tuple[str, ...]
    weights: NDArray[np.float64]
    dropped: int
    source: str


def score_array(table: ScoreTable, kind: str) -> ScoreArray:
    """Scores of one kind, on the items that all its seeds and points share.

    Raises:
        RslitError: The kind has no rows, a seed lacks a point that another has, or there is no common item.
    """
    meta, source = table.meta, table.source
    frame = table.frame[table.frame["kind"] == kind]
    if frame.empty:
        raise RslitError(f"{source} has no rows of kind '{kind}'; add the file of its evaluation")
    seeds, items, points = (list(frame[name].unique()) for name in ("seed", "item", "point"))
    seeds.sort()
    place = [
        frame[name].map({label: number for number, label in enumerate(labels)}).to_numpy(dtype=np.int64)
        for name, labels in (("seed", seeds), ("item", items), ("point", points), ("reward", list(meta.rewards)))
    ]
    shape = (len(seeds), len(items), len(points), len(meta.rewards))
    values = np.full(shape, np.nan)
    values[tuple(place)] = frame["score"].to_numpy()
    # A row that is absent and a score that does not apply (NaN) are two things: presence is per seed, item and point.
    present = np.zeros(shape[:3], dtype=bool)
    present[tuple(place[:3])] = True
    for s, m in np.argwhere(~present.any(axis=1)):
        raise RslitError(
            f"{source}: seed {seeds[s]} has no {kind} point '{points[m]}', which another seed has; evaluate every "
            "seed on the same points"
        )
    common = np.asarray(present.all(axis=(0, 2)))
    if not common.any():
        raise RslitError(
            f"{source}: seeds and points of kind '{kind}' share no item; evaluate all of them on the same items"
        )
    columns = {"soup": meta.lam_columns, "morl": meta.mu_columns}.get(kind, [])
    weights = frame.drop_duplicates("point")[columns].to_numpy(dtype=np.float64)
    return ScoreArray(
        values=values[:, common],
        seeds=tuple(int(seed) for seed in seeds),
        items=tuple(str(item) for item, keep in zip(items, common, strict=True) if keep),
        points=tuple(str(point) for point in points),
        weights=weights.reshape(len(points), len(columns)),
        dropped=int((~common).sum()),
        source=source,
    )


def align(first: ScoreArray, second: ScoreArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of two kinds on their common seeds and items, in the same order, for paired comparisons.

    Returns:
        Arrays (S, I, M₁, K) and (S, I, M₂, K).

    Raises:
        RslitError: No common seed or no common item.
    """
    picked = []
    for word, mine, theirs in (("seed", first.seeds, second.seeds), ("item", first.items, second.items)):
        places = {label: number for number, label in enumerate(theirs)}
        pairs = [(number, places[label]) for number, label in enumerate(mine) if label in places]
        if not pairs:
            raise RslitError(
                f"points '{first.points[0]}' and '{second.points[0]}' of {first.source} share no {word}, so they "
                f"cannot be paired; evaluate both on the same {word}s, or leave one out"
            )
        picked.append(np.array(pairs).T)
    (seeds_a, seeds_b), (items_a, items_b) = picked
    return first.values[np.ix_(seeds_a, items_a)], second.values[np.ix_(seeds_b, items_b)]
