"""Runs the stages of one experiment, one after another or side by side, here or on Slurm."""

from __future__ import annotations

from rslit.recipes.command import add_arguments, run
from rslit.recipes.recipe import Recipe, Stage, load_recipe

__all__ = ["Recipe", "Stage", "add_arguments", "load_recipe", "run"]
