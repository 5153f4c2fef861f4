"""What the KL steers while a language policy trains: when a rollout's updates stop, the controller; resuming both."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tiny_models import save_tiny_llama
from toy_runs import adam
from toy_text import QUESTIONS, letter_e, text_module
from toy_text_runs import train

from rslit.objectives import AdaptiveKL


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base"))


class Watch(Callback):
    """The trainable weights after every step, and the KL of every minibatch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.kl: list[float] = []
        self.optimizer: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            new = pl_module.speaker.score(pl_module.policy, batch).logprobs
            difference = (new - batch["logprobs"])[batch["mask"]]
            self.kl.append(float((difference.expm1() - difference).mean()))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trained = {k: p.detach().clone() for k, p in pl_module.named_parameters() if p.requires_grad}
        self.weights.append(trained)
        self.optimizer = trainer.optimizers[0]


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(v, two[k]) for k, v in one.items())


@pytest.mark.parametrize("clip", [None, 0.5])
def test_past_the_target_kl_the_rest_of_a_rollout_changes_nothing(
    base: Path, tmp_path: Path, clip: float | None
) -> None:
    """Adam with momentum would go on moving the weights on gradients of 0."""
    runs = {}
    for target in (None, 0.01):
        watch = Watch()
        module = text_module(base, algorithm="ppo", epochs=4, minibatches=2, target_kl=target, optimizer=adam(0.01))
        ledger = train(module, tmp_path, rollouts=3, callbacks=[watch], gradient_clip_val=clip)
        runs[target] = watch, ledger
    watch, ledger = runs[0.01]
    assert len(watch.weights) == 3 * 8
    applied = 0
    for rollout in range(3):
        steps = range(rollout * 8, rollout * 8 + 8)
        passed = [k for k in steps if watch.kl[k] > 1.5 * 0.01]
        assert passed, "every rollout passes the target"
        first = passed[0]
        assert first > steps[0], "not at its first minibatch, whose policy is the one that acted"
        applied += first - steps[0]
        for k in steps:
            before = watch.weights[k - 1] if k else None
            if before is not None:
                # The minibatch that passes it is left out already, and so are those behind it.
                assert same(watch.weights[k], before) == (k >= first), k
    assert {int(state["step"]) for state in watch.optimizer.state.values()} == {applied}
    assert applied < 24
    # Up to the first stop it is the run without a target.
    free, first = runs[None][0], next(k for k in range(8) if watch.kl[k] > 0.015)
    assert all(same(watch.weights[k], free.weights[k]) for k in range(first))
    assert not same(watch.weights[first], free.weights[first])
    assert all(torch.isfinite(torch.tensor(ledger.column(name))).all() for name in ledger.lines[0])
    assert len(ledger.lines) == 3, "a rollout that was cut short is logged too"


def test_the_controllers_coefficient_follows_the_logged_kl(base: Path, tmp_path: Path) -> None:
    kl = {"coefficient": 0.2, "target": 0.05, "horizon": 20}
    module = text_module(base, kl=kl, optimizer=adam(0.03))
    ledger = train(module, tmp_path, rollouts=8)
    expected = [0.2]
    for measured in ledger.column("objective/kl"):
        error = min(max(measured / 0.05 - 1, -0.2), 0.2)
        expected.append(expected[-1] * (1 + error * len(QUESTIONS) / 20))
    assert ledger.column("objective/kl_coefficient") == pytest.approx(expected[:-1], rel=1e-4)
    assert isinstance(module.controller, AdaptiveKL)
    assert module.controller.coefficient == pytest.approx(expected[-1], rel=1e-4)
    assert max(expected) > 0.2, "it went up once the policy had moved"
    other = text_module(base, kl=kl)
    other.load_experience_state(copy.deepcopy(module.experience_state()))
    assert other.controller.coefficient == module.controller.coefficient


def test_an_interrupted_rollout_goes_on_where_it_stopped_even_past_the_target_kl(base: Path, tmp_path: Path) -> None:
    """A checkpoint in the middle of a rollout carries the experience, the controller and that updates are over."""

    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            trainer.save_checkpoint(tmp_path / f"{batch_idx}.ckpt")

    def build() -> Any:
        return text_module(
            base,
            epochs=4,
            minibatches=2,
            target_kl=0.01,
            optimizer=adam(0.01),
            kl={"coefficient": 0.2, "target": 0.05, "horizon": 20},
            function=letter_e,
        )

    whole = build()
    ledger = train(whole, tmp_path, rollouts=3, callbacks=[Save()])
    states = whole.policy_state()
    for index in (8, 10, 14, 15, 16):
        resumed = build()
        again = train(resumed, tmp_path, rollouts=3, ckpt_path=tmp_path / f"{index}.ckpt")
        assert all(torch.equal(v, states[k]) for k, v in resumed.policy_state().items()), index
        assert resumed.controller.coefficient == whole.controller.coefficient
        assert again.lines[-1]["objective/kl"] == ledger.lines[-1]["objective/kl"], index
    stopped = torch.load(tmp_path / "14.ckpt", weights_only=True)["rslit"]["ranks"][0]
    assert stopped["stopped"], "the test covers a rollout whose updates are over"
