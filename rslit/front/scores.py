"""The long score table: one row per (seed, point, item, reward), and the parquet file that holds it.

Columns, in this order:

| column         | dtype   | meaning                                                                              |
|----------------|---------|--------------------------------------------------------------------------------------|
| `seed`         | int64   | training seed of the run                                                             |
| `kind`         | str     | `"soup"`, `"initialisation"`, `"morl"`, or `"trajectory"`: an expert on its way       |
| `point`        | str     | label of the policy, such as `"risky=7/10,cautious=3/10"`; experts are the vertices λ = 1 |
| `item`         | str     | prompt, image or episode; scores of two points on one item are paired                |
| `reward`       | str     | name of the evaluation reward                                                        |
| `score`        | float64 | the reward, in its own unit, higher is better; NaN where it does not apply           |
| `lam.<expert>` | float64 | λ, one column per expert, sum 1; NaN for kinds other than soup                       |
| `mu.<reward>`  | float64 | μ, one column per reward; NaN for kinds other than morl                              |

The schema metadata carries a `ScoreMeta` as JSON under the key `rslit`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rslit import __version__
from rslit.errors import RslitError
from rslit.front.files import write_bytes

__all__ = ["KINDS", "ScoreMeta", "ScoreTable", "read_scores", "write_scores"]

KINDS = ("soup", "initialisation", "morl", "trajectory")
KEYS = ["seed", "kind", "point", "item", "reward"]
_METADATA_KEY = b"rslit"


@dataclass(frozen=True)
class ScoreMeta:
    """What a score table is about.

    Attributes:
        task: Name of the task; tables of two tasks are never compared.
        rewards: Evaluation rewards, in the order of every array made from the table.
        experts: Experts of the soup, in the order of λ. Empty for a table without soup.
        space: Where weights were interpolated (`"weights"`, `"factors"`, `"delta"`), `"fisher"` for Fisher-weighted
            averages, or `"predictions"` for ensembles; None without soup.
        initialisation: Fingerprint of the weights training started from, None if unknown.
        trained_on: The reward each expert was trained on, by expert; it need not be an evaluation reward. An expert
            named like its reward needs no entry.
        version: Version of rslit that scored.
        extras: Anything else that JSON can say, such as the number of samples or trainings spent.

    Raises:
        RslitError: No reward, a repeated name, or `trained_on` naming an unknown expert.
    """

    task: str
    rewards: tuple[str, ...]
    experts: tuple[str, ...] = ()
    space: str | None = None
    initialisation: str | None = None
    trained_on: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rewards", tuple(self.rewards))
        object.__setattr__(self, "experts", tuple(self.experts))
        if not self.rewards:
            raise RslitError(f"scores of task '{self.task}' name no reward; name at least one")
        for word, names in (("reward", self.rewards), ("expert", self.experts)):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise RslitError(f"{word} '{repeated[0]}' is named twice; give each {word} its own name")
        for expert in self.trained_on:
            if expert not in self.experts:
                raise RslitError(f"trained_on names '{expert}', but the experts are {_list(self.experts)}; correct it")

    @property
    def columns(self) -> list[str]:
        """Column names of the table, in order."""
        return [*KEYS, "score", *self.lam_columns, *self.mu_columns]

    @property
    def lam_columns(self) -> list[str]:
        """Names of the λ columns, in the order of `experts`."""
        return [f"lam.{expert}" for expert in self.experts]

    @property
    def mu_columns(self) -> list[str]:
        """Names of the μ columns, in the order of `rewards`."""
        return [f"mu.{reward}" for reward in self.rewards]

    def own_reward(self, expert: str) -> str | None:
        """The evaluation reward that `expert` was trained on (`trained_on`, else its name); None if not scored."""
        reward = self.trained_on.get(expert, expert)
        return reward if reward in self.rewards else None


@dataclass(eq=False)
class ScoreTable:
    """Scores and what they are about, checked.

    Attributes:
        frame: The rows, with the columns of `meta.columns`; other columns are left out.
        meta: What the table is about.
        source: File the table came from; error messages name it.

    Raises:
        RslitError: A column is missing or of the wrong type, there is no row, a kind or reward is unknown, a score is
            infinite, a reward applies to no item of a point, a row is repeated, or λ or μ are not what the kind needs.
    """

    frame: pd.DataFrame
    meta: ScoreMeta
    source: str = "the score table"

    def __post_init__(self) -> None:
        self.frame = _checked(self.frame, self.meta, self.source)

    def kinds(self) -> list[str]:
        """Kinds that have rows, in the order of `KINDS`."""
        present = set(self.frame["kind"].unique())
        return [kind for kind in KINDS if kind in present]


def write_scores(table: ScoreTable, path: Path | str) -> None:
    """Write a score table as parquet, whole or not at all.

    Raises:
        RslitError: The metadata is not JSON, or the folder cannot be written to.
    """
    try:
        metadata = json.dumps(asdict(table.meta), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RslitError(
            f"metadata of {path} cannot be written as JSON ({error}); keep extras to numbers and text"
        ) from None
    arrow = pa.Table.from_pandas(table.frame, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _METADATA_KEY: metadata.encode()})
    buffer = pa.BufferOutputStream()
    pq.write_table(arrow, buffer)
    write_bytes(Path(path), buffer.getvalue().to_pybytes())


def read_scores(path: Path | str) -> ScoreTable:
    """Read and check a `scores.parquet`.

    Raises:
        RslitError: The file is missing, is not parquet, was not written by rslit, or holds a bad table.
    """
    path = Path(path)
    if not path.is_file():
        raise RslitError(f"score table {path} does not exist; give the scores.parquet of a finished sweep")
    try:
        arrow = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise RslitError(
            f"{path} is not a readable parquet file ({error}); give a scores.parquet that rslit wrote"
        ) from None
    raw = (arrow.schema.metadata or {}).get(_METADATA_KEY)
    if raw is None:
        raise RslitError(f"{path} is parquet but lacks the metadata 'rslit'; give a scores.parquet that rslit wrote")
    try:
        meta = ScoreMeta(**json.loads(raw))
    except (TypeError, ValueError, RslitError) as error:
        raise RslitError(f"metadata of {path} cannot be understood ({error}); score again with this version") from None
    return ScoreTable(arrow.to_pandas(), meta, source=str(path))


def _checked(frame: pd.DataFrame, meta: ScoreMeta, source: str) -> pd.DataFrame:
    missing = [name for name in meta.columns if name not in frame.columns]
    if missing:
        raise RslitError(f"{source} lacks the column '{missing[0]}'; score again, or correct its metadata")
    if frame.empty:
        raise RslitError(f"{source} has no rows; score at least one item")
    frame = frame[meta.columns].reset_index(drop=True)
    if not pd.api.types.is_integer_dtype(frame["seed"]):
        raise RslitError(f"column 'seed' of {source} holds {frame['seed'].dtype}; it needs whole numbers")
    for name in ["score", *meta.lam_columns, *meta.mu_columns]:
        if not pd.api.types.is_float_dtype(frame[name]):
            raise RslitError(f"column '{name}' of {source} holds {frame[name].dtype}; it needs float64")
    _check_names(frame, "kind", KINDS, source)
    _check_names(frame, "reward", meta.rewards, source)
    _check_scores(frame, meta, source)
    _check_weights(frame, meta, source)
    types: dict[str, Any] = {name: "float64" for name in ["score", *meta.lam_columns, *meta.mu_columns]}
    return frame.astype({**types, "seed": "int64"})


def _check_names(frame: pd.DataFrame, column: str, known: Sequence[str], source: str) -> None:
    for name in frame[column].unique():
        if name not in known:
            raise RslitError(f"{source} has a row of {column} '{name}'; it may be {_list(known)}")


def _check_scores(frame: pd.DataFrame, meta: ScoreMeta, source: str) -> None:
    infinite = np.isinf(frame["score"].to_numpy())
    if infinite.any():
        row = frame.loc[int(infinite.argmax())]
        raise RslitError(
            f"{source}: score of reward '{row['reward']}' at point '{row['point']}' on item '{row['item']}' is "
            "infinite; mend the reward (NaN means it does not apply)"
        )
    repeated = frame.duplicated(KEYS).to_numpy()
    if repeated.any():
        row = frame.loc[int(repeated.argmax())]
        raise RslitError(
            f"{source} scores item '{row['item']}' with reward '{row['reward']}' twice at point '{row['point']}' "
            f"of seed {row['seed']}; give each item its own name"
        )
    counts = frame.groupby(["seed", "kind", "point", "reward"], sort=False)["score"].count().unstack("reward")
    counts = counts.reindex(columns=list(meta.rewards)).fillna(0)
    for (seed, _, point), applying in zip(counts.index, counts.to_numpy(), strict=True):
        if not applying.all():
            reward = meta.rewards[int(applying.argmin())]
            raise RslitError(
                f"{source}: reward '{reward}' scores no item at point '{point}' of seed {seed} (NaN for all); "
                "evaluate on items it applies to, or leave it out"
            )


def _check_weights(frame: pd.DataFrame, meta: ScoreMeta, source: str) -> None:
    """Each soup point has one λ that sums to 1, each MORL point one μ, and nothing else has any."""
    for kind, letter, columns in (("soup", "λ", meta.lam_columns), ("morl", "μ", meta.mu_columns)):
        mine = frame["kind"] == kind
        if frame.loc[~mine, columns].notna().any(axis=None):
            raise RslitError(f"{source} gives {letter} to a point that is not of kind '{kind}'; leave it NaN there")
        rows = frame.loc[mine, ["point", *columns]]
        if rows.empty:
            continue
        if not columns:
            raise RslitError(f"{source} has soup points but names no expert; name the experts in its metadata")
        # One row per (point, weights): the check stays cheap for a million rows.
        distinct = rows.drop_duplicates()
        weights = distinct[columns].to_numpy()
        bad = ~np.isfinite(weights).all(axis=1)
        bad |= np.abs(weights.sum(axis=1) - 1) > 1e-6 if kind == "soup" else (weights == 0).all(axis=1)
        if bad.any():
            point, need = distinct["point"].iloc[int(bad.argmax())], "sum to 1" if kind == "soup" else "not all be 0"
            raise RslitError(f"{source}: {letter} of point '{point}' must be finite and {need}; score it again")
        clash = distinct["point"].duplicated().to_numpy()
        if clash.any():
            point = distinct["point"].iloc[int(clash.argmax())]
            raise RslitError(f"{source}: point '{point}' has two different {letter}; give each {letter} its own label")


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
