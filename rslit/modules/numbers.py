"""Numbers that are logged of a rollout, whatever the task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rslit.distributed import mean_over_ranks
from rslit.samples import Samples

__all__ = ["mean_numbers"]


def mean_numbers(columns: Mapping[str, Tensor], samples: Samples) -> dict[str, float]:
    """Means over samples and ranks, and mean and standard deviation of every reward where it applies.

    Args:
        columns: (B,) by metric name, at least one, on the device that ranks agree by.
        samples: The samples, with every reward as a score.
    """
    device = next(iter(columns.values())).device
    numbers = {name: values.float().mean() for name, values in columns.items()}
    for name, values in samples.scores.items():
        applies = values[~values.isnan()].float()
        numbers[f"rewards/{name}/mean"] = applies.mean() if len(applies) else applies.new_zeros(())
        numbers[f"rewards/{name}/std"] = applies.std(correction=0) if len(applies) else applies.new_zeros(())
    reduced = mean_over_ranks(torch.stack([number.to(device) for number in numbers.values()]))
    return dict(zip(numbers, reduced.tolist(), strict=True))
