"""Training on images through the real Trainer: kept features, frozen weights, ingredients, logs, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from toy_runs import train
from toy_vision import LORA, TASKS, Bases, Recorder, adam, batch_of, build, move

from rslit.callbacks import SoupCallback
from rslit.errors import RslitError
from rslit.soup import Ingredient, Soup, fingerprint

TOWERS = {"captioning": "encoder.", "vqa": "vision_model.", "grounding": "model.vision_tower."}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


def count_looks(module: Any) -> list[int]:
    """Images that the encoder is shown from now on, call by call."""
    counts: list[int] = []
    policy = module.policy.get_base_model() if module.parts.adapter else module.policy

    def count(part: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counts.append(len(args[0] if args else kwargs["pixel_values"]))

    module.parts.family.tower(policy).register_forward_pre_hook(count, with_kwargs=True)
    return counts


def whole(module: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.policy.named_parameters()}


@pytest.mark.parametrize("task", TASKS)
def test_each_image_is_looked_at_once_in_training_and_over_all_lams(bases: Bases, tmp_path: Path, task: str) -> None:
    """With features kept, not kept, and without a frozen encoder, whose looks are those of each pass."""
    batch, found = batch_of(task, tmp_path / "p", 6), {}
    for gib in (1.0, 0.0):
        module = build(task, bases, cross_entropy=1.0, minibatches=2, feature_cache_gib=gib)
        looks = count_looks(module)
        train(module, batch, tmp_path, 2, max_epochs=2)
        assert looks == ([6] if gib else [6] * 4)
        looks.clear()
        start = module.policy_state()
        soup = Soup({"one": start, "two": move(module)}, trainable_keys=module.trainable_keys)
        module.evaluate_soups(batch, 0, soup, [{"one": k / 2, "two": 1 - k / 2} for k in range(3)])
        assert looks == ([] if gib else [6] * 3)
        found[gib] = start
    for key, value in found[1.0].items():
        torch.testing.assert_close(value, found[0.0][key])
    trained = build(task, bases, {}, reinforce=0.0, cross_entropy=1.0)
    looks = count_looks(trained)
    train(trained, batch, tmp_path, 3)
    assert looks == [6] * 3
    assert not trained.cache._held


@pytest.mark.parametrize("policy", [None, {"lora": LORA}, {}], ids=["decoder", "lora", "all"])
@pytest.mark.parametrize("task", TASKS)
def test_what_is_frozen_stays_and_is_in_no_ingredient(
    bases: Bases, tmp_path: Path, task: str, policy: dict[str, Any] | None
) -> None:
    module = build(task, bases, policy, cross_entropy=1.0)
    before, begun = whole(module), fingerprint(module.policy_state())
    callback = SoupCallback(initialisation=True, dirpath=str(tmp_path / "found"))
    train(module, batch_of(task, tmp_path / "p"), tmp_path, 2, callbacks=[callback])
    moved = {name for name, value in whole(module).items() if not torch.equal(value, before[name])}
    trainable = set(module.trainable_keys)
    assert moved <= trainable
    assert len(moved) > 0.7 * len(trainable), "keys' biases have no gradient, nor have unused positions"
    seen = [name for name in before if TOWERS[task] in name]
    assert seen
    assert bool(trainable & set(seen)) == (policy == {})

    last, start = (Ingredient.load(tmp_path / "found" / name) for name in ("last", "initialisation"))
    state = last.state_dict()
    assert last.info.trainable_keys == sorted(trainable)
    assert start.info.initialisation == last.info.initialisation == begun == fingerprint(start.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in module.policy_state().items())
    assert (tmp_path / "found/last/adapter_model.safetensors").exists() == (policy == {"lora": LORA})
    if policy == {"lora": LORA}:
        assert set(state) == trainable, "and no buffer of the base"

    # It is where another run can begin: the same numbers, and that fingerprint.
    again = build(task, bases, policy, initialisation=str(tmp_path / "found/last"))
    batch = batch_of(task, tmp_path / "p")
    assert fingerprint(again.policy_state()) == fingerprint(state)
    for one, two in zip(again.evaluate(batch, 0).fields.items(), module.evaluate(batch, 0).fields.items(), strict=True):
        assert str(one) == str(two)
    # A soup of the two begins at the one and ends at the other.
    soup = Soup.load({"start": tmp_path / "found/initialisation", "end": tmp_path / "found/last"})
    samples = again.evaluate_soups(batch, 0, soup, [{"start": 0.0, "end": 1.0}])
    assert str(samples[0].fields) == str(module.evaluate(batch, 0).fields)


def test_other_policies_initialisations_are_refused(bases: Bases, tmp_path: Path) -> None:
    module = build("captioning", bases)
    callback = SoupCallback(dirpath=str(tmp_path / "found"))
    train(module, batch_of("captioning", tmp_path / "p"), tmp_path, 1, callbacks=[callback])
    start = str(tmp_path / "found/last")
    for policy in ({}, {"lora": LORA}, {"trained": ["decoder.*"]}):
        with pytest.raises(RslitError, match=r"initialisation: .* has not this policy's weights"):
            build("captioning", bases, policy, initialisation=start)
    with pytest.raises(RslitError, match=r"initialisation: .* is of task rslit.modules.captioning.CaptioningModule"):
        build("vqa", bases, initialisation=start)


class Bar(Callback):
    """What the progress bar shows."""

    def __init__(self) -> None:
        self.shown: set[str] = set()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.shown |= set(trainer.progress_bar_metrics)


def test_what_is_logged(bases: Bases, tmp_path: Path) -> None:
    bar, batch = Bar(), batch_of("vqa", tmp_path / "p")
    module = build("vqa", bases, cross_entropy=1.0, minibatches=2)
    lines = train(module, batch, tmp_path, 3, callbacks=[bar]).lines
    assert len(lines) == 3, "once a rollout"
    assert lines[0].keys() == {
        *("loss/policy", "loss/cross_entropy", "objective/scores", "rewards/recorded/mean", "rewards/recorded/std"),
        *("completions/mean_length", "completions/terminated_fraction", "time/sampling", "time/reward"),
    }
    assert lines[0]["objective/scores"] == lines[0]["rewards/recorded/mean"] == pytest.approx(23 / 12)
    assert 1 <= lines[0]["completions/mean_length"] <= 6
    assert bar.shown == {"objective/scores", "loss/cross_entropy"}
    plain = train(build("vqa", bases, reinforce=0.0, cross_entropy=1.0), batch, tmp_path, 1).lines
    assert plain[0].keys() == {"loss/cross_entropy"}


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("captioning", {}),
        ("vqa", {"policy": {"lora": LORA}, "sampling": {"baseline": "greedy"}}),
        ("grounding", {"policy": {}, "reinforce": 5.0, "cross_entropy": 1.0}),
    ],
)
def test_an_interrupted_rollout_goes_on_where_it_stopped(
    bases: Bases, tmp_path: Path, task: str, options: dict[str, Any]
) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            trainer.save_checkpoint(tmp_path / f"{batch_idx}.ckpt")

    def made() -> Any:
        return build(task, bases, reward=Recorder(), minibatches=3, optimizer=adam(0.01), **options)

    batch, one = batch_of(task, tmp_path / "p", 6), made()
    ledger = train(one, batch, tmp_path, 3, callbacks=[Save()])
    states = one.policy_state()
    kept = torch.load(tmp_path / "4.ckpt", weights_only=True)
    assert set(kept["state_dict"]) == {f"policy.{key}" for key in states}
    for index in (1, 2, 4, 7):
        resumed = made()
        again = train(resumed, batch, tmp_path, 3, ckpt_path=tmp_path / f"{index}.ckpt")
        assert all(torch.equal(value, states[key]) for key, value in resumed.policy_state().items()), index
        assert resumed.rollouts_done == 3
        for name in ("objective/scores", "completions/mean_length", "rewards/recorded/std"):
            assert again.column(name) == ledger.column(name)[-len(again.lines) :], (index, name)
        assert len(again.lines) == {1: 3, 2: 2, 4: 2, 7: 1}[index]
