"""Sections of `front.json` on the soup itself: its points, the LMC, what the experts gained, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rslit.errors import RslitError
from rslit.front.analysed import Analysed
from rslit.front.arrays import align
from rslit.front.attainment import attainment_surfaces
from rslit.front.compare import beside_seeds
from rslit.front.lmc import LMCTest, lmc_test
from rslit.front.numbers import WEIGHTS, by_name, numbers
from rslit.front.scores import ScoreTable
from rslit.front.statistics import paired_mean_interval

__all__ = ["attainment", "costs", "gains", "lmc_numbers", "points", "run_lmc"]


def run_lmc(report: Analysed, delta: float) -> LMCTest | dict[str, Any]:
    """The LMC test of the soup, or why there is none."""
    soup = report.kinds["soup"]
    if not soup.front.has_experts():
        return {"skipped": "some expert (λ = 1) was not scored"}
    # Beyond the experts nothing is interpolated.
    if (soup.array.weights >= 0).all(axis=1).sum() == len(soup.front.experts):
        return {"skipped": "there is no point between the experts"}
    return lmc_test(soup.array.values, soup.array.weights, delta, experts=report.meta.experts, **report.draws)


def lmc_numbers(report: Analysed, lmc: LMCTest, delta: float) -> dict[str, Any]:
    """Verdicts, margins and the band of an LMC test."""
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


def points(report: Analysed, lmc: LMCTest | dict[str, Any]) -> list[dict[str, Any]]:
    """One row per point of every kind: weights, scores with intervals, domination, LMC slack."""
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


def gains(report: Analysed) -> dict[str, Any]:
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


def attainment(report: Analysed) -> dict[str, Any]:
    """Attainment surfaces over the seeds of soup and MORL, or why there are none."""
    result: dict[str, Any] = {}
    for name in WEIGHTS:
        if name in report.kinds:
            try:
                surfaces = attainment_surfaces(report.kinds[name].array.values)
            except RslitError as error:
                result[name] = {"skipped": str(error)}
            else:
                result[name] = {str(percentage): corners.tolist() for percentage, corners in surfaces.items()}
    return result


def costs(report: Analysed, tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """Trainings behind each front: a soup takes one per expert and seed, MORL one per point and seed.

    And what these trainings sampled in all, where every table says it. The initialisation that all start from is not
    counted.
    """
    each = {"soup": len(report.meta.experts)}
    if "morl" in report.kinds:
        each["morl"] = len(report.kinds["morl"].front)
    return {
        name: {
            "trainings_per_seed": count,
            "trainings": count * len(report.kinds[name].array.seeds),
            "samples": _samples(tables, name),
        }
        for name, count in each.items()
    }


def _samples(tables: Sequence[ScoreTable], kind: str) -> int | None:
    """The sum over the tables that have the kind; None where one of them does not say."""
    found = [table.meta.extras.get("samples", {}).get(kind) for table in tables if kind in table.kinds()]
    return None if None in found else sum(found)
