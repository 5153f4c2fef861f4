"""Stages over axes: what they become, what is refused, and that they are ordinary stages to all else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.recipes import add_arguments, run
from rslit.recipes.recipe import load_recipe

GRID = """
name: study
vars: {size: 8}
axes: {seed: [0, 1], reward: [risky, cautious], mu: {m25: "[0.25, 0.75]", half: "{0.5}"}}
stages:
  pretrain: {over: [seed], run: "fit --seed {seed} --size {size} --to {pretrain}"}
  expert:
    over: [reward, seed]
    needs: [pretrain]
    run: "fit --reward {reward} --from {pretrain}/last --to {expert}"
  morl: {over: [mu, seed], needs: [pretrain], run: "fit --weights '{mu}' --from {pretrain}/last"}
  sweep:
    over: [seed]
    needs: [expert, morl]
    run: "validate --a {expert-risky}/last --b {expert-cautious}/last --morl+ {morl*}/last --to {sweep}"
  front: {needs: [sweep], run: "front {sweep*}/scores --beside one={expert-risky-0}/x all={sweep*}/y --out {front}"}
"""

Write = Callable[..., Path]


def command(path: Path, stage: str, *settings: str) -> str:
    return " ".join(load_recipe(path, settings).command(stage, Path("/r")))


def test_instances(write: Write) -> None:
    recipe = load_recipe(write(GRID))
    assert list(recipe.stages) == [
        "pretrain-0", "pretrain-1",
        "expert-risky-0", "expert-risky-1", "expert-cautious-0", "expert-cautious-1",
        "morl-m25-0", "morl-m25-1", "morl-half-0", "morl-half-1",
        "sweep-0", "sweep-1", "front",
    ]  # fmt: skip
    assert recipe.groups["expert"] == ("expert-risky-0", "expert-risky-1", "expert-cautious-0", "expert-cautious-1")
    assert "front" not in recipe.groups
    assert recipe.stages["expert-risky-1"].needs == ("pretrain-1",)
    assert recipe.stages["sweep-0"].needs == ("expert-risky-0", "expert-cautious-0", "morl-m25-0", "morl-half-0")
    assert recipe.stages["front"].needs == ("sweep-0", "sweep-1")


def test_commands(write: Write) -> None:
    path = write(GRID)
    assert command(path, "pretrain-1") == "fit --seed 1 --size 8 --to /r/pretrain-1"
    assert command(path, "expert-risky-1") == "fit --reward risky --from /r/pretrain-1/last --to /r/expert-risky-1"
    recipe = load_recipe(path)
    assert recipe.command("morl-m25-0", Path("/r"))[2] == "[0.25, 0.75]"
    assert recipe.command("morl-half-0", Path("/r"))[2] == "{0.5}"
    # What appends is repeated with its option; other words alone, as one list.
    assert command(path, "sweep-0") == (
        "validate --a /r/expert-risky-0/last --b /r/expert-cautious-0/last --morl+ /r/morl-m25-0/last "
        "--morl+ /r/morl-half-0/last --to /r/sweep-0"
    )
    assert command(path, "front") == (
        "front /r/sweep-0/scores /r/sweep-1/scores --beside one=/r/expert-risky-0/x all=/r/sweep-0/y all=/r/sweep-1/y "
        "--out /r/front"
    )


def test_one_instance_is_needed_by_its_short_name(write: Write) -> None:
    one = "  one: {over: [seed], needs: [expert-risky], run: 'fit {expert-risky} {pretrain}'}\n"
    text = GRID.replace("  front:", f"{one}  front:")
    recipe = load_recipe(write(text))
    assert recipe.stages["one-1"].needs == ("expert-risky-1",)
    assert recipe.command("one-1", Path("/r")) == ("fit", "/r/expert-risky-1", "/r/pretrain-1")
    with pytest.raises(RslitError, match="stage 'one-0' needs 'expert-rapid', which is no stage"):
        load_recipe(write(text.replace("needs: [expert-risky]", "needs: [expert-rapid]")))


def test_settings_choose_values(write: Write) -> None:
    path = write(GRID.replace("one={expert-risky-0}/x ", ""))
    recipe = load_recipe(path, ["seed=7", "mu=half", "size=9"])
    assert recipe.groups["morl"] == ("morl-half-7",)
    assert command(path, "pretrain-7", "seed=7", "size=9") == "fit --seed 7 --size 9 --to /r/pretrain-7"
    assert load_recipe(path, ["seed=1,0"]).groups["pretrain"] == ("pretrain-1", "pretrain-0")


def test_redo_and_dry_run(write: Write, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    path = str(write(GRID))
    words = [path, "--root", str(root), "--dry-run", "--set", "seed=0"]
    assert run(parser.parse_args([*words, "--redo", "expert"])) == 0
    assert capsys.readouterr().out.count("would run") == 7
    with pytest.raises(
        RslitError, match=r"--redo experts: .* has no such stage; it has: pretrain, expert, morl, sweep"
    ):
        run(parser.parse_args([*words, "--redo", "experts"]))


def refuse(write: Write, message: str, old: str, new: str, settings: tuple[str, ...] = ()) -> None:
    assert old in GRID
    with pytest.raises(RslitError, match=message) as caught:
        load_recipe(write(GRID.replace(old, new)), settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "old", "new"),
    [
        ("axis 'seed' must be a list or mapping of at least one value", "seed: [0, 1]", "seed: []"),
        ("axis 'seed' must be a list or mapping", "seed: [0, 1]", "seed: 3"),
        ("axis 'seed' has a value twice", "seed: [0, 1]", "seed: [1, 1]"),
        ("axis 'seed': '0.5' cannot be part of a stage's name", "seed: [0, 1]", "seed: [0.5, 1]"),
        ("'axes' must be a mapping", next(line for line in GRID.splitlines() if "axes" in line), "axes: 3"),
        (
            "stage 'sweep' is over 'seeds', which is no axis; known: seed, reward, mu",
            "over: [seed]\n    needs: [expert,",
            "over: [seeds]\n    needs: [expert,",
        ),
        ("'over' must be a list of axes", "over: [reward, seed]", "over: reward"),
        ("the name 'reward' is a variable and an axis", "{size: 8}", "{size: 8, reward: x}"),
        ("the name 'pretrain' is an axis and a stage", "mu: {m25", "pretrain: [1], mu: {m25"),
        (
            r"\{expert\} stands for several; write \{expert-risky\}, \{expert-cautious\}, or \{expert\*\} for all",
            "{expert-risky}/last",
            "{expert}/last",
        ),
        (r"uses \{reward\} but is not over 'reward'; add it to 'over'", "--b {expert-cautious}", "--b {reward}"),
        (r"\{experts\*\} stands for no stage", "{morl*}", "{experts*}"),
        ("unknown placeholder {expert-rapid}", "{expert-risky}/last", "{expert-rapid}/last"),
        ("two stages are called 'expert-risky-0'", "  front:", "  expert-risky-0: {run: fit}\n  front:"),
        ("uses {morl-m25-0} but does not need 'morl-m25-0'", "needs: [expert, morl]", "needs: [expert]"),
    ],
)
def test_refusals(write: Write, message: str, old: str, new: str) -> None:
    refuse(write, message, old, new)


@pytest.mark.parametrize("setting", ["mu=quarter", "seed=", "seed=1,1"])
def test_refused_settings(write: Write, setting: str) -> None:
    refuse(write, f"--set {setting}: give values of the axis", "seed", "seed", (setting,))
