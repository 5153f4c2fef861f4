"""Linear mode connectivity: is the soup at least as good as the interpolated scores of its experts?

Hypothesis 1 of Rewarded Soups (Ramé et al., 2023): R_k(Σ_i λ_i θ_i) >= Σ_i λ_i R_k(θ_i) for every λ and reward k. The
difference of the two sides is the LMC slack. The paper looks at one run and at the chord by eye; here the slack gets a
band that is simultaneous over all λ and rewards, and a verdict in three values against a margin fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from rslit.errors import RslitError
from rslit.front.few_seeds import lengthening, seed_share
from rslit.front.statistics import Interval, bootstrap_means, crossed_bootstrap_weights, mean_scores

__all__ = ["LMCTest", "expert_points", "lmc_test", "slack_matrix"]

Array = NDArray[np.float64]
_EXACT = 1e-9  # λ are k/H in float64; anything closer than this is the same point of the lattice


@dataclass(frozen=True)
class LMCTest:
    """Result of `lmc_test`.

    Attributes:
        interior: Indices of the J soup points tested: those inside the simplex that are no expert.
        slack: LMC slack (J, K) in the rewards' units, with a band that is simultaneous over J and K.
        margin: δ (K,), in the rewards' units.
        verdicts: `"holds"`, `"violated"` or `"cannot tell"`, one per reward.
    """

    interior: NDArray[np.int64]
    slack: Interval
    margin: Array
    verdicts: tuple[str, ...]


def expert_points(lams: ArrayLike, experts: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Index of each expert among the points: the vertex λ_i = 1.

    Args:
        lams: (M, N), rows sum to 1.
        experts: N names, for the error message.

    Returns:
        (N,) indices.

    Raises:
        RslitError: A vertex is not among the points.
    """
    array = np.asarray(lams, dtype=np.float64)
    found = []
    for n, vertex in enumerate(np.eye(array.shape[1])):
        places = np.flatnonzero(np.abs(array - vertex).max(axis=1) < _EXACT)
        if not len(places):
            name = experts[n] if experts else str(n + 1)
            raise RslitError(
                f"expert '{name}' is not among the points (no λ = 1); score the vertices of the lattice too"
            )
        found.append(int(places[0]))
    return np.array(found, dtype=np.int64)


def slack_matrix(lams: ArrayLike, experts: Sequence[str] | None = None) -> Array:
    """The (M, M) matrix that maps scores of the points to their LMC slack; zero rows at the experts.

    Raises:
        RslitError: A vertex is not among the points.
    """
    array = np.asarray(lams, dtype=np.float64)
    vertices = expert_points(array, experts)
    matrix = np.eye(len(array))
    # Two points may share a vertex's λ, so columns are added to, one expert at a time.
    for n, vertex in enumerate(vertices):
        matrix[:, vertex] -= array[:, n]
    matrix[vertices] = 0.0
    return matrix


def lmc_test(
    x: ArrayLike,
    lams: ArrayLike,
    delta: float = 0.02,
    *,
    experts: Sequence[str] | None = None,
    replicates: int = 2000,
    level: float = 0.95,
    rng: int | np.random.Generator = 0,
) -> LMCTest:
    """Test the LMC, reward by reward, with a band simultaneous over all interior λ and rewards.

    The band is slack ± c·se: se from the crossed bootstrap, c the `level` quantile of max |slack* - slack| / se over
    λ and rewards (max-t). With the margin δ_k = `delta` x (best expert - worst expert on reward k) the verdict is

    - holds: the band lies above -δ_k at every λ;
    - violated: the band lies below -δ_k at some λ;
    - cannot tell: neither; more seeds or items may decide.

    Seeds and items are paired between points, so an item's difficulty cancels. The crossed bootstrap counts interaction
    noise up to three times, so the band is long when seeds bend alike: 0 of 400 bands missed the truth on 5 seeds x 200
    items. Where seeds carry the variance, c gives way to Student's quantile (`rslit.front.few_seeds`): five seeds that
    each bend their own way (a curvature of 0.1 between experts at 0 and 1) raise 0.02 false alarms at δ = 0, and 0.05
    of the bands miss the truth somewhere (docs/results/statistics_coverage.md). `slack.seed_low` and `slack.seed_high`
    are per-seed Student t intervals with Bonferroni's correction over λ and rewards.

    Args:
        x: Scores of the soup (S, I, M, K), NaN where a reward does not apply.
        lams: λ (M, N), experts included as vertices.
        delta: Margin as a fraction of the range between the experts, fixed before looking; at least 0.
        experts: N names, for error messages.
        replicates: Bootstrap replicates.
        level: Simultaneous coverage of the band.
        rng: A generator or a number to seed one.

    Raises:
        RslitError: Bad scores, a missing vertex, no point between the experts, or a negative delta.
    """
    array, lam = np.asarray(x, dtype=np.float64), np.asarray(lams, dtype=np.float64)
    if array.ndim != 4 or lam.ndim != 2 or len(lam) != array.shape[2]:
        raise RslitError(f"scores {array.shape} and λ {lam.shape} do not fit; give (S, I, M, K) and (M, N)")
    if not (np.isfinite(delta) and delta >= 0):
        raise RslitError(f"delta {delta} is no margin; give a fraction of the experts' range, such as 0.02")
    if not 0 < level < 1:
        raise RslitError(f"level {level} is not a coverage; give a number between 0 and 1, such as 0.95")
    matrix = slack_matrix(lam, experts)
    interior = np.flatnonzero((lam > -_EXACT).all(axis=1) & (lam.max(axis=1) < 1 - _EXACT))
    if not len(interior):
        raise RslitError("there is no point between the experts, so no LMC to test; score a finer lattice")
    means = mean_scores(array)
    at_experts = means[expert_points(lam, experts)]
    margin = delta * np.ptp(at_experts, axis=0)
    slack = matrix[interior] @ means
    s, i = array.shape[:2]
    by_seed = np.einsum("jm,smk->sjk", matrix[interior], bootstrap_means(array, np.eye(s), np.ones((s, i))))
    low, high, share = _band(
        array, matrix[interior], slack, by_seed, crossed_bootstrap_weights(s, i, replicates, rng), level
    )
    seed_low, seed_high = _seed_t(by_seed, level)
    band = Interval(slack, low, high, seed_low, seed_high, share, conditional=s == 1, level=level)
    verdicts = tuple(
        "holds" if (low[:, k] > -margin[k]).all() else "violated" if (high[:, k] < -margin[k]).any() else "cannot tell"
        for k in range(len(margin))
    )
    return LMCTest(interior, band, margin, verdicts)


def _band(
    x: Array, matrix: Array, slack: Array, by_seed: Array, weights: tuple[Array, Array], level: float
) -> tuple[Array, Array, Array]:
    """Lower end, upper end and share of the seeds, each (J, K); `by_seed` (S, J, K) holds the slack of each seed."""
    s, i = x.shape[:2]
    nothing = np.full_like(slack, np.nan)
    if (s, i) == (1, 1):
        return nothing, nothing, nothing
    replicates = np.einsum("jm,rmk->rjk", matrix, bootstrap_means(x, *weights))
    replicates = replicates[np.isfinite(replicates).all(axis=(1, 2))]
    se = replicates.std(axis=0)
    # Scores without noise leave rounding in the replicates; a band of that width would be studentised nonsense.
    noisy = se > _EXACT * max(float(np.nanmax(np.abs(x))), np.finfo(np.float64).tiny)
    # The slack is linear in the means: resampled seeds alone have the variance of their own slacks over S.
    share = seed_share(by_seed.var(axis=0) / s, se**2) if s > 1 else nothing
    if not noisy.any():
        return slack, slack, share
    deviation = np.abs(replicates - slack)[:, noisy] / se[noisy]
    quantile = float(np.quantile(deviation.max(axis=1), level))
    reach = np.where(noisy, quantile * se, 0.0)
    if s > 1:
        reach *= lengthening(share, s, i, quantile)
    return slack - reach, slack + reach, share


def _seed_t(by_seed: Array, level: float) -> tuple[Array, Array]:
    s = len(by_seed)
    if s == 1:
        nothing = np.full_like(by_seed[0], np.nan)
        return nothing, nothing
    quantile = stdtrit(s - 1, 1 - (1 - level) / (2 * by_seed[0].size))
    reach = quantile * by_seed.std(axis=0, ddof=1) / np.sqrt(s)
    centre = by_seed.mean(axis=0)
    return centre - reach, centre + reach
