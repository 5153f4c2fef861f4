"""Attainment surfaces: what a single training attains, seed by seed, where the mean front shows the average.

The empirical attainment function (EAF) at a point of reward space is the share of seeds whose front reaches it (Grunert
da Fonseca, Fonseca & Hall 2001, "Inferential performance assessment of stochastic optimisers and the attainment
function"). The 50 % surface is a median front; the 100 % surface is what every seed attains.
"""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rslit.errors import RslitError
from rslit.front.hypervolume import checked_fronts
from rslit.front.statistics import bootstrap_means

__all__ = ["PERCENTAGES", "attainment_surfaces"]

PERCENTAGES = (20, 50, 100)


def attainment_surfaces(x: ArrayLike) -> dict[int, NDArray[np.float64]]:
    """The corners of the 20, 50 and 100 % attainment surfaces of the seeds' fronts.

    Args:
        x: (S, I, M, K), two seeds or more, two or three rewards.

    Returns:
        By percentage, (n, K) points attained by at least that share of the seeds, none dominating another, by the first
        reward, best last. With fewer than five seeds 20 % is one seed.

    Raises:
        RslitError: Bad scores, one seed, or more than three rewards.
    """
    array = checked_fronts(x)
    s, i, m, k = array.shape
    if s < 2:
        raise RslitError("one training seed has no attainment surfaces; train at least two")
    if k not in (2, 3):
        raise RslitError(f"attainment surfaces are computed for two or three rewards, not {k}")
    fronts = bootstrap_means(array, np.eye(s), np.ones((s, i)))
    if np.isnan(fronts).any():
        raise RslitError("some reward applies to no item of some seed, so that seed has no front; evaluate more items")
    # moocore's EAF minimises.
    found = moocore.eaf(-fronts.reshape(-1, k), np.repeat(np.arange(s), m), percentiles=PERCENTAGES)
    surfaces = {}
    for percentage in PERCENTAGES:
        corners = -found[found[:, -1] == percentage, :-1]
        surfaces[percentage] = corners[np.lexsort(corners.T[::-1])]
    return surfaces
