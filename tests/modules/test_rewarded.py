from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from tensordict import TensorDict
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.modules.rewarded import RewardedModule
from rslit.rewards import TermsReward, WeightedSum
from rslit.rollouts import Experience, RolloutLoader
from rslit.samples import Samples
from rslit.seeds import stream_seed
from rslit.soup import IngredientInfo, Soup, fingerprint, write_ingredient

A = TermsReward({"a": 1.0}, "a")
B = TermsReward({"b": 1.0}, "b")


class Batches:
    """Lightning takes a list for several loaders."""

    def __init__(self, *batches: list[float]) -> None:
        self.batches = [torch.tensor(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


VALIDATION = Batches([4.0])


class Gaining(nn.Module):
    """What it acts with is trained; what it sees with is not."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Linear(2, 2)
        self.gain = nn.Linear(2, 1)
        self.seen.requires_grad_(False)
        self.register_buffer("count", torch.tensor(4, dtype=torch.int64))


class Toy(RewardedModule):
    """A task of numbers: reward a is the number times the gain's bias, reward b applies to numbers above 2 only."""

    task = "toy"

    def __init__(self, reward: Any = A, width: int = 1, **kwargs: Any) -> None:
        super().__init__(reward, **kwargs)
        self.policy = Gaining()
        self.policy.gain = nn.Linear(2, width)
        self.value = nn.Linear(1, 1)
        self.loaded: Any = None
        self.seeds: list[int] = []
        self.load_initialisation()

    def rollout(self, batch: Any) -> Experience:
        self.rollouts_done += 1
        return TensorDict({"x": torch.arange(6.0)}, batch_size=[6])

    def training_step(self, minibatch: Experience, batch_idx: int) -> Tensor:
        self.log_rollout(
            {"loss/x": minibatch["x"].mean(), "rollouts": float(self.rollouts_done)}, batch_idx, ("loss/x",)
        )
        return self.policy.gain(torch.ones(2)).sum() + self.value(torch.ones(1)).sum()

    def evaluate(self, batch: Tensor, seed: int) -> Samples:
        self.seeds.append(seed)
        b = torch.where(batch > 2, batch, math.nan)
        return Samples(batch.tolist(), {}, {"a": batch * self.policy.gain.bias[0].detach(), "b": b})

    def experience_state(self) -> dict[str, Any]:
        return {"pointer": 7}

    def load_experience_state(self, state: Any) -> None:
        self.loaded = state


def build(seed: int = 0, **kwargs: Any) -> Toy:
    torch.manual_seed(seed)
    return Toy(**kwargs)


def trainer(root: Path, **kwargs: Any) -> Trainer:
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": root,
    }
    return Trainer(**{**given, **kwargs})


def written(root: Path, module: Toy, **info: Any) -> str:
    state = module.policy_state()
    given: dict[str, Any] = {
        "expert": "a",
        "task": module.task_class,
        "reward": "a",
        "step": 0,
        "initialisation": fingerprint(state),
        "trainable_keys": module.trainable_keys,
        "dtype": "float32",
    }
    return str(write_ingredient(root / "start", state, IngredientInfo(**{**given, **info})))


# -- weights --------------------------------------------------------------------------------------------------------


def test_the_policys_state_is_what_training_changes_and_its_buffers() -> None:
    module = build()
    state = module.policy_state()
    assert module.trainable_keys == ["gain.bias", "gain.weight"]
    assert set(state) == {"gain.bias", "gain.weight", "count"}
    with torch.no_grad():
        module.policy.gain.bias += 1
    assert torch.equal(state["gain.bias"] + 1, module.policy.gain.bias), "a copy, not the live weights"


def test_training_starts_from_the_initialisations_weights(tmp_path: Path) -> None:
    first = build(seed=1)
    first.policy.count.fill_(9)
    second = build(seed=2, initialisation=written(tmp_path, first))
    assert all(torch.equal(v, second.policy_state()[k]) for k, v in first.policy_state().items())
    assert not torch.equal(first.policy.seen.weight, second.policy.seen.weight), "frozen weights are not in it"


def test_initialisations_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="nowhere: no such folder"):
        build(initialisation=str(tmp_path / "nowhere"))
    with pytest.raises(RslitError, match=r"initialisation: .*start is of task text.Text, this is test_rewarded.Toy"):
        build(initialisation=written(tmp_path, build(), task="text.Text"))
    with pytest.raises(RslitError, match=r"gain.bias is \(2,\) in .*start and \(1,\) in the policy"):
        build(initialisation=written(tmp_path, build(width=2)))
    other = build()
    other.policy.register_buffer("spread", torch.ones(1))
    with pytest.raises(RslitError, match=r"start has not this policy's weights \(spread, ...\)"):
        build(initialisation=written(tmp_path, other))


def test_the_optimiser_takes_what_is_trained_and_the_scheduler_the_optimiser() -> None:
    module = build(optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in (*module.policy.gain.parameters(), *module.value.parameters())}
    module.lr_scheduler = lambda o: torch.optim.lr_scheduler.StepLR(o, 3)
    both: Any = module.configure_optimizers()
    assert both["lr_scheduler"].optimizer is both["optimizer"]


# -- evaluation -----------------------------------------------------------------------------------------------------


def test_evaluation_rewards_default_to_the_rewards_being_trained_on() -> None:
    assert build().evaluation_rewards == [A]
    assert build(reward=WeightedSum([A, B], [1.0, 3.0])).evaluation_rewards == [A, B]
    assert build(evaluation_rewards=[B]).evaluation_rewards == [B]
    with pytest.raises(RslitError, match="evaluation_rewards: names must differ, got a, a"):
        build(evaluation_rewards=[A, A])


@pytest.mark.parametrize(("verb", "stage"), [("validate", "val"), ("test", "test")])
def test_means_are_over_the_items_a_reward_applies_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, stage: str
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    module = build(evaluation_rewards=[A, B])
    with torch.no_grad():
        module.policy.gain.bias.fill_(2.0)
    batches = Batches([1.0, 2.0, 3.0], [8.0])
    run = trainer(tmp_path)
    (logged,) = getattr(run, verb)(module, batches, verbose=False)
    assert logged == {f"{stage}/toy/a": pytest.approx(2 * 14 / 4), f"{stage}/toy/b": pytest.approx(11 / 2)}
    assert module.seeds == [stream_seed(5, "evaluation", 0), stream_seed(5, "evaluation", 1)]
    (again,) = getattr(run, verb)(module, VALIDATION, verbose=False)
    assert again[f"{stage}/toy/a"] == 8.0, "totals start anew"


def test_predict_returns_the_scored_samples(tmp_path: Path) -> None:
    (samples,) = trainer(tmp_path).predict(build(), Batches([3.0]))
    assert samples.items == [3.0]
    assert samples.scores["b"].tolist() == [3.0]


def test_soups_are_poured_one_at_a_time_and_the_own_weights_come_back() -> None:
    module = build()
    own = module.policy.gain.bias.detach().clone()
    states = {}
    for name, bias in (("one", 1.0), ("two", 3.0)):
        states[name] = module.policy_state() | {"gain.bias": torch.tensor([bias])}
    soup = Soup(states, trainable_keys=module.trainable_keys)
    lams = [{"one": 1.0}, {"one": 0.5, "two": 0.5}, {"two": 1.0}]
    found = module.evaluate_soups(torch.tensor([1.0, 10.0]), 11, soup, lams)
    assert [s.scores["a"].tolist() for s in found] == [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]
    assert module.seeds == [11, 11, 11], "common random numbers"
    assert torch.equal(module.policy.gain.bias, own)


# -- training -------------------------------------------------------------------------------------------------------


class Ledger(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))


def test_a_rollouts_numbers_are_logged_once_as_means(tmp_path: Path) -> None:
    module, ledger = build(epochs=2, minibatches=3), Ledger()
    run = trainer(tmp_path, logger=ledger, log_every_n_steps=1)
    run.fit(module, RolloutLoader([0, 1], module, epochs=2, minibatches=3), VALIDATION)
    lines = [(step, line) for step, line in ledger.lines if "loss/x" in line]
    # The mean over all rows of a rollout is 2.5; a rollout has 6 optimiser steps.
    assert [line for _, line in lines] == [{"loss/x": 2.5, "rollouts": 1.0}, {"loss/x": 2.5, "rollouts": 2.0}]
    assert [step for step, _ in lines] == [5, 11]
    assert float(run.progress_bar_metrics["loss/x"]) == 2.5


# -- checkpoints ----------------------------------------------------------------------------------------------------
