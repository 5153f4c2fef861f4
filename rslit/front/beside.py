"""Other soups set beside the one a report is about: `rslit front SCORES --beside NAME=OTHER.parquet`.

What the paper compares its soups with is each a sweep of its own: soups towards the initialisation (WiSE, Figure
11(a)), of MORL solutions (11(a)), of one reward over seeds (11(b)), beyond the experts (11(c)), of other
hyper-parameters (Figure 16), ensembles of predictions (4(c)); and so is a run from another day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rslit.errors import RslitError
from rslit.front.analysed import Analysed, Kind
from rslit.front.arrays import ScoreArray, align, score_array
from rslit.front.compare import Reference
from rslit.front.front import Front
from rslit.front.hypervolume import hypervolume_interval, paired_hypervolume_difference
from rslit.front.numbers import by_name, finite, numbers
from rslit.front.provenance import provenance
from rslit.front.scores import ScoreMeta, ScoreTable, read_scores
from rslit.front.sections import run_lmc
from rslit.front.statistics import point_intervals
from rslit.front.tables import concat

__all__ = ["Beside", "beside_section", "read_beside"]


class Beside:
    """A soup set beside another, opened.

    Attributes:
        name: What it is called.
        kind: Its soups, with the main soup's rewards in the main soup's order.
        meta: What its table is about.
        files: Its score tables, by path.
    """

    def __init__(self, name: str, files: Mapping[Path, ScoreTable], report: Analysed) -> None:
        """Checks that it can be compared, and analyses it.

        Raises:
            RslitError: Another task, a reward that is missing, no soup, no item in common, or seeds that do not fit.
        """
        self.name, self.files = name, dict(files)
        table = concat(list(files.values()))
        self.meta = table.meta
        _check(name, table.meta, report.meta, table.source)
        array = score_array(table, "soup")
        columns = [table.meta.rewards.index(reward) for reward in report.meta.rewards]
        array = replace(array, values=array.values[..., columns])
        own = report.kinds["soup"].array
        if len(own.seeds) == len(array.seeds) == 1:
            array = replace(array, seeds=own.seeds)  # one run each: what pairs them is the items
        self.pairs = align(own, array)
        front = Front.from_table(table, "soup")
        front = Front(front.scores[:, columns], array.weights, report.meta.rewards, table.meta.experts, array.points)
        self.kind = Kind(array, front, point_intervals(array.values, **report.draws))


def read_beside(files: Mapping[str, Sequence[Path | str]], report: Analysed) -> list[Beside]:
    """Opens what is to be set beside a soup.

    Args:
        files: Score tables by name; several of one name are its seeds.
        report: The soup.

    Raises:
        RslitError: See `Beside`; or a file cannot be read.
    """
    return [Beside(name, {Path(p): read_scores(Path(p)) for p in paths}, report) for name, paths in files.items()]


def beside_section(report: Analysed, others: Sequence[Beside], reference: Reference, delta: float) -> dict[str, Any]:
    """The section `beside` of `front.json`: per name points, LMC, hypervolume, trainings, main soup minus it."""
    return {
        other.name: {
            "experts": list(other.meta.experts),
            "space": other.meta.space,
            "seeds": len(other.kind.array.seeds),
            "items": len(other.kind.array.items),
            "points": _points(report, other),
            "lmc": _connected(report, other, delta),
            "hypervolume": {
                "points": len(other.kind.front),
                "outside": other.kind.front.outside(reference.point),
                **numbers(hypervolume_interval(other.kind.array.values, reference.point, **report.draws)),
            },
            "soup_minus": _difference(report, other, reference),
            "trainings": {
                "trainings_per_seed": len(other.meta.experts),
                "trainings": len(other.meta.experts) * len(other.kind.array.seeds),
            },
            "provenance": [provenance(path, table) for path, table in other.files.items()],
        }
        for other in others
    }


def _check(name: str, theirs: ScoreMeta, mine: ScoreMeta, source: str) -> None:
    if theirs.task != mine.task:
        raise RslitError(
            f"--beside {name}: {source} is of task {theirs.task}, not {mine.task}; give a run of that task"
        )
    missing = [reward for reward in mine.rewards if reward not in theirs.rewards]
    if missing:
        raise RslitError(
            f"--beside {name}: {source} has no reward '{missing[0]}'; evaluate it on the same rewards "
            f"({', '.join(mine.rewards)})"
        )


def _points(report: Analysed, other: Beside) -> list[dict[str, Any]]:
    front, kept = other.kind.front, other.kind.front.nondominated()
    return [
        {
            "kind": "soup",
            "point": label,
            "lam": by_name(other.meta.experts, other.kind.array.weights[m]),
            "scores": {r: numbers(other.kind.interval, (m, k)) for k, r in enumerate(report.meta.rewards)},
            "nondominated": bool(kept[m]),
        }
        for m, label in enumerate(front.labels)
    ]


def _connected(report: Analysed, other: Beside, delta: float) -> dict[str, Any]:
    """Verdicts of the LMC test between the other's own experts, or why there are none."""
    alone = Analysed(replace(other.meta, rewards=report.meta.rewards), {"soup": other.kind}, report.draws)
    lmc = run_lmc(alone, delta)
    return lmc if isinstance(lmc, dict) else dict(zip(alone.meta.rewards, lmc.verdicts, strict=True))


def _difference(report: Analysed, other: Beside, reference: Reference) -> dict[str, Any]:
    """Hypervolume of the main soup minus the other's, of equally many points of each."""
    mine, theirs = other.pairs
    count = min(mine.shape[2], theirs.shape[2])
    if count < 2:
        return {"skipped": f"the soup has {mine.shape[2]} points and {other.name} {theirs.shape[2]}; a front needs 2"}
    chosen = [_spread(array, count) for array in (report.kinds["soup"].array, other.kind.array)]
    a, b = mine[:, :, chosen[0]], theirs[:, :, chosen[1]]
    difference = paired_hypervolume_difference(a, b, reference.point, **report.draws)
    return {
        "points": count,
        "seeds": a.shape[0],
        "items": a.shape[1],
        **numbers(difference),
        "seed_share": finite(float(difference.seed_share)),
    }


def _spread(array: ScoreArray, count: int) -> NDArray[np.int64]:
    """`count` points evenly apart in the table's order, first and last among them; of two experts, along λ."""
    order = (
        np.argsort(-array.weights[:, 0], kind="stable") if array.weights.shape[1] == 2 else np.arange(len(array.points))
    )
    return np.asarray(order[np.linspace(0, len(order) - 1, count).round().astype(np.int64)])
