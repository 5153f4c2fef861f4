"""Lengthening bootstrap intervals for few seeds.

S resampled seeds show (S - 1)/S of the variance that S seeds have, and the quantiles of a bootstrap know nothing of the
error of that variance, which rests on S - 1 degrees of freedom. With 5 seeds that dominate, a nominal 95 % interval
covers 80 to 82 % (docs/results/statistics_coverage.md). Two steps mend most of it, both by the share ρ of the variance
that seeds carry:

- the standard error grows by sqrt(1 + ρ / (S - 1)), which is sqrt(S / (S - 1)) when seeds are all there is;
- the normal quantile gives way to Student's with ν = 1 / (ρ² / (S - 1) + (1 - ρ)² / (I - 1)) degrees of freedom
  (Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2(6)).

With ρ near 0 nothing changes; with ρ near 1 the interval is Student's t over the seeds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

__all__ = ["lengthening", "seed_share"]

Array = NDArray[np.float64]


def seed_share(seed_variance: ArrayLike, bootstrap_variance: ArrayLike) -> Array:
    """Share ρ of the crossed bootstrap's variance that resampling the seeds alone has, in [0, 1].

    Args:
        seed_variance: Variance over replicates that resample the seeds alone.
        bootstrap_variance: Variance over the crossed replicates, same shape; where it is 0 the share is 0.
    """
    part, whole = np.asarray(seed_variance), np.asarray(bootstrap_variance)
    return np.asarray(np.clip(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0), 0, 1))


def lengthening(share: ArrayLike, seeds: int, items: int, quantile: float) -> Array:
    """Factor by which an interval that reaches `quantile` standard errors is too short.

    Args:
        share: Share ρ of the seeds in the variance, any shape.
        seeds: S, at least 2.
        items: I, at least 1.
        quantile: Reach in standard errors, such as 1.96; positive.

    Returns:
        At least 1, the shape of `share`.
    """
    rho = np.asarray(share, dtype=np.float64)
    # With one item there is no variance of items to estimate; its share counts as one degree of freedom.
    degrees = 1 / (rho**2 / (seeds - 1) + (1 - rho) ** 2 / max(items - 1, 1))
    return np.asarray(stdtrit(degrees, ndtr(quantile)) / quantile * np.sqrt(1 + rho / (seeds - 1)))
