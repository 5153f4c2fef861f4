"""The page without a browser: Streamlit's own simulation of a visitor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from demo_runs import SWEEPS
from streamlit.testing.v1 import AppTest

import rslit.demo
from rslit.demo import server
from rslit.demo.live import LiveSoup
from rslit.demo.page import draw_page, expected_table
from rslit.demo.players import player_of
from rslit.demo.run_folder import open_run
from rslit.errors import RslitError
from rslit.front import Front
from rslit.modules import TextModule

Runs = Callable[[str], Path]


@pytest.fixture
def visit(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[AppTest, LiveSoup]]:
    def of(task: str) -> tuple[AppTest, LiveSoup]:
        run = open_run(runs(task))
        live, player = LiveSoup(run), player_of(run)
        monkeypatch.setattr(server, "_PAGES", [lambda: draw_page(live, player)])
        app = Path(rslit.demo.__file__).with_name("app.py")
        return AppTest.from_file(str(app), default_timeout=120), live

    return of


def sliders(visitor: AppTest) -> list[float]:
    return [slider.value for slider in visitor.slider]


@pytest.mark.parametrize("task", list(SWEEPS))
def test_every_task_is_shown(visit: Callable[[str], Any], task: str) -> None:
    visitor, live = visit(task)
    visitor.run()
    assert not visitor.exception
    assert not visitor.error
    assert sliders(visitor) == [0.5, 0.5]
    visitor.slider[0].set_value(0.3).run()
    assert not visitor.exception
    assert sliders(visitor) == [0.3, 0.7]
    first, second = live.experts
    assert visitor.query_params["lam"] == f"{first}=3/10,{second}=7/10"
    table = next(part.value for part in visitor.markdown if "this soup" in part.value)
    assert all(f"expert {name}".replace("_", r"\_") in table for name in live.experts)
    assert any("Interpolated between 2 points" in part.value for part in visitor.caption)
    # Of soups at two λ and of the references, each was played once.
    assert len(live._played) == 2 + len(live.references)


def test_text_shows_each_answer(visit: Callable[[str], Any]) -> None:
    visitor, live = visit("text")
    visitor.run()
    answers = [part.value for part in visitor.text]
    assert answers == [str(made) or "(nothing)" for made in live._played.values()]
    assert len(answers) == 4
    visitor.text_area[0].set_value("What is *that*?").run()
    assert not visitor.exception
    assert len(live._played) == 8
    visitor.text_area[0].set_value("  ").run()
    assert [part.value for part in visitor.info] == ["Write a question, and the policies answer it."]


def test_a_question_of_ones_own(visit: Callable[[str], Any]) -> None:
    for task in ("vqa", "grounding"):
        visitor, live = visit(task)
        visitor.run()
        visitor.text_input[0].set_value("the red thing").run()
        assert not visitor.exception
        assert len(live._played) == 8
        assert not any(part.value.startswith(("People", "dashed")) for part in visitor.caption)


def test_points_are_chosen_by_name(visit: Callable[[str], Any]) -> None:
    visitor, _ = visit("locomotion")
    visitor.run()
    label = "risky 0.25, cautious 0.75"
    box = visitor.selectbox(key="point")
    assert label in box.options
    box.select(label).run()
    assert sliders(visitor) == [0.25, 0.75]
    assert any("Measured in the sweep" in part.value for part in visitor.caption)
    visitor.slider[1].set_value(0.6).run()
    assert visitor.selectbox(key="point").value is None


def test_export(visit: Callable[[str], Any]) -> None:
    visitor, live = visit("locomotion")
    visitor.run()
    visitor.slider[0].set_value(0.2).run()
    visitor.button(key="export").click().run()
    folder = Path(visitor.code[0].value)
    assert folder == live.run.folder / "soups" / "risky=1_5,cautious=4_5"
    assert (folder / "ingredient.json").is_file()
    visitor.slider[0].set_value(0.4).run()  # another λ: what is shown is not its folder
    assert not visitor.code


@pytest.mark.parametrize("bad", ["nonsense", "risky=2,cautious=-1", "<script>=1"])
def test_the_address_names_lam(visit: Callable[[str], Any], bad: str) -> None:
    visitor, _ = visit("locomotion")
    visitor.query_params["lam"] = "risky=1/10,cautious=9/10"
    visitor.run()
    assert sliders(visitor) == [0.1, 0.9]
    other, _ = visit("locomotion")
    other.query_params["lam"] = bad
    other.run()
    assert sliders(other) == [0.5, 0.5]
    assert len(other.warning) == 1


def test_a_task_without_a_player(runs: Runs) -> None:
    run = open_run(runs("locomotion"))
    with pytest.raises(RslitError, match="the demo does not play TextModule on LocomotionDataModule yet"):
        player_of(replace(run, evaluator=SimpleNamespace(module=TextModule.__new__(TextModule))))


def test_a_simulator_without_bodies(runs: Runs) -> None:
    from toy_env import PointEnvironment

    run = open_run(runs("locomotion"))
    run.evaluator.module.env = PointEnvironment()
    with pytest.raises(RslitError, match="PointEnvironment does not say where its bodies are"):
        player_of(run)


@pytest.mark.parametrize(("rewards", "experts", "down"), [(2, 2, "policies"), (3, 2, "rewards"), (5, 5, "rewards")])
def test_the_table_takes_the_narrower_way(rewards: int, experts: int, down: str) -> None:
    names, who = [f"r{k}" for k in range(rewards)], [f"e{n}" for n in range(experts)]
    labels = [",".join(f"{name}={int(name == own)}" for name in who) for own in who]
    scores = np.arange(experts * rewards, dtype=float).reshape(experts, rewards)
    soups = Front(scores, lams=np.eye(experts), rewards=names, experts=who, labels=labels)
    start = Front(scores[:1] - 1, rewards=names, labels=["initialisation"])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in expected_table(None, soups, start).splitlines()
    ]
    assert set(rows.pop(1)) == {"---", "---:"}
    if down == "rewards":
        rows = [list(row) for row in zip(*rows, strict=True)]
    assert rows[0] == ["", *names]
    assert rows[1] == ["initialisation", *(f"{value - 1:.4g}" for value in scores[0])]
    assert [row[0] for row in rows[2:]] == [f"expert {name}" for name in who]
    assert rows[-1][1:] == [f"{value:.4g}" for value in scores[-1]]
