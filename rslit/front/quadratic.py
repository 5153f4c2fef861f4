"""Quadratic rewards, for which the soup's loss against the best weights there are is known (paper, Appendix B.2).

R_i(θ) = R_i(θ_i) − (θ − θ_i)ᵀ H_i (θ − θ_i), expert i at the optimum θ_i of its reward: the second-order picture of N
experts near one initialisation. A user with preference μ wants Σ_i μ_i R_i. Everything here is exact up to rounding.

Lemma 2: if every H_i is η_i times one matrix, the soup with λ_i ∝ μ_i η_i is the optimum. The paper says it of the
identity; any positive definite H does as well.

Lemma 3 bounds what a soup of two loses. The paper asks for Hessians with common eigenvectors and takes M, the largest
ratio between their eigenvalues. Common eigenvectors are not needed: two positive definite matrices are always diagonal
in some basis (that of H_1 v = γ H_2 v), interpolation between weights is the same in every basis, so the proof holds
with M = max_j max(γ_j, 1/γ_j), which for common eigenvectors is the paper's M. The bound is reached exactly where the
γ_j of the directions in which the experts differ are M and 1/M alone, or one of them.

From equation 9 besides: for two experts whose rewards are rescaled to 1 at their own expert and 0 at the other, the
best λ is μ itself, whatever the Hessians (Δ_1 = Δ_2 there); in other units it is λ_i ∝ μ_i Δ_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh

from rslit.errors import RslitError

__all__ = ["QuadraticReward", "best_soup", "best_weights", "eigenvalue_ratio", "lemma2_lam", "lemma3_bound", "regret"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class QuadraticReward:
    """R(θ) = peak − (θ − expert)ᵀ H (θ − expert).

    Attributes:
        expert: Where it is greatest, (d,).
        hessian: H, (d, d), symmetric and positive definite; R's matrix of second derivatives is −2H.
        peak: Its greatest value.
    """

    expert: Array
    hessian: Array
    peak: float = 0.0

    def __post_init__(self) -> None:
        """Checks the shapes and that H is what it should be.

        Raises:
            RslitError: H is not a symmetric, positive definite matrix of the expert's size.
        """
        size = len(self.expert)
        if self.hessian.shape != (size, size) or not np.allclose(self.hessian, self.hessian.T):
            raise RslitError(f"hessian: give a symmetric matrix of {size} x {size}, not of shape {self.hessian.shape}")
        if np.linalg.eigvalsh(self.hessian)[0] <= 0:
            raise RslitError("hessian: has an eigenvalue that is not positive; the reward would have no optimum")

    def __call__(self, weights: ArrayLike) -> Array:
        """The reward of weights (..., d), of shape (...)."""
        away = np.asarray(weights, dtype=np.float64) - self.expert
        return np.asarray(self.peak - np.einsum("...i,ij,...j->...", away, self.hessian, away))


def best_weights(rewards: Sequence[QuadraticReward], mu: ArrayLike) -> Array:
    """The weights (d,) that maximise Σ_i μ_i R_i: (Σ μ_i H_i) θ = Σ μ_i H_i θ_i (for diagonal H, equation 7).

    Raises:
        RslitError: μ is no preference over these rewards.
    """
    preference = _preference(rewards, mu)
    hessian = sum(m * r.hessian for m, r in zip(preference, rewards, strict=True))
    pull = sum(m * r.hessian @ r.expert for m, r in zip(preference, rewards, strict=True))
    return np.asarray(np.linalg.solve(hessian, pull))


def best_soup(rewards: Sequence[QuadraticReward], mu: ArrayLike) -> Array:
    """λ (N,) on the simplex whose soup maximises Σ_i μ_i R_i (for two experts equation 9).

    On every face of the simplex the maximum is that of a concave quadratic under Σλ = 1; the best face that holds its
    own maximum wins. There are 2^N − 1 faces: for a handful of experts. Several λ are best where experts coincide;
    one is returned.

    Raises:
        RslitError: μ is no preference over these rewards.
    """
    preference = _preference(rewards, mu)
    experts = np.stack([r.expert for r in rewards])
    optimum = best_weights(rewards, preference)
    hessian = sum(m * r.hessian for m, r in zip(preference, rewards, strict=True))
    # What is lost at λ is (Eλ − θ̂)ᵀ H (Eλ − θ̂), with the experts as columns of E: least squares on the simplex.
    gaps = np.linalg.cholesky(hessian).T @ (experts - optimum).T
    found, least = np.zeros(len(rewards)), np.inf
    for size in range(1, len(rewards) + 1):
        for face in combinations(range(len(rewards)), size):
            lam = np.zeros(len(rewards))
            base, *others = face
            shares = np.linalg.lstsq(gaps[:, others] - gaps[:, [base]], -gaps[:, base], rcond=None)[0]
            lam[others], lam[base] = shares, 1 - shares.sum()
            loss = float(np.square(gaps @ lam).sum())
            if lam.min() >= 0 and loss < least:
                found, least = lam, loss
    return found


def regret(rewards: Sequence[QuadraticReward], mu: ArrayLike, lam: ArrayLike | None = None) -> float:
    """What a soup loses: Σ_i μ_i R_i at its greatest minus its value at the soup λ (equation 3).

    Args:
        rewards: The N rewards, each with its expert.
        mu: Preference (N,).
        lam: The soup's λ (N,); the best one if left out.

    Raises:
        RslitError: μ is no preference over these rewards.
    """
    preference = _preference(rewards, mu)
    best = best_weights(rewards, preference)
    soup = np.asarray(best_soup(rewards, mu) if lam is None else lam) @ np.stack([r.expert for r in rewards])
    # As one quadratic around the optimum rather than a difference of rewards: no digits cancel.
    away = soup - best
    return float(sum(m * away @ r.hessian @ away for m, r in zip(preference, rewards, strict=True)))


def lemma2_lam(mu: ArrayLike, curvatures: ArrayLike) -> Array:
    """λ (N,) of the optimal soup where H_i = η_i H: λ_i ∝ μ_i η_i (Lemma 2 and Remark 3).

    So λ = μ is optimal exactly where the rewards in play are equally curved.

    Args:
        mu: Preference (N,).
        curvatures: η (N,), all positive.
    """
    pull = np.asarray(mu, dtype=np.float64) * np.asarray(curvatures, dtype=np.float64)
    return np.asarray(pull / pull.sum())


def eigenvalue_ratio(first: ArrayLike, second: ArrayLike) -> float:
    """M ≥ 1 of two Hessians: max_j max(γ_j, 1/γ_j) over H_1 v = γ H_2 v; for diagonal ones the paper's M."""
    values = eigh(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64), eigvals_only=True)
    return float(max(values[-1], 1 / values[0], 1.0))


def lemma3_bound(mu: ArrayLike, ratio: ArrayLike, gap1: ArrayLike, gap2: ArrayLike) -> Array:
    """The most that the best soup of two experts can lose (Lemma 3, equation 4); 0 where M = 1.

    Args:
        mu: Weight of the second reward, the first has 1 − μ; shapes broadcast.
        ratio: M ≥ 1, see `eigenvalue_ratio`.
        gap1: Δ_1 = R_1(θ_1) − R_1(θ_2).
        gap2: Δ_2 = R_2(θ_2) − R_2(θ_1).

    Raises:
        RslitError: M is below 1, a gap is negative, or one gap is more than M times the other, which no such rewards
            have.
    """
    mu, m, d1, d2 = (np.asarray(value, dtype=np.float64) for value in (mu, ratio, gap1, gap2))
    if np.any(m < 1):
        raise RslitError(f"ratio: M is at least 1, not {np.min(m):g}; give the larger eigenvalue over the smaller")
    # Quadratics with Σ η_1 x² = Δ_1, Σ η_2 x² = Δ_2 and ratios up to M cannot have gaps further apart than M.
    near = 1 + 1e-9
    if np.any((d1 < 0) | (d2 < 0) | (d1 > m * d2 * near) | (d2 > m * d1 * near)):
        raise RslitError("gap1, gap2: not negative, and neither more than M times the other; mend them or M")
    both = mu * (1 - mu)
    above = both**2 * np.maximum(m * d1 - d2, 0) * np.maximum(m * d2 - d1, 0)
    below = (both * (m - 1) ** 2 + m) * ((1 - mu) * d1 + mu * d2)
    return np.asarray(np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0))


def _preference(rewards: Sequence[QuadraticReward], mu: ArrayLike) -> Array:
    preference = np.asarray(mu, dtype=np.float64)
    if preference.shape != (len(rewards),) or preference.min() < 0 or not np.isclose(preference.sum(), 1):
        raise RslitError(f"mu: give {len(rewards)} weights, none negative, with sum 1, not {preference.tolist()}")
    return preference
