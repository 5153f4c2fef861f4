"""Numbers as `front.json` and `front.csv` hold them: by name, and null in place of NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rslit.front.statistics import Interval

__all__ = ["WEIGHTS", "by_name", "finite", "numbers", "plus_minus", "points_csv", "ranged"]

WEIGHTS = {"soup": "lam", "morl": "mu"}  # the key of a point's weights, by kind


def points_csv(data: dict[str, Any]) -> str:
    """`front.csv`: a line per point with its weights, mean scores, intervals and LMC slack.

    Points of what is set beside the soup have its name in a column `beside`.
    """
    runs = {"": data["points"], **{name: other["points"] for name, other in data.get("beside", {}).items()}}
    rows = []
    for beside, point in ((name, point) for name, points in runs.items() for point in points):
        row = {"kind": point["kind"], "point": point["point"], "nondominated": point["nondominated"]}
        if len(runs) > 1:
            row["beside"] = beside
        for prefix in WEIGHTS.values():
            row |= {f"{prefix}.{name}": value for name, value in point.get(prefix, {}).items()}
        for reward, score in point["scores"].items():
            row |= {reward: score["estimate"], f"{reward}.low": score["low"], f"{reward}.high": score["high"]}
        row |= {f"slack.{reward}": value for reward, value in point.get("lmc_slack", {}).items()}
        rows.append(row)
    return str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def numbers(interval: Interval, place: tuple[int, ...] = ()) -> dict[str, float | None]:
    """One entry of an interval; null where it is not defined."""
    names = ("estimate", "low", "high", "seed_low", "seed_high")
    return {name: finite(float(getattr(interval, name)[place])) for name in names}


def by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Values (n,) under their n names."""
    return {name: finite(float(value)) for name, value in zip(names, values, strict=True)}


def finite(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return value if math.isfinite(value) else None


def ranged(numbers: Mapping[str, Any]) -> str:
    """An estimate and its interval, to four digits; the estimate alone where there is no interval."""
    if numbers["low"] is None:
        return f"{numbers['estimate']:.4g}"
    return f"{numbers['estimate']:.4g} [{numbers['low']:.4g}, {numbers['high']:.4g}]"


def plus_minus(numbers: Mapping[str, Any]) -> str:
    """An estimate and half its interval; two digits of the half, since more of the mean would say nothing."""
    if numbers["low"] is None:
        return f"{numbers['estimate']:.4g}"
    half = (numbers["high"] - numbers["low"]) / 2
    decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 4
    return f"{numbers['estimate']:.{decimals}f} ± {half:.{decimals}f}"
