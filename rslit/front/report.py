"""`rslit front SCORES... --out DIR`: from score tables to numbers and figures.

Writes `front.json` (every number), `front.csv` (a line per point), `front.png` and `front.svg`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rslit import __version__
from rslit.errors import RslitError
from rslit.front.arrays import ScoreArray, align, score_array
from rslit.front.compare import Reference, beside_seeds, choose_reference, nearest_points
from rslit.front.files import write_bytes
from rslit.front.front import Front
from rslit.front.hypervolume import hypervolume_interval, paired_hypervolume_difference
from rslit.front.lmc import LMCTest, lmc_test
from rslit.front.numbers import WEIGHTS, by_name, numbers, points_csv
from rslit.front.plots import plot_front, render
from rslit.front.scores import ScoreMeta, ScoreTable, read_scores
from rslit.front.statistics import Interval, paired_mean_interval, point_intervals
from rslit.front.summary import FrontSummary
from rslit.front.tables import concat

__all__ = ["write_front"]

LEVEL = 0.95


@dataclass
class _Kind:
    """One kind of point: its scores, mean front and intervals."""

    array: ScoreArray
    front: Front
    interval: Interval


@dataclass
class _Report:
    """What the parts of the report share."""

    meta: ScoreMeta
    kinds: dict[str, _Kind]
    draws: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def write_front(
    score_paths: Sequence[Path | str],
    out: Path | str,
    *,
    reference: Sequence[float] | None = None,
    delta: float = 0.02,
    replicates: int = 2000,
    seed: int = 0,
    rewards: Sequence[str] | None = None,
) -> FrontSummary:
    """Analyse one or many score tables (soup, MORL, initialisation; any number of seeds) and write the results.

    Args:
        score_paths: `scores.parquet` files of one task.
        out: Folder for `front.json`, `front.csv`, `front.png` and `front.svg`; made if missing.
        reference: Reference point of the hypervolume, one number per reward in the table's order. If left out: the
            initialisation's mean scores when it was scored, else the worst expert minus 10 % of the experts' range.
        delta: Margin of the LMC verdict, as a fraction of the range between the experts.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap; the same seed writes the same numbers.
        rewards: Rewards to draw; all if left out. The numbers are always over all.

    Returns:
        The numbers, where they were written, and a table for the terminal.

    Raises:
        RslitError: A file or table is bad, tables do not belong together or share no items, there is no soup, there are
            fewer than two rewards, or the reference does not fit.
    """
    paths = [Path(path) for path in score_paths]
    tables = [read_scores(path) for path in paths]
    table = concat(tables)
    if len(table.meta.rewards) < 2:
        raise RslitError(f"{table.source} has one reward, '{table.meta.rewards[0]}'; a front needs at least two")
    draws = {"replicates": replicates, "level": LEVEL, "rng": seed}
    report = _Report(table.meta, {kind: _kind(table, kind, draws) for kind in table.kinds()}, draws)
    if "soup" not in report.kinds:
        raise RslitError(f"{table.source} has no soup points; add the scores.parquet of a sweep")
    _note(report, tables)
    lmc = _lmc(report, delta)
    chosen = _reference(report, reference)
    data: dict[str, Any] = {
        "task": table.meta.task,
        "space": table.meta.space,
        "rewards": list(table.meta.rewards),
        "experts": list(table.meta.experts),
        "intervals": {
            "level": LEVEL,
            "method": "crossed bootstrap over seeds and items; seed_low and seed_high: Student t over seeds",
            "replicates": replicates,
            "seed": seed,
            "conditional": len(report.kinds["soup"].array.seeds) == 1,
        },
        "kinds": {
            name: {"seeds": list(kind.array.seeds), "items": len(kind.array.items), "points": len(kind.array.points)}
            for name, kind in report.kinds.items()
        },
        "points": _points(report, lmc),
        "reference": {"point": by_name(table.meta.rewards, chosen.point), "origin": chosen.origin},
        "hypervolume": _hypervolumes(report, chosen),
        "lmc": lmc if isinstance(lmc, dict) else _lmc_numbers(report, lmc, delta),
        "experts_minus_initialisation": _gains(report),
        "notes": report.notes,
        "provenance": {
            "version": __version__,
            "files": [_provenance(*pair) for pair in zip(paths, tables, strict=True)],
        },
    }
    return _write(report, data, Path(out), rewards)


def _kind(table: ScoreTable, name: str, draws: dict[str, Any]) -> _Kind:
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
    return _Kind(array, front, interval)


def _note(report: _Report, tables: Sequence[ScoreTable]) -> None:
    if len(report.kinds["soup"].array.seeds) == 1:
        report.notes.append("one training seed: intervals are conditional on that run")
    for name, kind in report.kinds.items():
        if kind.array.dropped:
            report.notes.append(f"{kind.array.dropped} items left out: not every {name} point was evaluated on them")
    if len({table.meta.initialisation for table in tables}) > 1:
        report.notes.append("the files name different initialisations")


def _reference(report: _Report, given: Sequence[float] | None) -> Reference:
    soup, initialisation = report.kinds["soup"].front, report.kinds.get("initialisation")
    return choose_reference(
        given,
        None if initialisation is None else initialisation.front.scores[0],
        soup.scores[soup.expert_points()] if soup.has_experts() else None,
        report.meta.rewards,
    )


def _lmc(report: _Report, delta: float) -> LMCTest | dict[str, Any]:
    soup = report.kinds["soup"]
    if not soup.front.has_experts():
        return {"skipped": "some expert (λ = 1) was not scored"}
    if len(soup.front) == len(soup.front.experts):
        return {"skipped": "there is no point between the experts"}
    return lmc_test(soup.array.values, soup.array.weights, delta, experts=report.meta.experts, **report.draws)


def _lmc_numbers(report: _Report, lmc: LMCTest, delta: float) -> dict[str, Any]:
    rewards, labels = report.meta.rewards, report.kinds["soup"].front.labels
    return {
        "delta": delta,
        "margin": by_name(rewards, lmc.margin),
        "verdicts": dict(zip(rewards, lmc.verdicts, strict=True)),
        "band": "simultaneous over all points and rewards (max-t); seed_low and seed_high: Student t, Bonferroni",
        "points": [
            {"point": labels[m], "slack": {name: numbers(lmc.slack, (j, k)) for k, name in enumerate(rewards)}}
            for j, m in enumerate(lmc.interior)
        ],
    }


def _points(report: _Report, lmc: LMCTest | dict[str, Any]) -> list[dict[str, Any]]:
    rewards, rows = report.meta.rewards, []
    for name, kind in report.kinds.items():
        kept = kind.front.nondominated()
        slack = kind.front.lmc_slack() if name == "soup" and isinstance(lmc, LMCTest) else None
        over = {"soup": report.meta.experts, "morl": rewards}.get(name, ())
        for m, label in enumerate(kind.front.labels):
            row: dict[str, Any] = {"kind": name, "point": label}
            if name in WEIGHTS:
                row[WEIGHTS[name]] = by_name(over, kind.array.weights[m])
            row["scores"] = {reward: numbers(kind.interval, (m, k)) for k, reward in enumerate(rewards)}
            # The initialisation alone is no front: null.
            row["nondominated"] = bool(kept[m]) if name in WEIGHTS else None
            if slack is not None:
                row["lmc_slack"] = by_name(rewards, slack[m])
            rows.append(row)
    return rows


def _hypervolumes(report: _Report, reference: Reference) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("soup", "morl"):
        if name in report.kinds:
            kind = report.kinds[name]
            interval = hypervolume_interval(kind.array.values, reference.point, **report.draws)
            outside = kind.front.outside(reference.point)
            result[name] = {"points": len(kind.front), "outside": outside, **numbers(interval)}
    if "morl" in report.kinds:
        result["soup_minus_morl"] = _difference(report, reference)
    return result


def _difference(report: _Report, reference: Reference) -> dict[str, Any]:
    soup, morl = report.kinds["soup"].array, report.kinds["morl"].array
    pairs = nearest_points(soup.weights, morl.weights, report.meta)
    if isinstance(pairs, str):
        return {"skipped": pairs}
    a, b = align(soup, morl)
    a, b = a[:, :, pairs[0]], b[:, :, pairs[1]]
    return {
        "points": len(pairs[0]),
        "seeds": a.shape[0],
        "items": a.shape[1],
        "pairs": [{"soup": soup.points[i], "morl": morl.points[j]} for i, j in zip(*pairs, strict=True)],
        "soup": numbers(hypervolume_interval(a, reference.point, **report.draws)),
        "morl": numbers(hypervolume_interval(b, reference.point, **report.draws)),
        "difference": numbers(paired_hypervolume_difference(a, b, reference.point, **report.draws)),
    }


def _gains(report: _Report) -> dict[str, Any]:
    """Expert minus initialisation, on every reward, its own one marked."""
    soup = report.kinds["soup"]
    if "initialisation" not in report.kinds:
        return {"skipped": "the initialisation was not scored"}
    if not soup.front.has_experts():
        return {"skipped": "some expert (λ = 1) was not scored"}
    initialisation, paired = beside_seeds(report.kinds["initialisation"].array, soup.array.seeds)
    a, b = align(soup.array, initialisation)
    a = a[:, :, soup.front.expert_points()]
    interval = paired_mean_interval(a, np.broadcast_to(b, a.shape), **report.draws)
    rows = [
        {
            "expert": expert,
            "reward": reward,
            "own": reward == report.meta.own_reward(expert),
            **numbers(interval, (n, k)),
        }
        for n, expert in enumerate(report.meta.experts)
        for k, reward in enumerate(report.meta.rewards)
    ]
    return {"paired": paired, "differences": rows}


def _provenance(path: Path, table: ScoreTable) -> dict[str, Any]:
    meta = table.meta
    return {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "kinds": table.kinds(),
        "space": meta.space,
        "initialisation": meta.initialisation,
        "version": meta.version,
        "extras": dict(meta.extras),
    }


def _write(report: _Report, data: dict[str, Any], out: Path, rewards: Sequence[str] | None) -> FrontSummary:
    kinds = report.kinds
    seeds, items = len(kinds["soup"].array.seeds), len(kinds["soup"].array.items)
    figure = plot_front(
        kinds["soup"].front,
        morl=kinds["morl"].front if "morl" in kinds else None,
        initialisation=kinds["initialisation"].front if "initialisation" in kinds else None,
        intervals={name: kind.interval for name, kind in kinds.items()},
        rewards=rewards,
        title=f"{report.meta.task}: {_count(seeds, 'seed')}, {_count(items, 'item')}; bars: {LEVEL:.0%} intervals",
    )
    files = {name: out / f"front.{name}" for name in ("json", "csv", "png", "svg")}
    # All four are made before the first is written: a failure leaves the folder as it was.
    contents = {
        "json": (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "csv": points_csv(data).encode(),
        "png": render(figure, "png"),
        "svg": render(figure, "svg"),
    }
    for name, content in contents.items():
        write_bytes(files[name], content)
    return FrontSummary(data, files)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
