"""Episodes that cannot be drawn or written, and settings that do not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from episodes_kit import PosedPointEnvironment, ingredients, module_of, sweep, trainer_of
from toy_env import PointEnvironment

from rslit.callbacks import EpisodeCallback
from rslit.datamodules import LocomotionDataModule
from rslit.errors import RslitError
from rslit.modules import InterpolationEvaluator


def test_a_simulator_without_bodies_gets_a_warning_and_no_file(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="PointEnvironment does not say where its bodies are; no episode was written"):
        sweep(tmp_path, PointEnvironment(), EpisodeCallback())
    assert (tmp_path / "scores.parquet").exists()
    assert not (tmp_path / "episodes").exists()


@pytest.mark.parametrize(
    ("lams", "message"),
    [
        (
            [{"risky": 1.0}, {"rsky": 1.0}],
            r"lams\[1\]: lam names unknown expert 'rsky'; this soup has: risky, cautious",
        ),
        ([{"risky": 0.5}], r"lams\[0\]: lam \(risky=0.5, cautious=0\) sums to 0.5; it must sum to 1"),
        ([{"risky": 1.5, "cautious": -0.5}], r"lams\[0\]: lam of expert 'risky' is 1.5, outside \[0, 1\]"),
    ],
)
def test_a_lam_that_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, lams: Any, message: str) -> None:
    with pytest.raises(RslitError, match=rf"^EpisodeCallback\.{message}") as caught:
        sweep(tmp_path, PosedPointEnvironment(), EpisodeCallback(lams))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "scores.parquet").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lams": []}, "EpisodeCallback.lams is empty; name at least one λ, or leave it out"),
        ({"length": 0}, "EpisodeCallback.length must be at least 1, got 0"),
        ({"seed": -1}, "EpisodeCallback.seed must be at least 0, got -1"),
    ],
)
def test_bad_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RslitError, match=f"^{message}$"):
        EpisodeCallback(**given)


def test_other_modules_are_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, EpisodeCallback())
    with pytest.raises(RslitError, match="of a LocomotionModule, not LocomotionModule; leave it out here"):
        trainer.validate(module_of(PosedPointEnvironment()), LocomotionDataModule(eval_episodes=1), verbose=False)


def test_a_sharded_policy_is_refused(tmp_path: Path) -> None:
    env = PosedPointEnvironment()
    model = InterpolationEvaluator(module_of(env), ingredients(env, tmp_path))
    model._device_mesh = object()  # type: ignore[assignment]  # any mesh will do
    with pytest.raises(RslitError, match="cannot act with a sharded policy; leave it out under this strategy"):
        EpisodeCallback().setup(trainer_of(tmp_path), model, "validate")


def test_a_full_disk_leaves_the_old_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = PosedPointEnvironment()
    sweep(tmp_path, env, EpisodeCallback())
    pages = {p.name: p.read_bytes() for p in (tmp_path / "episodes").iterdir()}
    model = InterpolationEvaluator(
        module_of(env), {n: str(tmp_path / "ingredients" / n) for n in ("risky", "cautious")}
    )
    callback = EpisodeCallback(seed=9)
    trainer = trainer_of(tmp_path, callback)
    callback.setup(trainer, model, "validate")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RslitError, match=r"cannot write .*\.html: No space left on device"):
        callback.on_validation_end(trainer, model)
    assert {p.name: p.read_bytes() for p in (tmp_path / "episodes").iterdir()} == pages
