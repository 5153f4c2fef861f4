"""Two processes on gloo with everything that has to be agreed on: the target KL, the controller, whitening."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_experiment import rslit_apart
from toy_text import text_config


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "rloo"])
def test_two_ranks_stop_together_and_stay_equal(
    text_root: Path, write_config: Callable[..., Path], algorithm: str
) -> None:
    record = {"class_path": "toy_text_runs.RankRecord", "init_args": {"folder": str(text_root / "ranks")}}
    init: dict[str, Any] = {
        "algorithm": algorithm,
        "target_kl": 0.02,
        "epochs": 4,
        "kl": {"coefficient": 0.1, "target": 0.2, "horizon": 40},
        "sampling": {"samples_per_prompt": 2},
        "whiten_rewards": algorithm == "ppo",
    }
    config = text_config(text_root, trainer__devices=2, trainer__strategy="ddp", model__init_args=init)
    config["trainer"]["callbacks"].append(record)
    rslit_apart(text_root, "fit", "--config", str(write_config(config)))
    one, two = (torch.load(text_root / "ranks" / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(one["trained"]) == 8 + 2 * (algorithm == "ppo")
    for key, weight in one["trained"].items():
        assert torch.equal(weight, two["trained"][key]), key
    # 8 prompts, 4 a rank: one rollout an epoch, of 4 passes over 2 minibatches.
    assert one["stopped"] == two["stopped"]
    assert len(one["stopped"]) == 2 * 8
    assert any(one["stopped"])
    assert not one["stopped"][0]
    assert not one["stopped"][8], "the next rollout goes on"
    assert one["kl"] == two["kl"]
    assert one["kl"]["coefficient"] != 0.1
    assert one["kl_logged"] == two["kl_logged"]
    assert all(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one["tokens"], two["tokens"], strict=True))
