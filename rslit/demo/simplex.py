"""Sliders that stay on the simplex: what the other λ do when one is moved."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from rslit.errors import RslitError
from rslit.soup import Lam, parse_lam
from rslit.soup.lam import coefficients

__all__ = ["GRID", "moved", "read_lam", "uniform"]

GRID = 100
"""Sliders move in steps of 1 / GRID."""


def uniform(names: tuple[str, ...]) -> dict[str, Fraction]:
    """The middle of the simplex: λ = 1 / N for each of N experts."""
    return {name: Fraction(1, len(names)) for name in names}


def moved(lam: Mapping[str, Fraction], name: str, value: float) -> dict[str, Fraction]:
    """λ after the slider of one expert was moved.

    The other λ keep their proportions and share what is left, equally if all of them were 0. All are multiples of
    1 / GRID that sum to exactly 1: what rounding down leaves over goes to the largest remainders, of equal ones to
    the first (Hamilton's apportionment).

    Args:
        lam: λ before, in [0, 1], sum 1.
        name: Whose slider was moved.
        value: Where to, in [0, 1].

    Raises:
        RslitError: There is no such expert, or the value is outside [0, 1].
    """
    if name not in lam:
        raise RslitError(f"there is no expert '{name}'; the sliders are {', '.join(lam)}")
    if not 0 <= value <= 1:
        raise RslitError(f"the slider of '{name}' cannot be at {value:g}; λ is in [0, 1]")
    others = {other: share for other, share in lam.items() if other != name}
    parts = {name: round(value * GRID) if others else GRID}
    left, total = GRID - parts[name], sum(others.values())
    wanted = {other: left * (share / total if total else Fraction(1, len(others))) for other, share in others.items()}
    parts |= {other: int(part) for other, part in wanted.items()}
    by_remainder = sorted(others, key=lambda other: parts[other] - wanted[other])
    for other in by_remainder[: GRID - sum(parts.values())]:
        parts[other] += 1
    return {other: Fraction(parts[other], GRID) for other in lam}


def read_lam(text: str, names: tuple[str, ...]) -> Lam:
    """λ of an address, such as `risky=3/10,cautious=7/10`.

    Raises:
        RslitError: It is no λ of these experts within [0, 1].
    """
    return coefficients(parse_lam(text), names)
