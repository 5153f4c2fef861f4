"""What the sections of a front's report share: the scores of each kind with their mean front and intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rslit.errors import RslitError
from rslit.front.arrays import ScoreArray, score_array
from rslit.front.front import Front
from rslit.front.scores import ScoreMeta, ScoreTable
from rslit.front.statistics import Interval, point_intervals

__all__ = ["Analysed", "Kind", "analyse"]


@dataclass
class Kind:
    """One kind of point: its scores, mean front and intervals."""

    array: ScoreArray
    front: Front
    interval: Interval


@dataclass
class Analysed:
    """One table, kind by kind.

    Attributes:
        meta: What the table is about.
        kinds: By name, in the order of `KINDS`; a soup is among them.
        draws: Replicates, level and rng of every interval.
        notes: What a reader of the numbers should know; sections add to it.
    """

    meta: ScoreMeta
    kinds: dict[str, Kind]
    draws: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def analyse(table: ScoreTable, draws: dict[str, Any]) -> Analysed:
    """Mean fronts and intervals of a table.

    Raises:
        RslitError: No soup, fewer than two rewards, several initialisations, or seeds and points that do not fit.
    """
    if len(table.meta.rewards) < 2:
        raise RslitError(f"{table.source} has one reward, '{table.meta.rewards[0]}'; a front needs at least two")
    report = Analysed(table.meta, {kind: _kind(table, kind, draws) for kind in table.kinds()}, draws)
    if "soup" not in report.kinds:
        raise RslitError(f"{table.source} has no soup points; add the scores.parquet of a sweep")
    return report


def _kind(table: ScoreTable, name: str, draws: dict[str, Any]) -> Kind:
    array = score_array(table, name)
    if name == "initialisation" and len(array.points) > 1:
        raise RslitError(f"{table.source} has initialisations {', '.join(array.points)}; give files of one")
    interval = point_intervals(array.values, **draws)
    soup = name == "soup"
    front = Front(
        interval.estimate,
        lams=array.weights if soup else None,
        rewards=table.meta.rewards,
        experts=table.meta.experts if soup else None,
        labels=array.points,
    )
    return Kind(array, front, interval)
