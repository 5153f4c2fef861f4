from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from toy_env import PointEnvironment

import rslit.soup.storage
from rslit.callbacks import SoupCallback
from rslit.datamodules import LocomotionDataModule
from rslit.errors import RslitError
from rslit.modules import LocomotionModule
from rslit.rewards import TermsReward, WeightedSum
from rslit.soup import Ingredient, fingerprint

RISKY = TermsReward({"x_velocity": 1.0}, "risky")
CAUTIOUS = TermsReward({"x_velocity": 1.0, "energy": -1.0}, "cautious")
MONITOR = "val/locomotion/risky"


def build(reward: Any = RISKY, kind: type[LocomotionModule] = LocomotionModule) -> LocomotionModule:
    torch.manual_seed(0)
    return kind(
        PointEnvironment(episode_length=4),
        reward,
        evaluation_rewards=[RISKY, CAUTIOUS],
        policy_layers=[4],
        value_layers=[4],
        unroll_length=2,
        epochs=1,
        minibatches=1,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.01),
    )


class Scripted(Callback):
    """Stands for validation: logs the given score after each epoch and remembers the weights of each."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = list(scores)
        self.weights: list[torch.Tensor] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            pl_module.log(MONITOR, self.scores[trainer.current_epoch])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights.append(pl_module.policy.net[0].weight.detach().clone())


class Silent(LocomotionModule):
    """Leaves logging to the script."""

    def on_validation_epoch_end(self) -> None:
        self._totals.clear()


def fit(root: Path, callback: SoupCallback, module: Any = None, script: Callback | None = None, **kwargs: Any) -> Any:
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": root,
        "callbacks": [callback, *([script] if script else [])],
    }
    trainer = Trainer(**{**given, **kwargs})
    module = module or build()
    trainer.fit(module, LocomotionDataModule(num_envs=2, rollouts_per_epoch=1, eval_episodes=2))
    return module


def scripted(root: Path, scores: Sequence[float], **kwargs: Any) -> tuple[SoupCallback, Scripted]:
    callback, script = SoupCallback(monitor=MONITOR, **kwargs), Scripted(scores)
    fit(root, callback, build(kind=Silent), script, max_epochs=len(scores))
    return callback, script


def names(root: Path) -> set[str]:
    return {path.name for path in (root / "ingredients").iterdir()}


def test_last_is_the_policy_as_training_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "6")
    start = fingerprint(build().policy_state())
    module = fit(tmp_path, SoupCallback())
    assert names(tmp_path) == {"last"}
    last = Ingredient.load(tmp_path / "ingredients" / "last")
    assert all(torch.equal(last.tensor(k), v) for k, v in module.policy_state().items())
    assert not any(k.startswith("value") for k in last.keys())  # noqa: SIM118  # an Ingredient is no mapping
    info = last.info
    assert (info.expert, info.reward, info.step, info.dtype) == ("risky", "risky", 3, "float32")
    assert info.task == "rslit.modules.locomotion.LocomotionModule"
    assert info.initialisation == start != fingerprint(last.state_dict())
    assert info.trainable_keys == ["net.0.bias", "net.0.weight", "net.2.bias", "net.2.weight"]
    rows = 3 * 1 * 2 * module.unroll_length  # epochs, rollouts, environments, steps
    assert info.config == {"seed": 6, "run": {}, "samples": rows}
    samples = module.evaluate({"seeds": torch.arange(1_000_000, 1_000_002)}, 0)
    assert info.scores == {n: pytest.approx(float(v.mean()), rel=1e-5) for n, v in samples.scores.items()}


def test_the_experts_name_the_folder_and_mu(tmp_path: Path) -> None:
    mixed = WeightedSum([RISKY, CAUTIOUS], [0.25, 0.75], "mixed")
    fit(tmp_path, SoupCallback(expert="bold", dirpath=str(tmp_path / "elsewhere")), build(mixed))
    info = Ingredient.load(tmp_path / "elsewhere" / "last").info
    assert (info.expert, info.reward) == ("bold", "mixed")
    assert info.config["mu"] == {"risky": 0.25, "cautious": 0.75}
    assert not (tmp_path / "ingredients").exists()


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 1)])
def test_best_goes_by_the_score(tmp_path: Path, mode: Any, best: int) -> None:
    callback, script = scripted(tmp_path, [2.0, -1.0, float("nan"), 5.0, 5.0], mode=mode)
    ingredient = Ingredient.load(tmp_path / "ingredients" / "best")
    assert torch.equal(ingredient.tensor("net.0.weight"), script.weights[best])
    assert ingredient.info.step == best + 1
    assert ingredient.info.scores == {"risky": [2.0, -1.0, 0.0, 5.0][best]}
    assert callback.best_score == (5.0 if mode == "max" else -1.0)
    last = Ingredient.load(tmp_path / "ingredients" / "last")
    assert torch.equal(last.tensor("net.0.weight"), script.weights[-1])


def test_an_epoch_without_validation_is_never_the_best(tmp_path: Path) -> None:
    callback, script = SoupCallback(monitor=MONITOR), Scripted([9.0, 1.0, 9.0, 0.0])
    fit(tmp_path, callback, build(kind=Silent), script, max_epochs=4, check_val_every_n_epoch=2)
    best = Ingredient.load(tmp_path / "ingredients" / "best")
    assert torch.equal(best.tensor("net.0.weight"), script.weights[1])
    assert callback.best_score == 1.0


def test_the_best_score_survives_resuming() -> None:
    first, second = SoupCallback(monitor=MONITOR), SoupCallback(monitor=MONITOR)
    first.best_score = 3.0
    second.load_state_dict(first.state_dict())
    assert second.best_score == 3.0


@pytest.mark.parametrize(
    ("every", "keep", "epochs", "kept"),
    [
        (1, 4, 4, {1, 2, 3, 4}),
        (1, 4, 5, {2, 4}),
        (1, 4, 13, {4, 8, 12}),
        (3, 2, 13, {6, 12}),
        (2, 10, 9, {2, 4, 6, 8}),
        (0, 10, 4, set()),
        (5, 4, 4, set()),
    ],
)
def test_the_trajectory_is_thinned_evenly(tmp_path: Path, every: int, keep: int, epochs: int, kept: set[int]) -> None:
    script = Scripted([0.0] * epochs)
    fit(tmp_path, SoupCallback(every_n_epochs=every, keep=keep), script=script, max_epochs=epochs, limit_val_batches=0)
    assert names(tmp_path) == {"last"} | {f"epoch={n:04d}" for n in kept}
    assert len(kept) <= keep
    for n in kept:
        snapshot = Ingredient.load(tmp_path / "ingredients" / f"epoch={n:04d}")
        assert torch.equal(snapshot.tensor("net.0.weight"), script.weights[n - 1])


def test_thinning_leaves_other_peoples_folders(tmp_path: Path) -> None:
    for name in ("epoch=best", "mine"):
        (tmp_path / "ingredients" / name).mkdir(parents=True)
    fit(tmp_path, SoupCallback(every_n_epochs=1, keep=2), limit_val_batches=0)
    assert names(tmp_path) == {"last", "epoch=0002", "epoch=best", "mine"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")]
)
@pytest.mark.parametrize("file", ["weights.safetensors", "ingredient.json"])
def test_a_full_or_read_only_disk_leaves_the_old_ingredient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str, file: str
) -> None:
    fit(tmp_path, SoupCallback(), max_epochs=1)
    last = tmp_path / "ingredients" / "last"
    before = contents(last)
    whole = rslit.soup.storage._flush

    def refuse(handle: Any) -> None:
        if Path(handle.name).name == file:
            raise OSError(code, words)
        whole(handle)

    monkeypatch.setattr(rslit.soup.storage, "_flush", refuse)
    with pytest.raises(RslitError, match=f"{last}: cannot write: {words}; free some space or choose a writable place"):
        fit(tmp_path, SoupCallback(), max_epochs=2)
    assert contents(last) == before
    assert names(tmp_path) == {"last"}, "nothing half-written stays behind"
    monkeypatch.undo()
    fit(tmp_path, SoupCallback(), max_epochs=2)
    assert contents(last) != before


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "ingredients" / "last").mkdir(parents=True)
    (tmp_path / "ingredients" / "last" / "thesis.txt").write_text("all my work")
    with pytest.raises(RslitError, match="last: the folder holds something else"):
        fit(tmp_path, SoupCallback())
    assert (tmp_path / "ingredients" / "last" / "thesis.txt").read_text() == "all my work"


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    fit(tmp_path, SoupCallback(every_n_epochs=1, monitor=MONITOR), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_sanity_check_is_no_validation(tmp_path: Path) -> None:
    fit(tmp_path, SoupCallback(monitor=MONITOR), num_sanity_val_steps=1, check_val_every_n_epoch=2, max_epochs=1)
    assert names(tmp_path) == {"last"}
    assert Ingredient.load(tmp_path / "ingredients" / "last").info.scores == {}


def test_bad_settings() -> None:
    for settings in ({"every_n_epochs": -1}, {"keep": 1}):
        with pytest.raises(RslitError, match="every_n_epochs must be at least 0 and keep at least 2"):
            SoupCallback(**settings)
    with pytest.raises(RslitError, match="writes the policy of a RewardedModule, not LightningModule"):
        SoupCallback().setup(None, LightningModule(), "fit")  # type: ignore[arg-type]  # looks at the module alone


def test_a_monitor_that_is_not_logged(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=f"no score 'val/bold' was logged; there are: .*{MONITOR}"):
        fit(tmp_path, SoupCallback(monitor="val/bold"))


def test_weights_that_diverged_are_not_written(tmp_path: Path) -> None:
    fit(tmp_path, SoupCallback(), max_epochs=1)
    before = contents(tmp_path / "ingredients" / "last")

    class Spoil(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            with torch.no_grad():
                pl_module.policy.net[0].weight[0, 0] = float("nan")

    with pytest.raises(RslitError, match=r"weight 'net.0.weight' is not finite: training diverged"):
        fit(tmp_path, SoupCallback(), script=Spoil(), max_epochs=1, limit_val_batches=0)
    assert contents(tmp_path / "ingredients" / "last") == before
