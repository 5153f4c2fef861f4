"""The long score table: columns, checks, the parquet file, joining."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rslit.errors import RslitError
from rslit.front import ScoreMeta, ScoreRows, ScoreTable, read_scores, write_scores

NAN = float("nan")
META = ScoreMeta(
    task="demo",
    rewards=("x", "y"),
    experts=("a", "b"),
    space="factors",
    initialisation="f00",
    trained_on={"a": "x", "b": "y"},
    extras={"trainings": 2},
)


def soup(seed: int = 0, meta: ScoreMeta = META, shift: float = 0.0) -> ScoreTable:
    rows = ScoreRows(meta)
    for k in (0, 1, 2):
        lam = {"a": k / 2, "b": 1 - k / 2}
        for n, reward in enumerate(meta.rewards):
            rows.add(seed, "soup", f"a={k}/2", ["p", "q"], reward, [k + n + shift, 10 * k + n], lam=lam)
    return rows.table()


def one_row(**changes: object) -> pd.DataFrame:
    """A table of one soup point and one item, with one row per reward, columns changed as told."""
    frame = pd.DataFrame(
        {
            "seed": [0, 0],
            "kind": "soup",
            "point": "a=1",
            "item": "p",
            "reward": ["x", "y"],
            "score": [1.0, 2.0],
            "lam.a": 1.0,
            "lam.b": 0.0,
            "mu.x": NAN,
            "mu.y": NAN,
        }
    )
    for name, value in changes.items():
        frame[name.replace("__", ".")] = value
    return frame


def test_rows_build_the_columns_in_order_with_their_types() -> None:
    frame = soup().frame
    assert list(frame.columns) == ["seed", "kind", "point", "item", "reward", "score", "lam.a", "lam.b", "mu.x", "mu.y"]
    assert frame["seed"].dtype == np.int64
    assert all(frame[name].dtype == np.float64 for name in ("score", "lam.a", "lam.b", "mu.x", "mu.y"))
    assert len(frame) == 12
    row = frame[(frame["point"] == "a=1/2") & (frame["item"] == "q") & (frame["reward"] == "y")].iloc[0]
    assert (row["score"], row["lam.a"], row["lam.b"]) == (11.0, 0.5, 0.5)
    assert math.isnan(row["mu.x"])


def test_mu_of_a_reward_left_out_is_zero_and_lam_is_nan() -> None:
    rows = ScoreRows(META)
    for reward in META.rewards:
        rows.add(3, "morl", "mu x=1", [7], reward, [0.5], mu={"x": 1.0})
    row = rows.table().frame.iloc[0]
    assert (row["mu.x"], row["mu.y"], row["item"]) == (1.0, 0.0, "7")
    assert math.isnan(row["lam.a"])


def test_file_round_trip_keeps_rows_and_metadata(tmp_path: Path) -> None:
    table = soup()
    table.frame.loc[0, "score"] = NAN
    path = tmp_path / "deep" / "scores.parquet"
    write_scores(table, path)
    again = read_scores(path)
    pd.testing.assert_frame_equal(again.frame, table.frame)
    assert again.meta == META
    assert again.source == str(path)
    assert json.loads(pq.read_schema(path).metadata[b"rslit"])["task"] == "demo"
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.parquet"]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(soup(), path)
    before = path.read_bytes()
    bad = soup(meta=replace(META, extras={"rate": NAN}))
    with pytest.raises(RslitError, match=r"metadata of .*scores\.parquet cannot be written as JSON"):
        write_scores(bad, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.parquet"]


def test_write_into_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RslitError, match=r"cannot write .*scores\.parquet"):
        write_scores(soup(), tmp_path / "file" / "scores.parquet")


def test_own_reward_is_the_one_trained_on_else_the_name() -> None:
    meta = ScoreMeta(task="t", rewards=("x", "y"), experts=("x", "b", "c"), trained_on={"b": "y", "c": "unscored"})
    assert [meta.own_reward(expert) for expert in meta.experts] == ["x", "y", None]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rewards": ()}, "name no reward"),
        ({"rewards": ("x", "x")}, "reward 'x' is named twice"),
        ({"rewards": ("x",), "experts": ("a", "a")}, "expert 'a' is named twice"),
        ({"rewards": ("x",), "trained_on": {"z": "x"}}, "trained_on names 'z', but the experts are none"),
    ],
)
def test_bad_metadata(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RslitError, match=message):
        ScoreMeta(task="t", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 0.5}, "column 'seed' .* needs whole numbers"),
        ({"score": "high"}, "column 'score' .* needs float64"),
        ({"kind": "broth"}, "kind 'broth'; it may be 'soup', 'initialisation', 'morl'"),
        ({"reward": "z"}, "reward 'z'; it may be 'x', 'y'"),
        ({"score": [math.inf, 1.0]}, "reward 'x' at point 'a=1' on item 'p' is infinite"),
        ({"score": [1.0, NAN]}, "reward 'y' scores no item at point 'a=1' of seed 0 .NaN for all"),
        ({"reward": "x"}, "scores item 'p' with reward 'x' twice at point 'a=1' of seed 0"),
        ({"lam__a": 0.9}, "λ of point 'a=1' must be finite and sum to 1"),
        ({"lam__a": NAN}, "λ of point 'a=1' must be finite"),
        ({"lam__a": [1.0, 0.0], "lam__b": [0.0, 1.0]}, "point 'a=1' has two different λ"),
        ({"mu__x": 1.0}, "gives μ to a point that is not of kind 'morl'"),
        ({"kind": "initialisation"}, "gives λ to a point that is not of kind 'soup'"),
        ({"kind": "morl", "lam__a": NAN, "lam__b": NAN}, "μ of point 'a=1' must be finite"),
        ({"kind": "morl", "lam__a": NAN, "lam__b": NAN, "mu__x": 0.0, "mu__y": 0.0}, "not all be 0"),
    ],
)
def test_bad_rows_are_named(changes: dict[str, object], message: str) -> None:
    assert len(ScoreTable(one_row(), META).frame) == 2
    with pytest.raises(RslitError, match=message) as caught:
        ScoreTable(one_row(**changes), META, source="runs/s.parquet")
    assert "runs/s.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_column_and_no_rows() -> None:
    with pytest.raises(RslitError, match=r"s\.parquet lacks the column 'lam\.b'"):
        ScoreTable(one_row().drop(columns="lam.b"), META, source="s.parquet")
    with pytest.raises(RslitError, match="has no rows"):
        ScoreTable(one_row().iloc[:0], META)
    with pytest.raises(RslitError, match="names no expert"):
        ScoreTable(one_row(), replace(META, experts=(), trained_on={}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "broth"}, "kind 'broth' of point 'P' is unknown"),
        ({"reward": "z"}, "reward 'z' is not in the table; its rewards are x, y"),
        ({"scores": [1.0]}, r"scores of shape \(1,\) for 2 items"),
        ({"lam": None}, "point 'P' needs lam"),
        ({"mu": {"x": 1.0}}, "point 'P' must not have mu"),
        ({"lam": {"a": 1.0}}, "lam of point 'P' names a; it must name a, b"),
        ({"kind": "morl", "lam": None, "mu": {"z": 1.0}}, "mu of point 'P' names z; it must name x, y"),
    ],
)
def test_add_refuses(arguments: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "seed": 0,
        "kind": "soup",
        "point": "P",
        "items": ["p", "q"],
        "reward": "x",
        "scores": [1.0, 2.0],
        "lam": {"a": 1.0, "b": 0.0},
    }
    ScoreRows(META).add(**good)  # type: ignore[arg-type]
    with pytest.raises(RslitError, match=message):
        ScoreRows(META).add(**{**good, **arguments})  # type: ignore[arg-type]


def test_empty_rows_make_no_table() -> None:
    with pytest.raises(RslitError, match="no scores were added for task 'demo'"):
        ScoreRows(META).table()


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"nowhere\.parquet does not exist"):
        read_scores(tmp_path / "nowhere.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("a,b")
    with pytest.raises(RslitError, match=r"text\.parquet is not a readable parquet file"):
        read_scores(text)
    stranger = tmp_path / "stranger.parquet"
    pq.write_table(pa.table({"seed": [1]}), stranger)
    with pytest.raises(RslitError, match=r"stranger\.parquet is parquet but lacks the metadata 'rslit'"):
        read_scores(stranger)
    for raw in (b"{", b'{"task": "t"}', b'{"task": "t", "rewards": []}'):
        pq.write_table(pa.table({"seed": [1]}).replace_schema_metadata({b"rslit": raw}), stranger)
        with pytest.raises(RslitError, match=r"metadata of .*stranger\.parquet cannot be understood"):
            read_scores(stranger)
    metadata = {b"rslit": b'{"task": "t", "rewards": ["x"]}'}
    pq.write_table(pa.table({"seed": [1]}).replace_schema_metadata(metadata), stranger)
    with pytest.raises(RslitError, match=r"stranger\.parquet lacks the column 'kind'"):
        read_scores(stranger)
