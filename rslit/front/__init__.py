"""Reward space: scores over λ, fronts, their statistics and figures. Knows nothing of weights or of Lightning."""

from rslit.front.cross_fit import cross_fit_difference, cross_fit_hypervolume
from rslit.front.episodes import link_episodes
from rslit.front.front import Front
from rslit.front.hypervolume import hypervolume_interval, paired_hypervolume_difference
from rslit.front.lmc import LMCTest, lmc_test
from rslit.front.plots import plot_front
from rslit.front.report import write_front
from rslit.front.scores import ScoreMeta, ScoreTable, read_scores, write_scores
from rslit.front.statistics import (
    Interval,
    crossed_bootstrap_weights,
    mean_scores,
    paired_mean_interval,
    point_intervals,
)
from rslit.front.summary import FrontSummary
from rslit.front.tables import ScoreRows, concat

__all__ = [
    "Front",
    "FrontSummary",
    "Interval",
    "LMCTest",
    "ScoreMeta",
    "ScoreRows",
    "ScoreTable",
    "concat",
    "cross_fit_difference",
    "cross_fit_hypervolume",
    "crossed_bootstrap_weights",
    "hypervolume_interval",
    "link_episodes",
    "lmc_test",
    "mean_scores",
    "paired_hypervolume_difference",
    "paired_mean_interval",
    "plot_front",
    "point_intervals",
    "read_scores",
    "write_front",
    "write_scores",
]
