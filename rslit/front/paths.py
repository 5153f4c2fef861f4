"""Paths of experts through reward space while they were trained (the coloured lines of the paper's Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["paths"]


def paths(labels: Sequence[str]) -> dict[str, list[int]]:
    """Indices of trajectory points by expert, in the order of training.

    Args:
        labels: Labels such as `risky step 1200`.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for index, label in enumerate(labels):
        expert, _, step = label.rpartition(" step ")
        found.setdefault(expert, []).append((int(step), index))
    return {expert: [index for _, index in sorted(steps)] for expert, steps in found.items()}
