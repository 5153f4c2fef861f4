from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.recipes import add_arguments, run
from rslit.recipes.recipe import load_recipe
from rslit.recipes.state import StageState, plan, write_state

RECIPE = """
name: exp
vars: {seed: 0, parts: 10}
stages:
  one: {run: "fit --seed {seed}"}
  two: {needs: [one], run: "validate --at '{one}/a b' --parts {parts}"}
"""


def parse(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_arguments() -> None:
    args = parse("r.yaml", "--jobs", 2, "--set", "a=1", "b=2", "--set", "c=3", "--redo", "x", "y", "--cluster", "slurm")
    assert args.settings == ["a=1", "b=2", "c=3"]
    assert (args.recipe, args.jobs, args.cluster, args.redo) == (Path("r.yaml"), 2, "slurm", ["x", "y"])
    args = parse("r.yaml")
    assert (args.jobs, args.cluster, args.root, args.dry_run, args.settings) == (None, "local", None, False, [])


@pytest.mark.parametrize("words", [("--jobs", "0"), ("--jobs", "two"), ("--cluster", "cloud")])
def test_bad_arguments(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("r.yaml", *words)
    assert caught.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_dry_run_says_what_would_run_and_writes_nothing(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs" / "exp"
    assert run(parse(write(RECIPE), "--dry-run", "--set", "seed=7")) == 0
    assert capsys.readouterr().out == (
        "[1/2] one: would run\n"
        "    rslit fit --seed 7\n"
        "[2/2] two: would run\n"
        f"    rslit validate --at '{root}/one/a b' --parts 10\n"
    )
    assert not root.exists()


def test_dry_run_knows_what_is_done(write: Callable[..., Path], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(RECIPE)
    for task, state in zip(plan(load_recipe(path), root), ("done", "failed"), strict=True):
        task.folder.mkdir(parents=True)
        write_state(task.folder, StageState(state, list(task.command), task.fingerprint, task.inputs, ""))  # type: ignore[arg-type]
    run(parse(path, "--dry-run", "--root", root))
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")] == [
        "[1/2] one: done before, skipped",
        "[2/2] two: would go on",
    ]
    run(parse(path, "--dry-run", "--root", root, "--redo", "one"))
    assert capsys.readouterr().out.count("would run") == 2


@pytest.mark.parametrize(
    ("redo", "anew"), [("s", {"s-1", "s-2", "end"}), ("s-2", {"s-2", "end"}), ("end", {"end"}), ("other", {"other"})]
)
def test_redo_means_all_instances_or_one(
    write: Callable[..., Path], root: Path, capsys: pytest.CaptureFixture[str], redo: str, anew: set[str]
) -> None:
    text = "name: a\naxes: {x: [1, 2]}\nstages:\n  s: {over: [x], run: fit}\n  end: {needs: [s], run: fit}\n"
    path = write(f"{text}  other: {{run: fit}}")
    for task in plan(load_recipe(path), root):
        task.folder.mkdir(parents=True)
        write_state(task.folder, StageState("done", list(task.command), task.fingerprint, task.inputs, ""))
    run(parse(path, "--dry-run", "--root", root, "--redo", redo))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("would run")]
    assert {line.split()[1].removesuffix(":") for line in lines} == anew


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--redo", "three"], "--redo three: .* has no such stage; known: one, two"),
        (["--set", "sed=1"], "--set sed=1: .* has no variable or axis 'sed'; did you mean 'seed'"),
    ],
)
def test_bad_values(write: Callable[..., Path], words: list[str], message: str) -> None:
    with pytest.raises(RslitError, match=message):
        run(parse(write(RECIPE), *words))


def test_a_root_that_is_a_file(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="not a folder; choose another"):
        run(parse(write(RECIPE), "--root", tmp_path / "recipe.yaml"))


def test_run_starts_rslit_itself_and_returns_its_exit_code(
    write: Callable[..., Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A package of that name in the working folder comes first for `python -m rslit`.
    (tmp_path / "rslit").mkdir()
    (tmp_path / "rslit" / "__init__.py").touch()
    (tmp_path / "rslit" / "__main__.py").write_text(
        "import pathlib, sys; pathlib.Path('argv').write_text(repr(sys.argv[1:])); sys.exit(5)"
    )
    monkeypatch.chdir(tmp_path)
    assert run(parse(write("name: a\nstages:\n  s: {run: fit --x 1}"), "--root", root)) == 1
    assert (tmp_path / "argv").read_text() == "['fit', '--x', '1']"


def test_importing_is_light() -> None:
    code = (
        "import sys, rslit.recipes; "
        "heavy = {'torch', 'lightning', 'submitit', 'numpy', 'pandas', 'matplotlib', 'rich'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.monotonic() - start < 1.5
