"""What a policy produced for a batch: the thing that rewards look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["Samples"]


@dataclass
class Samples:
    """A batch of B samples, column by column.

    Attributes:
        items: One identifier per sample, unique within the data set (a prompt's id, an episode's seed). Scores of two
            λ on the same item are paired by it.
        fields: Named columns of length B: tensors (B, ...) or sequences of B Python objects (questions, captions,
            images). Which names exist is the task's business and stated by its module.
        scores: Evaluation rewards by name, float32 (B,), NaN where the reward does not apply. Empty until scored.
    """

    items: Sequence[int | str]
    fields: Mapping[str, Tensor | Sequence[Any]]
    scores: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            known = ", ".join(sorted(self.fields))
            raise KeyError(f"samples have no field '{name}'; they have: {known}") from None
