"""Building a score table point by point, and joining the tables of several seeds or methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rslit.errors import RslitError
from rslit.front.scores import KEYS, KINDS, ScoreMeta, ScoreTable

__all__ = ["ScoreRows", "concat", "select"]


class ScoreRows:
    """Collects scores as an evaluation yields them.

    Args:
        meta: What the scores are about; it fixes the columns.

    Example:
        >>> rows = ScoreRows(ScoreMeta(task="demo", rewards=("x", "y"), experts=("x", "y")))
        >>> rows.add(0, "soup", "x=1", ["p0", "p1"], "x", [1.0, 3.0], lam={"x": 1.0, "y": 0.0})
        >>> rows.add(0, "soup", "x=1", ["p0", "p1"], "y", [0.0, float("nan")], lam={"x": 1.0, "y": 0.0})
        >>> len(rows.table().frame)
        4
    """

    def __init__(self, meta: ScoreMeta) -> None:
        self.meta = meta
        self._parts: list[pd.DataFrame] = []

    def add(
        self,
        seed: int,
        kind: str,
        point: str,
        items: Sequence[int | str],
        reward: str,
        scores: ArrayLike,
        lam: Mapping[str, float] | None = None,
        mu: Mapping[str, float] | None = None,
    ) -> None:
        """Add the scores of one reward at one point.

        Args:
            seed: Training seed of the run.
            kind: `"soup"`, `"initialisation"`, `"morl"` or `"trajectory"`.
            point: Label of the point.
            items: B identifiers, distinct.
            reward: One of the table's rewards.
            scores: (B,), the reward's unit, NaN where the reward does not apply. A CPU tensor will do.
            lam: λ by expert, all experts named, sum 1. For kind `"soup"` only, which needs it.
            mu: μ by reward; a reward left out weighs 0. For kind `"morl"` only, which needs it.

        Raises:
            RslitError: An unknown kind, reward or expert, λ or μ missing or misplaced, or lengths that differ.
        """
        if kind not in KINDS:
            raise RslitError(f"kind '{kind}' of point '{point}' is unknown; it may be {', '.join(KINDS)}")
        if reward not in self.meta.rewards:
            raise RslitError(f"reward '{reward}' is not in the table; its rewards are {', '.join(self.meta.rewards)}")
        values = np.asarray(scores, dtype=np.float64)
        if values.shape != (len(items),):
            raise RslitError(
                f"reward '{reward}' at point '{point}' has scores of shape {values.shape} for {len(items)} items; "
                "give one score per item"
            )
        columns: dict[str, Any] = {
            "seed": np.full(len(items), seed, dtype=np.int64),
            "kind": kind,
            "point": point,
            "item": [str(item) for item in items],
            "reward": reward,
            "score": values,
        }
        columns |= self._weights("lam", point, self.meta.experts, lam, needed=kind == "soup")
        columns |= self._weights("mu", point, self.meta.rewards, mu, needed=kind == "morl")
        self._parts.append(pd.DataFrame(columns))

    def table(self) -> ScoreTable:
        """The table of all rows added so far.

        Raises:
            RslitError: Nothing was added, or the rows make a bad table (see `ScoreTable`).
        """
        if not self._parts:
            raise RslitError(f"no scores were added for task '{self.meta.task}'; evaluate at least one point")
        return ScoreTable(pd.concat(self._parts, ignore_index=True), self.meta)

    @staticmethod
    def _weights(
        prefix: str, point: str, names: Sequence[str], given: Mapping[str, float] | None, *, needed: bool
    ) -> dict[str, float]:
        if (given is not None) != needed:
            raise RslitError(
                f"point '{point}' {'needs' if needed else 'must not have'} {prefix}; soups have lam, MORL has mu"
            )
        if given is None:
            return {f"{prefix}.{name}": float("nan") for name in names}
        unknown = sorted(set(given) - set(names))
        absent = sorted(set(names) - set(given)) if prefix == "lam" else []
        if unknown or absent:
            raise RslitError(f"{prefix} of point '{point}' names {', '.join(given)}; it must name {', '.join(names)}")
        return {f"{prefix}.{name}": float(given.get(name, 0.0)) for name in names}


def concat(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Join the tables of several seeds or methods into one.

    Rewards and experts take the order of the first table that has them. A row that two tables hold with the same score
    (the initialisation, evaluated beside two methods) is kept once. The initialisation's fingerprint is kept when all
    tables agree, else it is None; `extras` become a dict by source.

    Raises:
        RslitError: No table; or two tables differ in task, rewards, experts, space of the soup or `trained_on`, or
            score one item at one point of one seed differently. The message names both.
    """
    if not tables:
        raise RslitError("no score table was given; give at least one scores.parquet")
    if len(tables) == 1:
        return tables[0]
    for first, second in combinations(tables, 2):
        _check_alike(first, second)
    metas = [table.meta for table in tables]
    meta = replace(
        metas[0],
        experts=next((meta.experts for meta in metas if meta.experts), ()),
        space=next((meta.space for meta in metas if meta.space), None),
        initialisation=metas[0].initialisation if len({meta.initialisation for meta in metas}) == 1 else None,
        trained_on={expert: reward for meta in metas for expert, reward in meta.trained_on.items()},
        extras={table.source: dict(table.meta.extras) for table in tables},
    )
    parts = []
    for number, table in enumerate(tables):
        part = table.frame.reindex(columns=meta.columns)
        parts.append(part.assign(table=number))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame.drop_duplicates(meta.columns)
    clash = frame.duplicated(KEYS).to_numpy()
    if clash.any():
        row = frame.iloc[int(clash.argmax())]
        same = (frame[KEYS] == row[KEYS]).all(axis=1)
        first, second = frame.loc[same, "table"].tolist()[:2]
        raise RslitError(
            f"{tables[first].source} and {tables[second].source} score point '{row['point']}' of seed "
            f"{row['seed']} differently on item '{row['item']}'; give each training its own seed, or leave one "
            "file out"
        )
    return ScoreTable(frame, meta, source=", ".join(table.source for table in tables))


def select(table: ScoreTable, rewards: Sequence[str]) -> ScoreTable:
    """A table of some of the rewards, in the order given; MORL that weighs none of them is left out.

    Raises:
        RslitError: A reward is not in the table.
    """
    for reward in rewards:
        if reward not in table.meta.rewards:
            raise RslitError(
                f"{table.source} has no reward '{reward}'; its rewards are {', '.join(table.meta.rewards)}"
            )
    meta = replace(table.meta, rewards=tuple(rewards))
    frame = table.frame[table.frame["reward"].isin(list(rewards))]
    weighed = (frame["kind"] != "morl") | (frame[meta.mu_columns] > 0).any(axis=1)
    return ScoreTable(frame.loc[weighed, meta.columns].reset_index(drop=True), meta, source=table.source)


def _check_alike(first: ScoreTable, second: ScoreTable) -> None:
    mine, theirs = first.meta, second.meta
    pairs: list[tuple[str, str | None, str | None]] = [
        ("task", mine.task, theirs.task),
        ("rewards", ", ".join(sorted(mine.rewards)), ", ".join(sorted(theirs.rewards))),
    ]
    # A table without soup has neither experts nor space and goes with any.
    if mine.experts and theirs.experts:
        pairs += [
            ("experts", ", ".join(sorted(mine.experts)), ", ".join(sorted(theirs.experts))),
            ("space", mine.space, theirs.space),
        ]
        pairs += [
            (f"expert '{expert}' trained on", reward, theirs.trained_on.get(expert, reward))
            for expert, reward in mine.trained_on.items()
        ]
    for word, one, other in pairs:
        if one != other:
            raise RslitError(
                f"{first.source} has {word} {one}, but {second.source} has {word} {other}; give files of one experiment"
            )
