"""λ, the interpolation coefficients: reading, checking and making them exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from rslit.errors import RslitError

__all__ = ["Lam", "coefficients", "format_lam", "parse_lam"]

#: λ by expert name.
Lam = Mapping[str, float | Fraction]

# How far a sum of λ may be from 1 before it is taken for a mistake instead of floating-point noise.
_SUM_TOLERANCE = 1e-6


def parse_lam(text: str) -> dict[str, Fraction]:
    """Read λ as written on the command line: `a=0.3,b=0.7` or, exactly, `a=1/3,b=2/3`.

    Args:
        text: Comma-separated `expert=value`; a value is a decimal number or a fraction.

    Returns:
        Exact values by expert name, in the order written. Their sum is checked by the soup, not here.

    Raises:
        RslitError: The text is empty, an item is not `expert=value`, a value is not a number, an expert comes twice.
    """
    lam: dict[str, Fraction] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not (name and equals and value):
            raise RslitError(f"lam '{text}': '{item.strip()}' is not expert=value; write for example a=0.3,b=0.7")
        if name in lam:
            raise RslitError(f"lam '{text}': expert '{name}' comes twice; give each expert one value")
        try:
            lam[name] = Fraction(value)
        except (ValueError, ZeroDivisionError):
            raise RslitError(f"lam '{text}': '{value}' is not a number; write a decimal or a fraction as 1/3") from None
    return lam


def coefficients(lam: Lam, names: Sequence[str], *, extrapolate: bool = False) -> dict[str, Fraction]:
    """Check λ against the experts and make it exact.

    A float counts as the shortest decimal that reads back as it (0.3 is 3/10). If the sum is off 1 by no more than
    1e-6, the values are divided by it: a sum below 1 would shrink every weight.

    Args:
        lam: λ by expert name; an expert left out has λ = 0.
        names: The soup's experts.
        extrapolate: Allow values outside [0, 1].

    Returns:
        Exact λ of every expert in the order of `names`, summing to exactly 1.

    Raises:
        RslitError: An expert is unknown, a value is not a finite number or lies outside [0, 1], or the sum is not 1.
    """
    known = ", ".join(names)
    if not isinstance(lam, Mapping):
        raise RslitError(f"lam {lam!r} does not name its experts; give a mapping over: {known}")
    unknown = [str(name) for name in lam if name not in names]
    if unknown:
        raise RslitError(f"lam names unknown expert '{unknown[0]}'; this soup has: {known}")
    exact = {name: _exact(name, lam.get(name, 0)) for name in names}
    for name, value in exact.items():
        if not extrapolate and not 0 <= value <= 1:
            raise RslitError(
                f"lam of expert '{name}' is {float(value):g}, outside [0, 1]; extrapolate=True would allow it"
            )
    total = sum(exact.values(), Fraction(0))
    if abs(total - 1) > _SUM_TOLERANCE:
        given = ", ".join(f"{name}={float(value):g}" for name, value in exact.items())
        raise RslitError(f"lam ({given}) sums to {float(total):g}; it must sum to 1")
    return {name: value / total for name, value in exact.items()}


def format_lam(lam: Mapping[str, Fraction]) -> str:
    """Exact λ as `parse_lam` reads it, such as `a=3/10,b=7/10`."""
    return ",".join(f"{name}={value}" for name, value in lam.items())


def _exact(name: str, value: object) -> Fraction:
    if isinstance(value, Fraction | int) and not isinstance(value, bool):
        return Fraction(value)
    try:
        number = float(value)  # type: ignore[arg-type]  # NumPy and torch scalars convert
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool | str) or not math.isfinite(number):
        raise RslitError(f"lam of expert '{name}' is {value!r}; give a finite number")
    return Fraction(repr(number))
