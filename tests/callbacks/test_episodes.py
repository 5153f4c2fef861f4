from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from episodes_kit import PosedPointEnvironment, ingredients, module_of, poured, sweep, trainer_of
from test_episode_page import Page

from rslit.callbacks import EpisodeCallback
from rslit.callbacks.episodes import _means, file_names
from rslit.datamodules import LocomotionDataModule
from rslit.front import read_scores
from rslit.modules import InterpolationEvaluator
from rslit.soup import Soup


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_pages_show_the_episode_stepped_by_hand(tmp_path: Path, verb: str) -> None:
    env = PosedPointEnvironment(episode_length=12)
    states = sweep(tmp_path, env, EpisodeCallback(seed=5, length=7), verb)
    folder = tmp_path / "episodes"
    names = ["risky=1,cautious=0", "risky=0,cautious=1", "risky=1_2,cautious=1_2"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(["index.html", *(f"{n}.html" for n in names)])
    index = Page((folder / "index.html").read_text())
    assert [unquote(link) for link in index.links] == [f"{n}.html" for n in names]
    frame = read_scores(tmp_path / "scores.parquet").frame
    labels = ["risky=1,cautious=0", "risky=0,cautious=1", "risky=1/2,cautious=1/2"]
    cells = iter(index.cells)
    for k, (name, label, lam) in enumerate(zip(names, labels, [(1, 0), (0, 1), (0.5, 0.5)], strict=True)):
        module = poured(env, states, dict(zip(states, lam, strict=True)))
        episodes = env.episodes(torch.tensor([5]))
        positions, risky, cautious = [], [0.0], [0.0]
        for _ in range(7):
            with torch.no_grad():
                action = torch.tanh(module.policy(episodes.observations)[0])
            step = episodes.step(action)
            positions.append(float(step.observations[0, 0]))
            risky.append(risky[-1] + float(step.terms["x_velocity"]))
            cautious.append(cautious[-1] + float(step.terms["x_velocity"] - step.terms["energy"]))
        alone = Page((folder / f"{name}.html").read_text())
        assert alone.links == ["index.html"]
        for page, j in ((index, k), (alone, 0)):
            assert page.data["episodes"][j]["lam"] == label
            assert page.data["episodes"][j]["frames"] == 7
            assert page.data["seconds"] == 0.1
            np.testing.assert_allclose(page.poses(j)[:, 0, 0], positions, atol=1e-6)
            np.testing.assert_allclose(page.total(j, 0), risky[1:], atol=1e-5)
            np.testing.assert_allclose(page.total(j, 1), cautious[1:], atol=1e-5)
        for reward in ("risky", "cautious"):
            mine = frame[(frame["point"] == label) & (frame["reward"] == reward)]
            assert len(mine) == 3
            assert next(cells) == reward
            assert next(cells) == f"{mine['score'].mean():.1f}"


def test_chosen_lams_need_not_be_on_the_lattice(tmp_path: Path) -> None:
    lams = [{"risky": 0.25, "cautious": 0.75}, {"risky": 1.0}, {"risky": 1.0, "cautious": 0.0}]
    sweep(tmp_path, PosedPointEnvironment(), EpisodeCallback(lams, dirpath=str(tmp_path / "shown")))
    index = Page((tmp_path / "shown" / "index.html").read_text())
    assert [e["lam"] for e in index.data["episodes"]] == ["risky=1/4,cautious=3/4", "risky=1,cautious=0"]
    assert index.cells[:4] == ["risky", "–", "cautious", "–"]
    assert "–" not in index.cells[4:]
    assert not (tmp_path / "episodes").exists()


def test_an_episode_that_ends_is_not_shown_beyond_its_end(tmp_path: Path) -> None:
    env = PosedPointEnvironment(episode_length=30, wall=0.45)
    states = sweep(tmp_path, env, EpisodeCallback([{"risky": 1.0}], seed=3))
    module, episodes = poured(env, states, {"risky": 1.0}), env.episodes(torch.tensor([3]), auto_reset=False)
    steps = 0
    while True:
        with torch.no_grad():
            step = episodes.step(torch.tanh(module.policy(episodes.observations)[0]))
        steps += 1
        if bool(step.terminated | step.truncated):
            break
    page = Page((tmp_path / "episodes" / "index.html").read_text())
    assert 1 <= steps < 30
    assert page.data["episodes"][0]["frames"] == steps
    assert abs(page.poses(0)[-1, 0, 0]) > 0.45 > np.abs(page.poses(0)[:-1, 0, 0]).max(initial=0)


def test_the_policy_is_left_as_it_was(tmp_path: Path) -> None:
    env = PosedPointEnvironment()
    model = InterpolationEvaluator(module_of(env), ingredients(env, tmp_path), lattice=1)
    before = model.module.policy_state()
    trainer_of(tmp_path, EpisodeCallback()).validate(model, LocomotionDataModule(eval_episodes=1), verbose=False)
    after = model.module.policy_state()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_scores_of_another_sweep_are_not_shown(tmp_path: Path) -> None:
    env = PosedPointEnvironment()
    elsewhere = str(tmp_path / "scores")
    sweep(tmp_path, env, EpisodeCallback(), out=elsewhere)
    table = read_scores(tmp_path / "scores" / "scores.parquet")
    path = tmp_path / "scores" / "scores.parquet"
    same = Soup.load({n: tmp_path / "ingredients" / n for n in ("risky", "cautious")})
    assert set(_means(path, same)) == set(table.frame["point"])
    swapped = Soup.load({n: tmp_path / "ingredients" / n for n in ("cautious", "risky")})
    assert _means(path, swapped) == {}
    assert _means(tmp_path / "none.parquet", same) == {}
    # Those of its own sweep are found where the evaluator puts them.
    assert "–" not in Page((tmp_path / "episodes" / "index.html").read_text()).cells


def test_extrapolation_goes_by_the_evaluator(tmp_path: Path) -> None:
    callback = EpisodeCallback([{"risky": 1.5, "cautious": -0.5}], length=2)
    sweep(tmp_path, PosedPointEnvironment(), callback, extrapolate=True)
    assert (tmp_path / "episodes" / "risky=3_2,cautious=-1_2.html").exists()


def test_the_index_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("rslit.callbacks.episodes.write_bytes", lambda path, data: written.append(path.name))
    sweep(tmp_path, PosedPointEnvironment(), EpisodeCallback())
    assert len(written) == 4
    assert written[-1] == "index.html"


@pytest.mark.parametrize("quiet", [{"sanity_checking": True, "is_global_zero": True}, {"is_global_zero": False}])
def test_only_rank_zero_writes_and_not_on_a_sanity_check(tmp_path: Path, quiet: dict[str, bool]) -> None:
    env = PosedPointEnvironment()
    model = InterpolationEvaluator(module_of(env), ingredients(env, tmp_path))
    trainer: Any = SimpleNamespace(default_root_dir=tmp_path, **{"sanity_checking": False, **quiet})
    callback = EpisodeCallback()
    callback.setup(trainer, model, "validate")
    callback.on_validation_end(trainer, model)
    assert not (tmp_path / "episodes").exists()


def testfile_names_are_safe_and_differ() -> None:
    half = Fraction(1, 2)
    assert file_names([{"a": half, "b": half}]) == ["a=1_2,b=1_2"]
    one, two, three = file_names([{"../x y": Fraction(1)}, {".._x y": Fraction(1)}, {".._X y": Fraction(1)}])
    assert one == "___x_y=1"
    assert two.startswith("___x_y=1-")
    assert three.startswith("___X_y=1-")
    assert len({one.lower(), two.lower(), three.lower()}) == 3
    lams = [{f"expert{k}": Fraction(1 if k == j else 0) for k in range(40)} for j in (38, 39)]
    long = file_names(lams)
    assert [len(name) for name in long] == [109, 109]
    assert long[0] != long[1]
