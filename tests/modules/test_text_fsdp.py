"""FSDP2 by configs/strategy/fsdp2.yaml for language policies, on two gloo processes: as DDP, with shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_experiment import rslit_apart
from toy_text import text_config

from rslit.soup import Ingredient

STRATEGY = Path(__file__).parents[2] / "configs" / "strategy" / "fsdp2.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_sharded_training_equals_ddp(text_root: Path, write_config: Callable[..., Path], algorithm: str) -> None:
    """End tokens end answers at different steps on the two ranks."""
    init: dict[str, Any] = {"algorithm": algorithm, "epochs": 2, "sampling": {"samples_per_prompt": 2}}
    config = str(write_config(text_config(text_root, model__init_args=init)))
    for root, more in (("ddp", ["--trainer.strategy", "ddp"]), ("sharded", ["--config", str(STRATEGY)])):
        args = ["--trainer.default_root_dir", root, *more, "--trainer.devices", "2"]
        rslit_apart(text_root, "fit", "--config", config, *args)
    one, two = (Ingredient.load(text_root / name / "ingredients/last") for name in ("ddp", "sharded"))
    assert one.info.trainable_keys == two.info.trainable_keys
    assert one.info.initialisation == two.info.initialisation
    for key, value in one.state_dict().items():
        torch.testing.assert_close(two.tensor(key), value, rtol=1e-4, atol=1e-4)
