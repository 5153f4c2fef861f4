"""How often the intervals of a front hold the truth, and how often the LMC test raises a false alarm, by simulation.

    OMP_NUM_THREADS=1 python benchmarks/statistics_coverage.py --out docs/results/statistics_coverage.md

A soup of 11 points and MORL of 5, two rewards, 5 seeds x 200 items: score = true mean + effect of the seed + difficulty
of the item + noise of the cell. An item's difficulty is shared by all policies up to a tenth; a seed's effect is half
its own at every point and half shared by its points. Soup and MORL are trained apart, so no seed effect is shared
between them. Three regimes say what dominates. The intervals are those of `rslit.front`, called as `rslit front` does;
the truth is the same statistic of the true means.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from rslit.front import Interval, cross_fit_hypervolume, hypervolume_interval, lmc_test, paired_hypervolume_difference
from rslit.front.few_seeds import lengthening

Array = NDArray[np.float64]
# Standard deviations of the seeds' and items' effects and of the cells' noise; the experts lie at (1, 0) and (0, 1).
REGIMES = {"items dominate": (0.0, 1.0, 0.3), "mixed": (0.05, 0.5, 0.3), "seeds dominate": (0.1, 0.1, 0.1)}
LEVEL, REFERENCE = 0.95, np.array([-0.5, -0.5])


def truth(points: int, bend: float) -> Array:
    """Points on a front that bends `bend` above the chord at its middle: (M, 2)."""
    lam = np.linspace(1, 0, points)
    return np.stack([lam, 1 - lam], axis=1) + 4 * bend * (lam * (1 - lam))[:, None]


def scores(means: list[Array], noise: tuple[float, float, float], size: tuple[int, int], rng: Any) -> list[Array]:
    """Scores (S, I, M, K) of several methods on the same seeds and items."""
    (seeds, items), (seed_sd, item_sd, cell_sd) = size, noise
    difficulty = rng.normal(0, item_sd, (1, items, 1, 2))
    found = []
    for mean in means:
        m = len(mean)
        trained = rng.normal(0, seed_sd, (seeds, 1, 1, 2)) + rng.normal(0, seed_sd, (seeds, 1, m, 2))
        own = rng.normal(0, item_sd / 10, (1, items, m, 2))
        cells = rng.normal(0, cell_sd, (seeds, items, m, 2))
        found.append(mean + trained / np.sqrt(2) + difficulty + own + cells)
    return found


def kinds(interval: Interval, size: tuple[int, int]) -> Iterator[tuple[float, float]]:
    """The two ends of each kind: as reported, before lengthening, Student's t over seeds, the wider of the last two."""
    low, high = float(interval.low), float(interval.high)
    seed_low, seed_high = float(interval.seed_low), float(interval.seed_high)
    yield low, high
    factor = float(lengthening(interval.seed_share, *size, float(ndtri((1 + LEVEL) / 2))))
    middle, reach = (low + high) / 2, (high - low) / 2 / factor
    yield middle - reach, middle + reach
    yield seed_low, seed_high
    yield min(middle - reach, seed_low), max(middle + reach, seed_high)


def coverage(regime: str, size: tuple[int, int], runs: int, replicates: int) -> list[str]:
    """Rows of the first table: coverage of each statistic's intervals in one regime."""
    means = [truth(11, 0.15), truth(5, 0.1)]
    same = means[0][np.linspace(0, 10, 5).astype(int)]
    volumes = [moocore.hypervolume(front, ref=REFERENCE, maximise=True) for front in (means[0], same, means[1])]
    truths = {
        "hypervolume, 11 points": volumes[0],
        "cross-fit hypervolume, 11 points": volumes[0],
        "soup - MORL, 5 points each": volumes[1] - volumes[2],
    }
    hits = {name: np.zeros(4) for name in truths}
    sums = {name: np.zeros(3) for name in truths}  # estimate - truth, length as reported, share of the seeds
    rng = np.random.default_rng(20)
    for run in range(runs):
        x, y = scores(means, REGIMES[regime], size, rng)
        draws: dict[str, Any] = {"replicates": replicates, "level": LEVEL, "rng": run}
        found = [
            hypervolume_interval(x, REFERENCE, **draws),
            cross_fit_hypervolume(x, REFERENCE, **draws),
            paired_hypervolume_difference(x[:, :, np.linspace(0, 10, 5).astype(int)], y, REFERENCE, **draws),
        ]
        for name, interval in zip(truths, found, strict=True):
            hits[name] += [low <= truths[name] <= high for low, high in kinds(interval, size)]
            sums[name] += [interval.estimate - truths[name], interval.high - interval.low, interval.seed_share]
    rows = []
    for name in truths:
        cells = [f"{hit / runs:.3f}" for hit in hits[name]]
        bias, length, share = sums[name] / runs
        rows.append(f"| {regime} | {name} | {' | '.join(cells)} | {length:.3f} | {bias:+.4f} | {share:.2f} |")
    return rows


def false_alarms(curvature: float, size: tuple[int, int], runs: int, replicates: int) -> str:
    """Row of the second table: the LMC test where scores interpolate linearly on average over seeds."""
    lams = truth(11, 0.0)
    rng = np.random.default_rng(21)
    counts = np.zeros(4)
    for run in range(runs):
        (x,) = scores([lams], (0.0, 1.0, 0.3), size, rng)
        bends = rng.normal(0, curvature, (size[0], 1, 1, 2))
        x = x + 4 * bends * (lams[:, :1] * lams[:, 1:])
        plain = lmc_test(x, lams, 0.0, replicates=replicates, level=LEVEL, rng=run)
        band = plain.slack
        counts += [
            "violated" in plain.verdicts,
            "holds" in plain.verdicts,
            bool(((band.low > 0) | (band.high < 0)).any()),
            bool(((band.seed_low > 0) | (band.seed_high < 0)).any()),
        ]
    return f"| {curvature:g} | " + " | ".join(f"{count / runs:.3f}" for count in counts) + " |"


def report(size: tuple[int, int], runs: int, replicates: int) -> Iterator[str]:
    """Both tables as Markdown, line by line as they come."""
    error = np.sqrt(LEVEL * (1 - LEVEL) / runs)
    yield f"{runs} simulations a cell, {replicates} bootstrap replicates, {size[0]} seeds x {size[1]} items."
    yield f"Monte-Carlo standard error of a coverage of {LEVEL}: {error:.3f}.\n"
    kept = ["reported", "not lengthened", "seed-t", "wider of the two", "mean length", "bias", "seeds' share"]
    yield f"| regime | statistic | {' | '.join(kept)} |"
    yield "|" + "---|" * (2 + len(kept))
    for regime in REGIMES:
        yield from coverage(regime, size, runs, replicates)
    yield "\n| sd of the seeds' curvature | says violated | says holds | band misses 0 somewhere | seed-t misses 0 |"
    yield "|---|---|---|---|---|"
    for curvature in (0.0, 0.1):
        yield false_alarms(curvature, size, runs, replicates)


def main(arguments: list[str] | None = None) -> None:
    """Simulate, print the tables and, with --out, put them into a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="simulations a cell")
    parser.add_argument("--replicates", type=int, default=400, help="bootstrap replicates; `rslit front` takes 2000")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--out", type=Path, default=None, help="Markdown file to write")
    given = parser.parse_args(arguments)
    lines = []
    for line in report((given.seeds, given.items), given.runs, given.replicates):
        print(line, flush=True)
        lines.append(line)
    if given.out:
        words = sys.argv[1:] if arguments is None else arguments
        command = f"OMP_NUM_THREADS=1 python benchmarks/statistics_coverage.py {' '.join(words)}"
        given.out.write_text(
            f"# Statistics of fronts: coverage by simulation\n\n`{command}`\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
