"""The lattice: every λ whose coefficients are multiples of 1/H."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from rslit.errors import RslitError

__all__ = ["lattice"]


def lattice(n_experts: int, parts: int) -> list[tuple[Fraction, ...]]:
    """All λ on the simplex with coefficients k/parts, in an order where neighbours are close.

    The set is the simplex-lattice design of Das and Dennis (1998): C(parts + n_experts - 1, n_experts - 1) points.
    The order is a Gray code: each point moves one unit of 1/parts from one expert to one other, from the vertex of the
    first expert to that of the last. For two experts the first λ descends from 1 to 0.

    Args:
        n_experts: N, the number of experts, at least 1.
        parts: H, the number of steps along an edge, at least 1.

    Returns:
        Tuples of N exact fractions, each summing to exactly 1.

    Raises:
        RslitError: An argument is not a positive integer.
    """
    for name, value in (("n_experts", n_experts), ("parts", parts)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RslitError(f"lattice: {name}={value!r} must be an integer of at least 1")
    unit = [Fraction(k, parts) for k in range(parts + 1)]
    counts = [0] * n_experts
    walk = _walk(counts, range(n_experts), parts, 0, n_experts - 1)
    return [tuple(unit[count] for count in counts) for _ in walk]


def _walk(counts: list[int], experts: Sequence[int], units: int, first: int, last: int) -> Iterator[None]:
    """Set `counts[experts]` to every composition of `units`, from all on `first` to all on `last`, one unit a step.

    `first` gives its units away one by one; the k units it gave walk over the remaining experts. Two such walks can
    follow each other when the second starts at the expert where the first ended, so they run to and fro between two
    experts, and the direction is chosen so that the longest one ends at `last`.
    """
    if units == 0 or len(experts) == 1:
        for expert in experts:
            counts[expert] = 0
        counts[first] = units
        yield
        return
    rest = [expert for expert in experts if expert != first]
    other = next((expert for expert in rest if expert != last), last)
    for given in range(units + 1):
        counts[first] = units - given
        ends_at_last = (units - given) % 2 == 0
        yield from _walk(counts, rest, given, *((other, last) if ends_at_last else (last, other)))
