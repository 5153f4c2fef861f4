"""Rewards made of the named terms that a simulator reports.

Brax reports its terms in `state.metrics`, MO-Gymnasium a vector of rewards; the locomotion module hands them on as
fields of the samples. The paper's rewards of a humanoid (section 3.6 and appendix H) are of this kind:
R = velocity - alpha * sum_t a_t^2, so with `energy` = the sum of the squared actions

    risky     {x_velocity: 1.0}
    cautious  {x_velocity: 1.0, energy: -1.0}
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.samples import Samples

__all__ = ["TermsReward"]


class TermsReward:
    """Weighted sum of fields of the samples.

    A sample is whatever the fields hold a row for: a step of an episode while training, a whole episode (terms summed
    or averaged over its steps by the module) at evaluation.

    Args:
        terms: Weight of each field by name, such as `{x_velocity: 1.0, energy: -1.0}` or MO-Gymnasium's
            `{reward_0: 0.5, reward_1: 0.5}`; a weight may be negative.
        name: Column name of its scores.
        unit: What one unit of the value is.

    Attributes:
        range: Unbounded: the simulator sets no limits.

    Raises:
        RslitError: No term, a weight that is not finite, or no name.
    """

    range = (-math.inf, math.inf)

    def __init__(self, terms: dict[str, float], name: str, unit: str = "reward per step") -> None:
        if not name:
            raise RslitError("TermsReward: the name is empty; give it one")
        if not terms:
            raise RslitError(f"TermsReward '{name}': no terms; name at least one, such as x_velocity: 1.0")
        for term, weight in terms.items():
            if not math.isfinite(weight):
                raise RslitError(f"TermsReward '{name}': the weight of term '{term}' is {weight}; give a finite number")
        self.terms = {term: float(weight) for term, weight in terms.items()}
        self.name = name
        self.unit = unit

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32; NaN where a term is NaN.

        Raises:
            RslitError: A term is not among the fields, or is not one number per sample.
        """
        return torch.stack([weight * self._column(samples, term) for term, weight in self.terms.items()]).sum(dim=0)

    def _column(self, samples: Samples, term: str) -> Tensor:
        if term not in samples.fields:
            known = ", ".join(sorted(samples.fields)) or "none"
            raise RslitError(f"TermsReward '{self.name}': no term '{term}'; the samples have: {known}")
        try:
            column = torch.as_tensor(samples[term]).to(torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RslitError(
                f"TermsReward '{self.name}': term '{term}' does not hold numbers; choose another"
            ) from error
        if column.shape != (len(samples),):
            raise RslitError(
                f"TermsReward '{self.name}': term '{term}' has shape {tuple(column.shape)}, not ({len(samples)},); "
                "reduce it to one number per sample"
            )
        return column
