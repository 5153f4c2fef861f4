from __future__ import annotations

import hashlib
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from toy_env import PointEnvironment

from rslit.datamodules import LocomotionDataModule
from rslit.errors import RslitError
from rslit.modules import LocomotionModule
from rslit.rewards import TermsReward


def data(rank: int = 0, world: int = 1, epoch: int = 0, module: Any = None, **sizes: Any) -> LocomotionDataModule:
    given = LocomotionDataModule(**{"num_envs": 5, "rollouts_per_epoch": 3, "eval_episodes": 7, **sizes})
    plugin = SimpleNamespace(forward_context=nullcontext)
    trainer = SimpleNamespace(
        global_rank=rank, world_size=world, current_epoch=epoch, lightning_module=module, precision_plugin=plugin
    )
    given.trainer = trainer  # type: ignore[assignment]  # stands in for Lightning's
    return given


def starts(given: LocomotionDataModule) -> list[list[int]]:
    return [batch["seeds"].tolist() for batch in given.batches()]


def test_training_seeds_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "9")
    given = starts(data(rank=1, world=2, epoch=4))
    assert len(data().batches()) == len(given) == 3
    for k, seeds in enumerate(given):
        digest = hashlib.sha256(f"9/episodes/1/4/{k}".encode()).digest()
        stream = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") // 2)
        assert seeds == torch.randint(2**31 - 1, (5,), generator=stream).tolist()


def test_training_seeds_differ_by_seed_rank_and_epoch_and_repeat_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    base = starts(data())
    assert starts(data()) == base
    assert starts(data(epoch=1)) != base
    assert starts(data(rank=1, world=2)) != base
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert starts(data()) != base


def test_without_a_trainer_it_is_rank_zero_at_epoch_zero() -> None:
    alone = LocomotionDataModule(num_envs=5, rollouts_per_epoch=3, eval_episodes=7)
    assert starts(alone) == starts(data())
    assert [b["seeds"].tolist() for b in alone.val_dataloader()] == [list(range(1_000_000, 1_000_007))]


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "predict_dataloader"])
def test_evaluation_episodes_are_split_over_ranks_without_repeats(loader: str) -> None:
    shares = []
    for rank in range(3):
        batches = getattr(data(rank, 3, eval_episodes=7, eval_batch_size=2, eval_seed=50), loader)()
        assert len(batches) == len(list(batches))
        shares.append([batch["seeds"].tolist() for batch in batches])
    assert shares == [[[50, 53], [56]], [[51, 54]], [[52, 55]]]


def test_more_ranks_than_episodes() -> None:
    batches = data(rank=2, world=3, eval_episodes=2).val_dataloader()
    assert len(batches) == 0
    assert list(batches) == []


def test_evaluation_episodes_are_the_same_whatever_the_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    one = [b["seeds"].tolist() for b in data().val_dataloader()]
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert [b["seeds"].tolist() for b in data(epoch=3).val_dataloader()] == one


@pytest.mark.parametrize("name", ["num_envs", "rollouts_per_epoch", "eval_episodes", "eval_batch_size"])
def test_sizes_below_one_are_refused(name: str) -> None:
    for value in (0, -3):
        with pytest.raises(RslitError, match=f"data.{name} must be at least 1, got {value}"):
            LocomotionDataModule(**{name: value})


def test_the_loader_takes_epochs_and_minibatches_from_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    module = LocomotionModule(
        PointEnvironment(),
        TermsReward({"x_velocity": 1.0}, "risky"),
        policy_layers=[4],
        value_layers=[4],
        epochs=2,
        minibatches=5,
        unroll_length=6,
    )
    loader = data(rank=1, world=2, module=module).train_dataloader()
    assert len(loader) == 3 * 2 * 5
    assert (loader.seed, loader.rank, loader.actor) == (4, 1, module)
    assert next(iter(loader)).shape == (5 * 6 // 5,)


def test_only_a_rewarded_module_is_trained() -> None:
    with pytest.raises(RslitError, match="fit trains a RewardedModule; LightningModule is for validate and test"):
        data(module=LightningModule()).train_dataloader()
