"""Sweeps that are refused before anything is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_interpolation import ingredient, policy, state, sweep

from rslit.errors import RslitError

STRANGER = "sha256:" + "1" * 64
Bad = Callable[[Path, dict[str, str]], dict[str, Any]]


def morl(weights: int = 9, reward: str = "mixed", mu: dict[str, float] | None = None, **info: Any) -> Bad:
    given = {"config": {"mu": mu}, **info} if mu else info
    return lambda root, pair: {"morl": [ingredient(root, "morl", state(weights), reward, **given)]}


def strangers(root: Path, pair: dict[str, str]) -> dict[str, Any]:
    return {"ingredients": {**pair, "stranger": ingredient(root, "stranger", state(7), initialisation=STRANGER)}}


def another_task(root: Path, pair: dict[str, str]) -> dict[str, Any]:
    return {"ingredients": {n: ingredient(root, f"{n}2", state(k), task="a.B") for k, n in enumerate(pair)}}


def morl_twice(root: Path, pair: dict[str, str]) -> dict[str, Any]:
    mu = {"mu": {"risky": 0.5, "cautious": 0.5}}
    return {"morl": [ingredient(root, f"morl{k}", state(9 + k), "mixed", config=mu) for k in range(2)]}


REFUSED: list[tuple[Bad, str]] = [
    (strangers, "are strangers: they started from different initialisations"),
    (another_task, "ingredients are of task a.B, module is rslit.modules.locomotion.LocomotionModule"),
    (lambda _, p: {"ingredients": {"risky": p["risky"]}}, "a sweep interpolates at least two experts"),
    (lambda _, p: {"ingredients": {"a": p["risky"], "b": p["risky"]}}, "same weights"),
    (lambda root, p: {"ingredients": {**p, "risky": str(root / "nowhere")}}, "nowhere: no such folder"),
    (
        lambda *_: {"lattice": [{"risky": 0.5, "bold": 0.5}]},
        "lam names unknown expert 'bold'; this soup has: risky, cautious",
    ),
    (
        lambda *_: {"lattice": [{"risky": 1.0}, {"risky": 1.0, "cautious": 0.0}]},
        "lattice: 'risky=1,cautious=0' comes twice",
    ),
    (lambda *_: {"lattice": 0}, "parts=0 must be an integer of at least 1"),
    (
        lambda root, _: {"initialisation": ingredient(root, "start", state(8))},
        "the experts did not start from .*start; give what they started from",
    ),
    (morl(reward="thrift"), "was trained on 'thrift', no weighting of the rewards"),
    (morl(mu={"risky": 0.5, "thrift": 0.5}), "weighs 'thrift', which is no evaluation reward"),
    (morl(reward="risky", initialisation=STRANGER), "has another task or initialisation than the experts"),
    (morl(reward="risky", task="a.B"), "has another task or initialisation than the experts"),
    (morl_twice, "morl: 'mu risky=0.5,cautious=0.5' comes twice"),
]


@pytest.mark.parametrize(("bad", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused_before_anything_is_evaluated(tmp_path: Path, pair: dict[str, str], bad: Bad, message: str) -> None:
    kwargs = {"ingredients": pair, "lattice": 2, **bad(tmp_path, pair)}
    module = policy()
    module.evaluate_soups = lambda *args: pytest.fail("evaluated")  # type: ignore[method-assign]
    with pytest.raises(RslitError, match=message):
        sweep(tmp_path / "run", kwargs.pop("ingredients"), module=module, **kwargs)
    assert not (tmp_path / "run" / "scores.parquet").exists()


def test_infinite_scores_are_no_table(tmp_path: Path, pair: dict[str, str]) -> None:
    """The table is checked as a whole; nothing half-written stays behind."""
    module = policy()
    whole = module.evaluate_soups

    def spoilt(*args: Any) -> Any:
        samples = whole(*args)
        samples[1].scores["risky"][0] = float("inf")
        return samples

    module.evaluate_soups = spoilt  # type: ignore[method-assign]
    with pytest.raises(RslitError, match=r"reward 'risky' at point 'risky=1/2,cautious=1/2' on item '100' is infinite"):
        sweep(tmp_path / "run", pair, lattice=2, module=module)
    assert not (tmp_path / "run" / "scores.parquet").exists()
