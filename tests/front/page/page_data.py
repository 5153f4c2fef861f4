"""Fronts for tests of the page: score tables of a few experts, analysed as `rslit front` does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from rslit.front import FrontSummary, ScoreMeta, ScoreRows, write_front, write_scores

ITEMS = [f"item {n}" for n in range(20)]


def lams(experts: int, parts: int) -> list[tuple[float, ...]]:
    return [tuple(k / parts for k in ks) for ks in product(range(parts, -1, -1), repeat=experts) if sum(ks) == parts]


def front(
    folder: Path,
    *,
    experts: Sequence[str] = ("risky", "cautious"),
    parts: int = 4,
    seeds: int = 1,
    morl: bool = True,
    bend: float = 4.0,
) -> FrontSummary:
    """Experts good at a reward of their own; soups lie `bend` above the chord; MORL at one weighting and the ends."""
    rewards = [f"likes {name}" for name in experts]
    paths = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        difficulty = rng.normal(0, 1, (len(rewards), len(ITEMS)))
        meta = ScoreMeta(
            task="walk",
            rewards=tuple(rewards),
            experts=tuple(experts),
            space="full",
            initialisation="sha256:" + "0" * 64,
            trained_on=dict(zip(experts, rewards, strict=True)),
        )
        rows = ScoreRows(meta)
        for lam in lams(len(experts), parts):
            named = dict(zip(experts, lam, strict=True))
            label = ",".join(f"{name}={value:g}" for name, value in named.items())
            for k, reward in enumerate(rewards):
                mean = 10 * lam[k] + bend * lam[k] * (1 - lam[k])
                scores = mean + difficulty[k] + rng.normal(0, 0.3, len(ITEMS))
                rows.add(seed, "soup", label, ITEMS, reward, scores, lam=named)
        for k, reward in enumerate(rewards):
            rows.add(seed, "initialisation", "initialisation", ITEMS, reward, difficulty[k] - 1)
        ends = [tuple(float(k == n) for k in range(len(experts))) for n in range(len(experts))]
        for mu in [*ends, (1 / len(experts),) * len(experts)] if morl else []:
            weights = dict(zip(rewards, mu, strict=True))
            label = "mu " + ",".join(f"{value:.3g}" for value in mu)
            for k, reward in enumerate(rewards):
                scores = 10 * mu[k] + difficulty[k] + rng.normal(0, 0.3, len(ITEMS))
                rows.add(seed, "morl", label, ITEMS, reward, scores, mu=weights)
        paths.append(folder / f"seed{seed}" / "scores.parquet")
        paths[-1].parent.mkdir(parents=True)
        write_scores(rows.table(), paths[-1])
    return write_front(paths, folder / "out", replicates=200)
