"""What the tests of text-to-image data share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rslit.errors import RslitError
from rslit.rewards import FunctionReward


def reward(name: str) -> FunctionReward:
    return FunctionReward(lambda samples: torch.zeros(len(samples)), name)


def put(given: Any, rewarded: Any = None, *, rank: int = 0, world: int = 1, epoch: int = 0) -> Any:
    """Under a stand-in for Lightning's trainer."""
    module = SimpleNamespace(reward=rewarded)
    given.trainer = SimpleNamespace(
        global_rank=rank, world_size=world, current_epoch=epoch, lightning_module=module, precision_plugin=None
    )
    return given


def items(batches: Any) -> list[list[str]]:
    return [batch["items"] for batch in batches]


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(RslitError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def weights(given: Any) -> dict[str, float]:
    return {item: w for batch in given.batches() for item, w in zip(batch["items"], batch["weight"], strict=True)}
