from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tensordict import TensorDict
from toy_env import PointEnvironment

from rslit.datamodules import LocomotionDataModule
from rslit.errors import RslitError
from rslit.modules import LocomotionModule
from rslit.rewards import TermsReward
from rslit.rollouts import Experience, RolloutLoader


class Counter:
    """Yields experiences whose rows say which rollout they are of."""

    def __init__(self, rows: int = 12) -> None:
        self.rows = rows
        self.rollouts_done = 0
        self.samples_done = 0

    def rollout(self, batch: Any) -> Experience:
        self.rollouts_done += 1
        rows = torch.arange(self.rows) + 100 * self.rollouts_done
        return TensorDict({"row": rows, "batch": torch.full((self.rows,), batch)}, batch_size=[self.rows])


def test_every_row_once_per_epoch_shuffled() -> None:
    loader = RolloutLoader([7, 8], Counter(), epochs=3, minibatches=4, seed=1)
    parts = list(loader)
    assert len(loader) == len(parts) == 2 * 3 * 4
    for rollout in range(2):
        orders = []
        for epoch in range(3):
            chosen = parts[rollout * 12 + epoch * 4 : rollout * 12 + epoch * 4 + 4]
            assert {int(p["batch"][0]) for p in chosen} == {7 + rollout}
            rows = torch.cat([p["row"] for p in chosen])
            assert sorted(rows.tolist()) == list(range(100 * (rollout + 1), 100 * (rollout + 1) + 12))
            orders.append(rows.tolist())
        assert len({tuple(o) for o in orders}) == 3, "each epoch has an order of its own"


def test_order_depends_on_seed_and_rank_only() -> None:
    def rows(**kwargs: int) -> list[int]:
        return torch.cat([p["row"] for p in RolloutLoader([0], Counter(), minibatches=3, **kwargs)]).tolist()

    assert rows(seed=1) == rows(seed=1)
    assert rows(seed=1) != rows(seed=2)
    assert rows(seed=1, rank=0) != rows(seed=1, rank=1)


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_resumes_in_the_middle_of_an_epoch(stop: int) -> None:
    whole = [p["row"].tolist() for p in RolloutLoader([0, 1], Counter(), epochs=2, minibatches=3)]
    actor = Counter()
    first = RolloutLoader([0, 1], actor, epochs=2, minibatches=3)
    stream = iter(first)
    seen = [next(stream)["row"].tolist() for _ in range(stop)]
    state = first.state_dict()

    other = Counter()
    other.rollouts_done = actor.rollouts_done  # the module's own state restores it
    second = RolloutLoader([0, 1], other, epochs=2, minibatches=3)
    second.load_state_dict(state)
    assert seen + [p["row"].tolist() for p in second] == whole


def test_no_state_between_epochs() -> None:
    loader = RolloutLoader([0], Counter(), minibatches=3)
    assert loader.state_dict() == {}
    list(loader)
    assert loader.state_dict() == {}


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(RslitError, match="12 rows does not divide into 5 minibatches"):
        list(RolloutLoader([0], Counter(), minibatches=5))
    with pytest.raises(RslitError, match="epochs must be at least 1, got 0"):
        RolloutLoader([0], Counter(), epochs=0)


class Spy(Callback):
    """Compares the weights that acted with those that the first minibatch is trained on."""

    def __init__(self) -> None:
        self.acted: list[torch.Tensor] = []
        self.trained: list[torch.Tensor] = []
        self.ratios: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % (pl_module.epochs * pl_module.minibatches) == 0:
            self.trained.append(pl_module.policy.net[0].weight.detach().clone())
            with torch.no_grad():
                location, scale = pl_module.policy(batch["observations"])
                from rslit.objectives import tanh_normal

                now = tanh_normal.log_prob(batch["raw_actions"], location, scale)
            self.ratios.append(float((now - batch["logprobs"]).exp().sub(1).abs().max()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_policy_that_acts_is_the_policy_being_trained(tmp_path: Any, precision: Any) -> None:
    """With the same weights, and in the same precision."""
    torch.manual_seed(0)  # some fresh weights soon act with a tiny scale, which magnifies rounding in the ratio
    spy = Spy()
    module = LocomotionModule(
        PointEnvironment(),
        TermsReward({"x_velocity": 1.0}, "risky"),
        policy_layers=[8],
        value_layers=[8],
        epochs=2,
        minibatches=2,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.01),
    )
    act = module.rollout

    def rollout(batch: Any) -> Experience:
        spy.acted.append(module.policy.net[0].weight.detach().clone())
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16-mixed")
        return act(batch)

    module.rollout = rollout  # type: ignore[method-assign]
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[spy],
        default_root_dir=tmp_path,
    )
    trainer.fit(module, LocomotionDataModule(num_envs=4, rollouts_per_epoch=3, eval_episodes=2))
    assert len(spy.acted) == len(spy.trained) == 6
    for acted, trained in zip(spy.acted, spy.trained, strict=True):
        assert torch.equal(acted, trained)
    assert not torch.equal(spy.acted[0], spy.acted[1]), "training changed the policy between rollouts"
    if precision == "32-true":
        assert max(spy.ratios) < 1e-3
