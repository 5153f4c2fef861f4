from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.recipes.recipe import config_files, load_recipe

DIAMOND = """
name: diamond
vars: {seed: 0, rate: 1.0e-3, bright: true}
stages:
  front: {needs: [sweep], run: "front {sweep}/scores.parquet --out {front}"}
  sweep: {needs: [risky, cautious], run: "validate --ingredients {risky} {cautious} {pretrain}"}
  cautious: {needs: [pretrain], run: "fit --seed_everything {seed} --rate={rate} --bright {bright}"}
  risky: {needs: [pretrain], run: "fit --from {pretrain}/ingredients --into {root} --at {recipe}/x"}
  pretrain: {run: fit}
"""


def test_stages_come_after_their_needs_and_otherwise_in_file_order(write: Callable[[str], Path]) -> None:
    assert list(load_recipe(write(DIAMOND)).stages) == ["pretrain", "cautious", "risky", "sweep", "front"]


def test_upstream_and_downstream_are_transitive(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(DIAMOND))
    assert recipe.upstream("sweep") == {"risky", "cautious", "pretrain"}
    assert recipe.upstream("pretrain") == set()
    assert recipe.downstream("risky") == {"sweep", "front"}


def test_placeholders(write: Callable[[str], Path], tmp_path: Path) -> None:
    recipe = load_recipe(write(DIAMOND))
    root = Path("/r")
    assert recipe.command("cautious", root) == ("fit", "--seed_everything", "0", "--rate=0.001", "--bright", "true")
    assert recipe.command("risky", root) == (
        *("fit", "--from", "/r/pretrain/ingredients", "--into", "/r", "--at", f"{tmp_path}/x"),
    )
    assert recipe.portable_command("risky") == (
        *("fit", "--from", "{root}/pretrain/ingredients", "--into", "{root}", "--at", "{recipe}/x"),
    )


def test_blanks_in_paths_and_values_stay_in_one_word(write: Callable[[str], Path]) -> None:
    text = "name: a\nvars: {title: none}\nstages:\n  s: {run: 'fit --out {s}/x --title {title} --say \"a b\"'}\n"
    recipe = load_recipe(write(text)).with_vars(["title=two 'words'"])
    assert recipe.command("s", Path("/my runs")) == (
        *("fit", "--out", "/my runs/s/x", "--title", "two 'words'", "--say", "a b"),
    )


def test_doubled_braces_are_braces_and_lines_may_be_continued(write: Callable[[str], Path]) -> None:
    text = "name: a\nstages:\n  s:\n    run: |\n      fit --lam '{{a: 0.3}}' \\\n        --x 1\n"
    assert load_recipe(write(text)).command("s", Path("/r")) == ("fit", "--lam", "{a: 0.3}", "--x", "1")


def test_settings_override_and_the_last_wins(write: Callable[[str], Path]) -> None:
    recipe = load_recipe(write(DIAMOND)).with_vars(["seed=3", "rate=a=b", "seed=4"])
    assert recipe.vars == {"seed": "4", "rate": "a=b", "bright": "true"}


def test_config_files() -> None:
    words = ["fit", "--config", "a.yaml", "--x", "b.yaml", "--config=c.yaml", "-c", "d.yaml", "--config"]
    assert list(config_files(words)) == ["a.yaml", "c.yaml", "d.yaml"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "--set seed: write it as --set key=value"),
        ("sead=3", "has no variable or axis 'sead'; did you mean 'seed'?"),
    ],
)
def test_bad_settings(write: Callable[[str], Path], setting: str, message: str) -> None:
    with pytest.raises(RslitError) as caught:
        load_recipe(write(DIAMOND)).with_vars([setting])
    assert message in str(caught.value)


def stages(body: str) -> str:
    return f"name: a\nstages:\n{body}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "line 1: not YAML"),
        ("a: b: c", "line 1: not YAML (mapping values are not allowed here)"),
        ("- a", "must be a mapping"),
        ("name: a\nstagse: {}", "unknown key 'stagse'; did you mean 'stages'?"),
        ("stages: {s: {run: fit}}", "'name' must be one word"),
        ("name: a b\nstages: {s: {run: fit}}", "'name' must be one word"),
        ("name: a", "no stages"),
        ("name: a\nstages: [fit]", "'stages' must be a mapping"),
        ("name: a\nvars: [x]\nstages: {s: {run: fit}}", "'vars' must be a mapping"),
        ("name: a\nvars: {x: [1]}\nstages: {s: {run: fit}}", "variable 'x' must be a text, a number"),
        ("name: a\nvars: {x: null}\nstages: {s: {run: fit}}", "variable 'x' must be a text, a number"),
        ("name: a\nvars: {s: 1}\nstages: {s: {run: fit}}", "the name 's' is a variable and a stage"),
        ("name: a\nvars: {root: 1}\nstages: {s: {run: fit}}", "the name 'root' is a placeholder of every recipe"),
        ("name: a\nslurm: 3\nstages: {s: {run: fit}}", "'slurm' must be a mapping"),
        (stages("  s: fit"), "stage 's' must be a mapping"),
        (stages("  on: {run: fit}"), "stage True: a name is one word"),
        (stages("  a/b: {run: fit}"), "stage 'a/b': a name is one word"),
        (stages("  s: {run: fit, need: []}"), "stage 's': unknown key 'need'; did you mean 'needs'?"),
        (stages("  s: {run: fit, slurm: 1}"), "stage 's': 'slurm' must be a mapping"),
        (stages("  s: {needs: []}"), "stage 's' has no 'run'"),
        (stages("  s: {run: ' '}"), "stage 's' has no 'run'"),
        (stages("  s: {run: fit, needs: other}"), "'needs' must be a list"),
        (stages("  s: {run: 'fit \"a'}"), "'run' is not a shell line (No closing quotation)"),
        (stages("  s: {run: vit --a}"), "'run' starts with 'vit', not with a command; did you mean 'fit'?"),
        (
            stages("  s: {run: fit, needs: [tee]}\n  tea: {run: fit}"),
            "needs 'tee', which is no stage; did you mean 'tea'?",
        ),
        (
            stages("  a: {run: fit, needs: [b]}\n  b: {run: fit, needs: [c]}\n  c: {run: fit, needs: [a]}"),
            "the needs run in a circle: a -> b -> c -> a;",
        ),
        (stages("  a: {run: fit, needs: [a]}"), "circle: a -> a;"),
        (
            stages("  s: {run: 'fit {sead}'}").replace("stages", "vars: {seed: 1}\nstages", 1),
            "{sead}; did you mean 'seed'?",
        ),
        (stages("  s: {run: 'fit {'}"), "lone '{' in '{'; write {{ or }}"),
        (stages("  s: {run: 'fit a}'}"), "lone '}' in 'a}'"),
        (stages("  s: {run: 'fit {t}'}\n  t: {run: fit}"), "uses {t} but does not need 't'; add it to needs"),
        (stages("  s: {run: fit}\n  s: {run: fit}"), "line 4: not YAML (key 's' is given twice)"),
    ],
)
def test_bad_recipes(write: Callable[[str], Path], text: str, message: str) -> None:
    path = write(text)
    with pytest.raises(RslitError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RslitError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "image.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(RslitError, match="not a text file in UTF-8"):
        load_recipe(tmp_path / "image.yaml")
