"""Checkpoints of a module: what they hold, how they are taken back, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_rewarded import VALIDATION, Toy, build, trainer

from rslit.errors import RslitError
from rslit.rollouts import RolloutLoader
from rslit.soup import Soup, fingerprint


def saved(root: Path, module: Toy) -> dict[str, Any]:
    run = trainer(root)
    run.fit(module, RolloutLoader([0], module), VALIDATION)
    run.save_checkpoint(root / "x.ckpt")
    return dict(torch.load(root / "x.ckpt", weights_only=True))


def test_a_checkpoint_holds_what_is_trained_and_what_we_know(tmp_path: Path) -> None:
    module = build()
    begun = fingerprint(module.policy_state())
    checkpoint = saved(tmp_path, module)
    assert begun != fingerprint(module.policy_state())
    policy = {"policy.gain.weight", "policy.gain.bias", "policy.count"}
    assert set(checkpoint["state_dict"]) == policy | {"value.weight", "value.bias"}
    assert checkpoint["rslit"] == {
        "task": "test_rewarded.Toy",
        "reward": "a",
        "fingerprint": begun,
        "rollouts_done": 1,
        "samples_done": 6,
        "ranks": [{"pointer": 7}],
    }


def test_a_checkpoint_is_taken_back(tmp_path: Path) -> None:
    first = build()
    saved(tmp_path, first)
    second = build(seed=1)
    trainer(tmp_path, max_epochs=2).fit(second, RolloutLoader([0], second), VALIDATION, ckpt_path=tmp_path / "x.ckpt")
    assert second.loaded == {"pointer": 7}
    assert (second.rollouts_done, second.samples_done) == (2, 12)
    assert second.fingerprint == first.fingerprint
    # Adam's first steps move a weight whose gradient is constant by its rate of 1e-3 each.
    moved = (first.policy.gain.bias - second.policy.gain.bias).detach()
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("rslit"), "was not written by rslit"),
        (lambda c: c["rslit"].update(task="x.Y"), "is of task 'x.Y', this run of 'test_rewarded.Toy'"),
        (lambda c: c["rslit"].update(reward="b"), "is of reward 'b', this run of 'a'"),
        (lambda c: c["rslit"].update(ranks=[{}, {}]), "comes from 2 processes and this run has 1"),
        (lambda c: c["state_dict"].pop("policy.gain.bias"), r"weights are not this module's \(policy.gain.bias\)"),
        (lambda c: c["state_dict"].update(odd=1), r"weights are not this module's \(odd\)"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    checkpoint = saved(tmp_path, build())
    change(checkpoint)
    with pytest.raises(RslitError, match=message):
        build().on_load_checkpoint(checkpoint)


def test_no_checkpoint_while_a_soup_is_poured() -> None:
    module = build()
    states = {n: module.policy_state() | {"gain.bias": torch.tensor([b])} for n, b in (("one", 1.0), ("two", 3.0))}
    soup = Soup(states, trainable_keys=module.trainable_keys)
    with (
        soup.at({"one": 1.0}, module.policy),
        pytest.raises(RslitError, match="while a soup is poured into the policy"),
    ):
        module.on_save_checkpoint({})
    module.on_save_checkpoint({})
