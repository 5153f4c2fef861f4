"""Sections of `front.json` that set the soup beside MORL: hypervolumes and what a preference gets from each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rslit.errors import RslitError
from rslit.front.analysed import Analysed
from rslit.front.arrays import align
from rslit.front.compare import Reference, nearest_points
from rslit.front.cross_fit import cross_fit_difference, cross_fit_hypervolume
from rslit.front.hypervolume import hypervolume_interval, paired_hypervolume_difference
from rslit.front.numbers import WEIGHTS, finite, numbers
from rslit.front.preferences import compare_preferences, preference_lattice, rescale
from rslit.front.statistics import Interval

__all__ = ["hypervolumes", "preference_measures"]

Array = NDArray[np.float64]
FEW = 5  # seeds up to which a reader is told when they dominate


def hypervolumes(report: Analysed, reference: Reference) -> dict[str, Any]:
    """Hypervolume of soup and MORL, plain and cross-fit, and their paired difference; notes where seeds dominate."""
    result: dict[str, Any] = {}
    for name in WEIGHTS:
        if name in report.kinds:
            kind = report.kinds[name]
            interval = hypervolume_interval(kind.array.values, reference.point, **report.draws)
            outside = kind.front.outside(reference.point)
            result[name] = {
                "points": len(kind.front),
                "outside": outside,
                **numbers(interval),
                "seed_share": finite(float(interval.seed_share)),
                "cross_fit": _cross_fit(cross_fit_hypervolume, report, kind.array.values, reference=reference.point),
            }
            _warn(report, name, interval)
    if "morl" in report.kinds:
        result["soup_minus_morl"] = _difference(report, reference)
    return result


def preference_measures(report: Analysed) -> dict[str, Any]:
    """Expected utility, worst shortfall and IGD+ of the soup against MORL, or why there are none."""
    soup, start = report.kinds["soup"], report.kinds.get("initialisation")
    if "morl" not in report.kinds:
        return {"skipped": "MORL was not scored"}
    if start is None:
        return {"skipped": "the initialisation was not scored, so there is nothing to rescale the rewards by"}
    if not soup.front.has_experts():
        return {"skipped": "some expert (λ = 1) was not scored"}
    pairs = _pairs(report)
    if isinstance(pairs, str):
        return {"skipped": pairs}
    experts = soup.front.scores[soup.front.expert_points()]
    best = np.diag(experts[_experts_of_rewards(report, experts)])
    try:
        a, b = (rescale(x, start.front.scores[0], best, report.meta.rewards) for x in (pairs.soup, pairs.morl))
    except RslitError as error:
        return {"skipped": str(error)}
    found = compare_preferences(a, b, **report.draws)
    return {
        "unit": "expert minus initialisation, per reward",
        "points": a.shape[2],
        "preferences": {"distribution": "uniform on the simplex", "lattice": len(preference_lattice(a.shape[3]))},
        **{
            name: {front: numbers(interval) for front, interval in getattr(found, name).items()}
            for name in ("utility", "shortfall", "igd_plus")
        },
    }


@dataclass
class _Pairs:
    """Soup and MORL on the same seeds and items, as many points of each."""

    soup: Array
    morl: Array
    labels: list[dict[str, str]]


def _pairs(report: Analysed) -> _Pairs | str:
    soup, morl = report.kinds["soup"].array, report.kinds["morl"].array
    pairs = nearest_points(soup.weights, morl.weights, report.meta)
    if isinstance(pairs, str):
        return pairs
    a, b = align(soup, morl)
    labels = [{"soup": soup.points[i], "morl": morl.points[j]} for i, j in zip(*pairs, strict=True)]
    return _Pairs(a[:, :, pairs[0]], b[:, :, pairs[1]], labels)


def _difference(report: Analysed, reference: Reference) -> dict[str, Any]:
    pairs = _pairs(report)
    if isinstance(pairs, str):
        return {"skipped": pairs}
    a, b, ref = pairs.soup, pairs.morl, reference.point
    difference = paired_hypervolume_difference(a, b, ref, **report.draws)
    _warn(report, "soup - morl", difference)
    return {
        "points": a.shape[2],
        "seeds": a.shape[0],
        "items": a.shape[1],
        "pairs": pairs.labels,
        "soup": numbers(hypervolume_interval(a, ref, **report.draws)),
        "morl": numbers(hypervolume_interval(b, ref, **report.draws)),
        "difference": numbers(difference),
        "seed_share": finite(float(difference.seed_share)),
        "cross_fit": _cross_fit(cross_fit_difference, report, a, b, reference=ref),
    }


def _cross_fit(
    statistic: Callable[..., Interval], report: Analysed, *arrays: Array, reference: Array
) -> dict[str, Any]:
    try:
        return dict(numbers(statistic(*arrays, reference, **report.draws)))
    except RslitError as error:  # one item, or a reward that applies to no item of a half
        return {"skipped": str(error)}


def _experts_of_rewards(report: Analysed, experts: Array) -> list[int]:
    """For each reward its own expert; for one that none was trained on, the expert that is best at it."""
    own = [report.meta.own_reward(expert) for expert in report.meta.experts]
    return [
        own.index(reward) if reward in own else int(experts[:, k].argmax())
        for k, reward in enumerate(report.meta.rewards)
    ]


def _warn(report: Analysed, name: str, interval: Interval) -> None:
    seeds = len(report.kinds["soup"].array.seeds)
    if 1 < seeds <= FEW and float(interval.seed_share) > 0.5:
        report.notes.append(
            f"hypervolume {name}: {float(interval.seed_share):.0%} of the variance is between only {seeds} seeds; "
            "simulated with 5 seeds, nominal 95 % intervals then cover 90 % (hypervolume) and 95 % (soup - morl)"
        )
