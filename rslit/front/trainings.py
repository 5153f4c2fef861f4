"""How much the front depends on the training of its experts: other seeds, other hyper-parameters (paper, Figure 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rslit.front.analysed import Analysed
from rslit.front.beside import Beside
from rslit.front.compare import Reference
from rslit.front.hypervolume import hypervolume_spread
from rslit.front.numbers import numbers

__all__ = ["trainings_section"]


def trainings_section(report: Analysed, others: Sequence[Beside], reference: Reference) -> dict[str, Any] | None:
    """The section `trainings` of `front.json`: the front and those beside it of experts of the same names.

    Fronts count that have the same experts by name, in the same space, at the same λ: what differs is how the experts
    were trained. The standard deviation is of the hypervolumes of the fronts as they are, over the items that all
    share; its interval is over those items.

    Returns:
        The names of the fronts, and of their hypervolumes the mean, standard deviation, least and most, with
        intervals; None where there is no other such front, or none on the same items.
    """
    own = report.kinds["soup"].array
    alike = [
        other
        for other in others
        if (other.meta.experts, other.meta.space) == (report.meta.experts, report.meta.space)
        and other.kind.array.points == own.points
    ]
    if not alike:
        return None
    arrays = [own, *(other.kind.array for other in alike)]
    seeds, items = _shared([array.seeds for array in arrays]), _shared([array.items for array in arrays])
    if not seeds or not items:
        return None
    fronts = [
        array.values[np.ix_([array.seeds.index(seed) for seed in seeds], [array.items.index(item) for item in items])]
        for array in arrays
    ]
    found = hypervolume_spread(fronts, reference.point, **report.draws)
    return {
        "fronts": ["soup", *(other.name for other in alike)],
        "seeds": len(seeds),
        "items": len(items),
        "hypervolume": {name: numbers(found, (k,)) for k, name in enumerate(("mean", "deviation", "least", "most"))},
    }


def _shared(names: Sequence[Sequence[Any]]) -> list[Any]:
    first, *others = names
    return [name for name in first if all(name in other for other in others)]
