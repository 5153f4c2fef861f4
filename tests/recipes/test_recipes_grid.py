from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.recipes.recipe import Recipe, load_recipe

STUDY = """
name: study
vars: {rate: 0.1}
axes:
  seed: [0, 1]
  reward: [risky, cautious]
  mu: {25: "[0.25, 0.75]", 0.5: "{a: 1}"}
stages:
  pretrain: {over: [seed], run: "fit --seed {seed} --dir {pretrain} --rate {rate}"}
  expert: {over: [reward, seed], needs: [pretrain], run: "fit --reward {reward} --from {pretrain}/last --dir {expert}"}
  morl: {over: [mu, seed], needs: [pretrain], run: "fit --weights {mu} --from {pretrain} --dir {morl}"}
  sweep:
    over: [seed]
    needs: [expert, morl]
    run: "validate --ing.{reward}={expert[*]}/last --one {expert[reward=risky]} --morl+={morl[*]} --from {pretrain}"
  front: {needs: [sweep], run: "front {sweep[*]}/scores.parquet --out {front}"}
"""

Write = Callable[[str], Path]


def words(recipe: Recipe, stage: str) -> str:
    return " ".join(recipe.command(stage, Path("/r")))


def test_instances_stand_in_file_order(write: Write) -> None:
    assert list(load_recipe(write(STUDY)).stages) == [
        *("pretrain-0", "pretrain-1"),
        *("expert-risky-0", "expert-risky-1", "expert-cautious-0", "expert-cautious-1"),
        *("morl-25-0", "morl-25-1", "morl-0.5-0", "morl-0.5-1"),
        *("sweep-0", "sweep-1", "front"),
    ]


def test_an_instance_needs_those_that_agree_with_it(write: Write) -> None:
    stages = load_recipe(write(STUDY)).stages
    assert stages["pretrain-1"].needs == ()
    assert stages["expert-cautious-1"].needs == ("pretrain-1",)
    assert stages["sweep-1"].needs == ("expert-risky-1", "expert-cautious-1", "morl-25-1", "morl-0.5-1")
    assert stages["front"].needs == ("sweep-0", "sweep-1")


def test_commands_of_instances(write: Write) -> None:
    recipe = load_recipe(write(STUDY))
    assert words(recipe, "pretrain-1") == "fit --seed 1 --dir /r/pretrain-1 --rate 0.1"
    assert words(recipe, "expert-cautious-1") == (
        "fit --reward cautious --from /r/pretrain-1/last --dir /r/expert-cautious-1"
    )
    assert recipe.command("morl-0.5-0", Path("/r"))[2] == "{a: 1}"
    assert words(recipe, "sweep-1") == (
        "validate --ing.risky=/r/expert-risky-1/last --ing.cautious=/r/expert-cautious-1/last "
        "--one /r/expert-risky-1 --morl+=/r/morl-25-1 --morl+=/r/morl-0.5-1 --from /r/pretrain-1"
    )
    assert words(recipe, "front") == "front /r/sweep-0/scores.parquet /r/sweep-1/scores.parquet --out /r/front"
    assert recipe.portable_command("expert-risky-0")[-1] == "{root}/expert-risky-0"


def test_a_grid_says_what_the_stages_written_out_say(write: Write) -> None:
    grid = load_recipe(write(STUDY)).with_vars(["seed=1", "mu=25"])
    text = """
name: study
stages:
  pretrain-1: {run: "fit --seed 1 --dir {pretrain-1} --rate 0.1"}
  expert-risky-1: {needs: [pretrain-1], run: "fit --reward risky --from {pretrain-1}/last --dir {expert-risky-1}"}
  expert-cautious-1:
    {needs: [pretrain-1], run: "fit --reward cautious --from {pretrain-1}/last --dir {expert-cautious-1}"}
  morl-25-1: {needs: [pretrain-1], run: "fit --weights '[0.25, 0.75]' --from {pretrain-1} --dir {morl-25-1}"}
  sweep-1:
    needs: [expert-risky-1, expert-cautious-1, morl-25-1]
    run: >-
      validate --ing.risky={expert-risky-1}/last --ing.cautious={expert-cautious-1}/last --one {expert-risky-1}
      --morl+={morl-25-1} --from {pretrain-1}
  front: {needs: [sweep-1], run: "front {sweep-1}/scores.parquet --out {front}"}
"""
    plain = load_recipe(write(text))
    assert list(grid.stages) == list(plain.stages)
    for name, stage in plain.stages.items():
        assert grid.stages[name].needs == stage.needs
        assert grid.portable_command(name) == plain.portable_command(name)


def test_a_name_stands_for_one_stage_or_for_all_instances(write: Write) -> None:
    recipe = load_recipe(write(STUDY))
    assert recipe.instances("sweep") == ["sweep-0", "sweep-1"]
    assert recipe.instances("sweep-1") == ["sweep-1"]
    assert recipe.instances("front") == ["front"]
    assert recipe.instances("expert-risky") == []


def test_an_instance_selects_among_all_it_comes_from(write: Write) -> None:
    text = """
name: a
axes: {x: [1, 2], y: [a, b]}
stages:
  one: {over: [x, y], run: fit}
  pool: {needs: [one], run: fit}
  two: {over: [x], needs: [pool], run: "fit {one[y=b]} {one[x=2,y=a]} {one[*]} {y}{one[*]}"}
"""
    assert words(load_recipe(write(text)), "two-1") == (
        "fit /r/one-1-b /r/one-2-a /r/one-1-a /r/one-1-b a/r/one-1-a b/r/one-1-b"
    )


@pytest.mark.parametrize(
    ("setting", "stage"),
    [("seed=7,8", "expert-risky-8"), ("reward=new", "expert-new-1"), ("mu=0.5", "morl-0.5-1")],
)
def test_settings_replace_an_axis(write: Write, setting: str, stage: str) -> None:
    recipe = load_recipe(write(STUDY.replace(" --one {expert[reward=risky]}", "")))
    assert stage in recipe.with_vars([setting]).stages
    assert list(recipe.with_vars([setting, "rate=2"]).stages) == list(recipe.with_vars([setting]).stages)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=", "axis 'seed' has no values"),
        ("seed=1,2,1", "axis 'seed' has the value '1' twice"),
        ("seed=a/b", "axis 'seed': 'a/b' cannot be part of a stage's name"),
        ("mu=25,26", "axis 'mu' has no value named '26'; known: 0.5, 25"),
        ("mu=25,25", "axis 'mu' has the value '25' twice"),
        ("reward=new", "{expert[reward=risky]}: axis 'reward' has no value 'risky'; known: new"),
        ("sead=1", "no variable or axis 'sead'; did you mean 'seed'?"),
    ],
)
def test_bad_settings(write: Write, setting: str, message: str) -> None:
    with pytest.raises(RslitError) as caught:
        load_recipe(write(STUDY)).with_vars([setting])
    assert message in str(caught.value)


def small(axes: str = "{x: [1, 2], y: [a]}", extra: str = "", run: str = "fit", over: str = "[x, y]") -> str:
    return f"name: a\naxes: {axes}\nstages:\n  s: {{over: {over}, run: '{run}'}}\n{extra}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (small("[x]"), "'axes' must be a mapping"),
        (small("{x: 3, y: [a]}"), "axis 'x' must be a list of values or a mapping"),
        (small("{x: [], y: [a]}"), "axis 'x' has no values"),
        (small("{x: {}, y: [a]}"), "axis 'x' has no values"),
        (small("{x: [1, '1'], y: [a]}"), "axis 'x' has the value '1' twice"),
        (small("{x: ['[0.5, 0.5]'], y: [a]}"), "give it a short name"),
        (small("{x: [[1]], y: [a]}"), "axis 'x': a value must be a text"),
        (small("{x: {a: [1]}, y: [a]}"), "axis 'x': 'a' must be a text"),
        (small("{x: [1], y: [a], root: [1]}"), "the name 'root' is a placeholder of every recipe"),
        (small("{x: [1], y: [a], s: [1]}"), "the name 's' is an axis and a stage"),
        (small().replace("axes:", "vars: {x: 1}\naxes:"), "the name 'x' is a variable and an axis"),
        (small("{x: [1], y: [a], z: [1]}"), "no stage is over the axis 'z'"),
        (small(over="x"), "'over' must be a list of axes such as [seed]"),
        (small(over="[x, y, z]"), "is over 'z', which is no axis; known: x, y"),
        (small(over="[x, y, x]"), "is over 'x' twice"),
        (small(extra="  s-1-a: {run: fit}"), "an instance of 's' is named 's-1-a', as something else is"),
        (small("{x: ['1', 1-a], y: [a-a, a]}"), "an instance of 's' is named 's-1-a-a', as something else is"),
        (small(run="fit {z}"), "stage 's-1-a': unknown placeholder {z}"),
        (small(extra="  t: {run: 'fit {x}'}"), "stage 't' uses {x} but is not over 'x'"),
        (small(extra="  t: {run: 'fit {s}'}"), "stage 't' uses {s} but does not need 's'"),
        (small(extra="  t: {run: 'fit {s[*]}'}"), "stage 't' uses {s} but does not need 's'"),
        (
            small(extra="  t: {needs: [s], run: 'fit {s}'}"),
            "{s} is several stages (s-1-a, s-2-a); select one by 'x'",
        ),
        (
            small(extra="  t: {needs: [s], run: 'fit {s[y=a]}'}"),
            "{s[y=a]} is several stages (s-1-a, s-2-a); select one by 'x'",
        ),
        (small(extra="  t: {needs: [s], run: 'fit {s[1]}'}"), "{s[1]} selects by '1'; write s[axis=value]"),
        (small(extra="  t: {needs: [s], run: 'fit {s[x=3]}'}"), "axis 'x' has no value '3'"),
        (
            small(extra="  t: {over: [x], needs: [s], run: 'fit {s[x=2]}'}"),
            "{s[x=2]} is none of those that 't-1' needs; take one of s-1-a",
        ),
        (small(extra="  t: {needs: [s], run: 'fit {u[*]}'}"), "no stage 'u'"),
        (
            small(extra="  t: {over: [x], run: fit}\n  u: {needs: [s, t], run: 'fit {s[*]}{t[*]}'}"),
            "repeats over s and t; write two words",
        ),
    ],
)
def test_bad_grids(write: Write, text: str, message: str) -> None:
    with pytest.raises(RslitError) as caught:
        load_recipe(write(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
