"""What storing a soup in a low precision does to λ.

RL moves weights little. In bfloat16 a weight and its neighbour are 0.4 % apart, often further than two experts are, so
a soup rounded to bfloat16 is not where λ says but at its *effective* λ. Measured here, so that nobody has to guess.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import torch
from torch import Tensor

from rslit.soup.blend import tiles

__all__ = ["PourReport", "Rounding", "warn_if_rounded"]

# Beyond these a front is visibly bent: λ off by a tenth of the usual lattice step of 0.1, or noise of a tenth of the
# way between the experts.
_LAM_TOLERANCE = 0.01
_ERROR_TOLERANCE = 0.1

# Experts closer to a line (a plane, ...) than 1e-5 of their distance count as on it: what is off it is their own
# float32 rounding. Squared, as it is applied to the Gram matrix.
_FLAT = 1e-10

# Half a megabyte of float64 for each of the few temporaries: they stay in cache, and small beside a streamed weight.
_TILE = 1 << 16


@dataclass(frozen=True)
class PourReport:
    """How far a soup's stored weights are from the soup that was asked for.

    Attributes:
        lam: λ asked for, by expert, summing to 1.
        effective: λ of the point nearest to the stored weights on the plane through the experts (projection on the
            expert differences, least squares for more than two), summing to 1.
        error: Norm of the rounding error over the smallest distance between two experts; 0 for a vertex
            stored in the experts' dtype.
        dtype: The dtype stored, as `dtype_name` writes it.
    """

    lam: dict[str, Fraction]
    effective: dict[str, float]
    error: float
    dtype: str

    @property
    def faithful(self) -> bool:
        """Whether every effective λ is within 0.01 of λ and the rounding error below a tenth of the expert distance."""
        off = max(abs(self.effective[name] - float(value)) for name, value in self.lam.items())
        return off <= _LAM_TOLERANCE and self.error <= _ERROR_TOLERANCE


class Rounding:
    """Accumulates, weight by weight and in float64, what `PourReport` says.

    With e the rounding error, D the matrix of differences θ_i - θ_1 (one column each for i = 2 ... N), the effective λ
    of experts 2 ... N are λ + D⁺ e. Only DᵀD and Dᵀe are kept. The pseudo-inverse makes the change of λ the smallest
    where experts lie on a line and λ is not unique.

    Args:
        lam: Exact λ of every expert.
    """

    def __init__(self, lam: dict[str, Fraction]) -> None:
        n = len(lam)
        self._lam = lam
        self._gram = torch.zeros(n, n, dtype=torch.float64)  # row and column 0 belong to θ_1 - θ_1
        self._projection = torch.zeros(n, dtype=torch.float64)
        self._square = 0.0
        self._dtypes: set[str] = set()

    def add(self, stored: Tensor, experts: Sequence[Tensor], wanted: Tensor | None = None) -> None:
        """Take in one weight.

        Args:
            stored: The soup's weight as stored, any shape.
            experts: The same weight of every expert, in the order of λ.
            wanted: The soup's weight before it was rounded; None if it is the experts' mean.
        """
        self._dtypes.add(str(stored.dtype).removeprefix("torch."))
        lam = torch.tensor([float(value) for value in self._lam.values()], dtype=torch.float64)
        for rounded, first, *rest in tiles((stored, *experts, *([] if wanted is None else [wanted])), _TILE):
            target = None if wanted is None else rest.pop()
            origin = first.double().flatten()
            differences = torch.stack([torch.zeros_like(origin), *(e.double().flatten() - origin for e in rest)])
            if target is None:
                error = rounded.double().flatten() - origin - lam.to(origin.device) @ differences
            else:
                error = rounded.double().flatten() - target.double().flatten()
            self._gram += (differences @ differences.T).cpu()
            self._projection += (differences @ error).cpu()
            self._square += float(error @ error)

    def report(self) -> PourReport:
        """The report on everything added so far."""
        names = list(self._lam)
        change = torch.linalg.pinv(self._gram, rtol=_FLAT, hermitian=True) @ self._projection
        change[0] = -change[1:].sum()
        effective = {name: float(self._lam[name]) + float(change[i]) for i, name in enumerate(names)}
        gram = self._gram
        distances = [float(gram[i, i] + gram[j, j] - 2 * gram[i, j]) for i, j in combinations(range(len(names)), 2)]
        smallest = min(distances, default=0.0)
        error = math.sqrt(self._square / smallest) if smallest > 0 else 0.0
        return PourReport(dict(self._lam), effective, error, ",".join(sorted(self._dtypes)))


def warn_if_rounded(report: PourReport, stacklevel: int = 2) -> None:
    """Warn, in words and with the effective λ, if a stored soup is not the one asked for."""
    if report.faithful:
        return
    asked = ", ".join(f"{name}={float(value):.3g}" for name, value in report.lam.items())
    got = ", ".join(f"{name}={value:.3g}" for name, value in report.effective.items())
    warnings.warn(
        f"storing this soup in {report.dtype} changes it: asked for lam {asked}, effective lam {got}, rounding error "
        f"{report.error:.2g} of the distance between the experts; keep the weights in float32",
        UserWarning,
        stacklevel=stacklevel + 1,
    )
