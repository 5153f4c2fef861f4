from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.recipes.recipe import Recipe, load_recipe
from rslit.recipes.state import StageState, plan, read_state, set_aside, write_json, write_state

RECIPE = """
name: a
vars: {seed: 0}
stages:
  one: {run: "fit --config {recipe}/one.yaml --seed {seed}"}
  two: {needs: [one], run: "fit --config={one}/config.yaml --out {two}"}
  alone: {run: "fit --trainer {recipe}/trainer.yaml"}
"""


@pytest.fixture
def recipe(write: Callable[..., Path]) -> Recipe:
    write("# a comment\nrate: 0.1\nmodel: parts/model.yaml\n", "one.yaml")
    path = write("layers: 2\n", "model.yaml")
    (path.parent / "parts").mkdir()
    path.rename(path.parent / "parts" / "model.yaml")
    write("max_epochs: 3\n", "trainer.yaml")
    return load_recipe(write(RECIPE))


def finish(recipe: Recipe, root: Path, state: str = "done") -> None:
    for task in plan(recipe, root):
        task.folder.mkdir(parents=True)
        write_state(task.folder, StageState(state, list(task.command), task.fingerprint, task.inputs, "", "", 2.5, 0))  # type: ignore[arg-type]


def test_a_fingerprint_is_of_command_files_and_needs(recipe: Recipe, root: Path) -> None:
    one, two, alone = sorted(plan(recipe, root), key=lambda task: ["one", "two", "alone"].index(task.name))

    def sha(content: object) -> str:
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    assert one.inputs == {
        "command": ["fit", "--config", "{recipe}/one.yaml", "--seed", "0"],
        "files": {
            "{recipe}/one.yaml": sha({"rate": 0.1, "model": "parts/model.yaml"}),
            "{recipe}/one.yaml > parts/model.yaml": sha({"layers": 2}),
        },
        "needs": {},
    }
    assert one.fingerprint == hashlib.sha256(json.dumps(one.inputs, sort_keys=True).encode()).hexdigest()
    assert two.inputs["needs"] == {"one": one.fingerprint}
    assert two.inputs["files"] == {}
    assert list(alone.inputs["files"]) == ["{recipe}/trainer.yaml"]


def test_actions(recipe: Recipe, root: Path) -> None:
    assert {task.action for task in plan(recipe, root)} == {"run"}
    finish(recipe, root)
    assert [(task.action, task.seconds) for task in plan(recipe, root)] == [("skip", 2.5)] * 3
    assert {task.name: task.action for task in plan(recipe, root, ["one"])} == {
        "one": "run",
        "two": "run",
        "alone": "skip",
    }


@pytest.mark.parametrize("state", ["running", "failed"])
def test_what_stopped_is_resumed(write: Callable[..., Path], root: Path, state: str) -> None:
    recipe = load_recipe(write("name: a\nstages: {s: {run: fit}}"))
    finish(recipe, root, state)
    assert [task.action for task in plan(recipe, root)] == ["resume"]


def test_moving_the_root_and_the_recipe_changes_nothing(recipe: Recipe, root: Path, tmp_path: Path) -> None:
    finish(recipe, root)
    moved = tmp_path / "else where"
    moved.mkdir()
    for name in ("recipe.yaml", "one.yaml", "trainer.yaml", "parts", "runs"):
        (tmp_path / name).rename(moved / name)
    tasks = plan(load_recipe(moved / "recipe.yaml"), moved / "runs")
    assert [task.action for task in tasks] == ["skip"] * 3


def test_comments_and_layout_change_nothing(recipe: Recipe, root: Path, write: Callable[..., Path]) -> None:
    finish(recipe, root)
    write("{rate: 0.10, model: 'parts/model.yaml'}  # another\n", "one.yaml")
    assert plan(recipe, root)[0].action == "skip"


@pytest.mark.parametrize(
    ("file", "text", "stage", "message"),
    [
        ("one.yaml", "rate: 0.2\nmodel: parts/model.yaml", "one", "another content of {recipe}/one.yaml"),
        ("parts/model.yaml", "layers: 3", "one", "another content of {recipe}/one.yaml > parts/model.yaml"),
        ("trainer.yaml", "max_epochs: '3'", "alone", "another content of {recipe}/trainer.yaml"),
        ("trainer.yaml", "not: [yaml", "alone", "another content of {recipe}/trainer.yaml"),
    ],
)
def test_a_changed_file_is_named(
    recipe: Recipe, root: Path, write: Callable[..., Path], file: str, text: str, stage: str, message: str
) -> None:
    finish(recipe, root)
    write(text, file)
    with pytest.raises(RslitError) as caught:
        plan(recipe, root)
    assert f"stage '{stage}' in {root} was started with {message};" in str(caught.value)
    assert f"--redo {stage}" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--seed {seed}", "--seed 3", "another command (--seed '0' is now '3')"),
        ("--seed {seed}", "--seed {seed} --fast", "another command ('' is now '--fast')"),
        ("--seed {seed}", "--seed {seed} --seed {seed}", "another command ('' is now '--seed 0')"),
        ("--seed {seed}", "", "another command ('--seed 0' is now '')"),
        ("two: {needs: [one],", "two: {needs: [one, alone],", "other needs (one, now alone, one)"),
    ],
)
def test_a_changed_recipe_is_explained(
    recipe: Recipe, root: Path, write: Callable[..., Path], old: str, new: str, message: str
) -> None:
    finish(recipe, root, "done")
    with pytest.raises(RslitError) as caught:
        plan(load_recipe(write(RECIPE.replace(old, new))), root)
    assert message in str(caught.value)


def test_a_stage_whose_needs_are_gone_is_refused(recipe: Recipe, root: Path) -> None:
    finish(recipe, root)
    (root / "one" / "stage.json").unlink()
    with pytest.raises(RslitError, match=r"stage 'two' in .* was started from a 'one' that is no longer there"):
        plan(recipe, root)


@pytest.mark.parametrize("argument", ["--config {recipe}/two.yaml", "--config={root}/loose.yaml"])
def test_missing_configs_are_named(write: Callable[..., Path], root: Path, argument: str) -> None:
    recipe = load_recipe(write(f"name: a\nstages: {{s: {{run: 'fit {argument}'}}}}"))
    with pytest.raises(RslitError, match=r"stage 's': no config file .*(two|loose)\.yaml"):
        plan(recipe, root)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "done"}', "null", '"x"'])
def test_a_damaged_state_is_named(recipe: Recipe, root: Path, text: str) -> None:
    (root / "one").mkdir(parents=True)
    (root / "one" / "stage.json").write_text(text)
    with pytest.raises(RslitError, match=r"one/stage\.json is damaged; make the stage anew with --redo one"):
        plan(recipe, root)
    assert plan(recipe, root, ["one"])[0].action == "run"


def test_states_survive_the_disk(root: Path) -> None:
    root.mkdir()
    assert read_state(root) is None
    inputs = {"command": ["fit"], "files": {"λ.yaml": "1"}, "needs": {}}
    state = StageState("failed", ["fit", "a b"], "f", inputs, "2026-01-01", "2026-01-02", 1.5, -9)
    write_state(root, state)
    assert read_state(root) == state
    assert [path.name for path in root.iterdir()] == ["stage.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [other.name for other in tmp_path.iterdir()] == ["a.json"]


def test_set_aside_takes_dependants_first_and_never_overwrites(recipe: Recipe, root: Path) -> None:
    finish(recipe, root)
    for _ in range(2):
        for name in ("one", "two"):
            (root / name).mkdir(exist_ok=True)
            (root / name / "kept").touch()
        moved = set_aside(recipe, root, ["one"])
        assert [name for name, _ in moved] == ["two", "one"]
    assert sorted(str(path.relative_to(root)) for path in root.glob(".redone/*/kept")) == [
        *(".redone/one.1/kept", ".redone/one.2/kept", ".redone/two.1/kept", ".redone/two.2/kept"),
    ]
    assert (root / "alone").exists()
