"""The command `rslit recipe`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection
from pathlib import Path

from rslit.errors import RslitError
from rslit.recipes.recipe import Recipe, load_recipe
from rslit.recipes.stage import known_names
from rslit.recipes.state import plan

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rslit recipe` to a parser."""
    parser.description = (
        "Runs the stages of an experiment. Stages already done are skipped, those interrupted go on, "
        "and a stage whose command or configuration has changed is refused until --redo says to make it anew."
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="the recipe")
    parser.add_argument("--jobs", type=_count, metavar="N", help="stages that may run at a time (1; on Slurm all)")
    parser.add_argument("--cluster", choices=("local", "slurm"), default="local", help="where to run (%(default)s)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="set variables of the recipe, or the values of an axis: seed=0,1,2",
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the stages' folders (runs/<recipe's name>)")
    parser.add_argument(
        "--redo",
        nargs="+",
        action="extend",
        default=[],
        metavar="STAGE",
        help="make stages, or all instances of a grid stage, anew, with all that need them; the old folders are moved "
        "to DIR/.redone",
    )
    parser.add_argument(
        "--retries", type=_count, default=0, metavar="N", help="how often to try a failed stage again in this call (0)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Args:
        args: Parsed arguments, see `add_arguments`.

    Returns:
        The exit code: 0 if every stage is done, 1 if one failed, 130 if interrupted.

    Raises:
        RslitError: Bad input; nothing was run.
    """
    recipe = load_recipe(args.recipe).with_vars(args.settings)
    redo = [stage for name in args.redo for stage in _instances(recipe, name)]
    root = (args.root or Path("runs") / recipe.name).absolute()
    if root.exists() and not root.is_dir():
        raise RslitError(f"--root {root}: not a folder; choose another")
    if args.dry_run:
        _dry_run(recipe, root, redo)
        return 0
    from rslit.recipes.runner import Runner

    return Runner(recipe, root, jobs=args.jobs, cluster=args.cluster, retries=args.retries).run(redo)


def _instances(recipe: Recipe, name: str) -> list[str]:
    if not (names := recipe.instances(name)):
        raise RslitError(f"--redo {name}: {recipe.path} has no such stage; {known_names(name, recipe.written)}")
    return names


def _dry_run(recipe: Recipe, root: Path, redo: Collection[str]) -> None:
    actions = {"skip": "done before, skipped", "resume": "would go on", "run": "would run"}
    tasks = plan(recipe, root, redo)
    for index, task in enumerate(tasks, start=1):
        print(f"[{index}/{len(tasks)}] {task.name}: {actions[task.action]}")
        print(f"    rslit {shlex.join(task.command)}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)
