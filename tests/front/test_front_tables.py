"""Score tables joined, and as arrays of seeds, items, points and rewards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_front_scores import META, soup

from rslit.errors import RslitError
from rslit.front import ScoreMeta, ScoreRows, ScoreTable, concat
from rslit.front.arrays import align, score_array


def named(table: ScoreTable, source: str) -> ScoreTable:
    table.source = source
    return table


def test_concat_joins_seeds_and_methods_in_the_first_order() -> None:
    swapped = ScoreMeta(task="demo", rewards=("y", "x"), initialisation="f00")
    rows = ScoreRows(swapped)
    rows.add(0, "morl", "m", ["p"], "y", [5.0], mu={"y": 1.0})
    rows.add(0, "morl", "m", ["p"], "x", [4.0], mu={"y": 1.0})
    joined = concat([named(soup(0), "A"), named(soup(1), "B"), named(rows.table(), "C")])
    assert len(joined.frame) == 26
    assert joined.meta.rewards == ("x", "y")
    assert joined.meta.experts == ("a", "b")
    assert (joined.meta.space, joined.meta.initialisation) == ("factors", "f00")
    assert joined.meta.extras == {"A": {"trainings": 2}, "B": {"trainings": 2}, "C": {}}
    assert score_array(joined, "morl").values.ravel().tolist() == [4.0, 5.0]
    assert score_array(joined, "morl").weights.tolist() == [[0.0, 1.0]]
    assert score_array(joined, "soup").seeds == (0, 1)


def test_concat_keeps_equal_rows_once_and_refuses_unequal_ones() -> None:
    assert len(concat([soup(0), soup(0)]).frame) == 12
    with pytest.raises(RslitError, match="B and C score point 'a=0/2' of seed 1 differently on item 'p'"):
        concat([named(soup(0), "A"), named(soup(1), "B"), named(soup(1, shift=0.5), "C")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "other"}, "A has task demo, but B has task other"),
        ({"rewards": ("x", "z")}, "A has rewards x, y, but B has rewards x, z"),
        ({"experts": ("a", "c"), "trained_on": {}}, "A has experts a, b, but B has experts a, c"),
        ({"space": "delta"}, "A has space factors, but B has space delta"),
        ({"trained_on": {"a": "y"}}, "A has expert 'a' trained on x, but B has expert 'a' trained on y"),
    ],
)
def test_concat_refuses_strangers(changes: dict[str, object], message: str) -> None:
    meta = replace(META, **changes)  # type: ignore[arg-type]
    rows = ScoreRows(meta)
    lam = {expert: float(n == 0) for n, expert in enumerate(meta.experts)}
    for reward in meta.rewards:
        rows.add(1, "soup", "vertex", ["p"], reward, [1.0], lam=lam)
    with pytest.raises(RslitError, match=message):
        concat([named(soup(), "A"), named(rows.table(), "B")])


def test_concat_of_different_initialisations_names_none() -> None:
    assert concat([soup(0), soup(1, replace(META, initialisation="bad"))]).meta.initialisation is None
    with pytest.raises(RslitError, match="no score table was given"):
        concat([])


def test_array_is_seeds_items_points_rewards() -> None:
    array = score_array(concat([soup(1, shift=0.25), soup(0)]), "soup")
    assert array.values.shape == (2, 2, 3, 2)
    assert (array.seeds, array.items, array.points) == ((0, 1), ("p", "q"), ("a=0/2", "a=1/2", "a=2/2"))
    # score = k + n + shift on item p, 10 k + n on item q
    assert array.values[0, 0, 2, 1] == 3.0
    assert array.values[1, 0, 2, 1] == 3.25
    assert array.values[1, 1, 2, 0] == 20.0
    assert array.weights.tolist() == [[0, 1], [0.5, 0.5], [1, 0]]


def test_array_keeps_common_items_and_counts_the_rest() -> None:
    table = soup()
    frame = table.frame[~((table.frame["item"] == "p") & (table.frame["point"] == "a=2/2"))]
    array = score_array(ScoreTable(frame, META), "soup")
    assert (array.items, array.dropped) == (("q",), 1)
    assert array.values[0, 0, :, 0].tolist() == [0.0, 10.0, 20.0]


def test_array_refuses_gaps() -> None:
    both = concat([soup(0), soup(1)]).frame
    gap = both[~((both["seed"] == 1) & (both["point"] == "a=1/2"))]
    with pytest.raises(RslitError, match="seed 1 has no soup point 'a=1/2'"):
        score_array(ScoreTable(gap, META), "soup")
    apart = both.assign(item=both["item"] + both["seed"].astype(str))
    with pytest.raises(RslitError, match="share no item"):
        score_array(ScoreTable(apart, META), "soup")
    with pytest.raises(RslitError, match="no rows of kind 'morl'"):
        score_array(soup(), "morl")


def test_align_pairs_common_seeds_and_items() -> None:
    first = score_array(concat([soup(0), soup(1), soup(2)]), "soup")
    other = replace(first, seeds=(2, 5, 0), items=("z", "p"), values=np.arange(36.0).reshape(3, 2, 3, 2))
    a, b = align(first, other)
    assert a.shape == b.shape == (2, 1, 3, 2)
    np.testing.assert_array_equal(a, first.values[[0, 2], :1])
    np.testing.assert_array_equal(b, other.values[[2, 0], 1:])
    with pytest.raises(RslitError, match="share no seed"):
        align(first, replace(other, seeds=(7, 8, 9)))
    with pytest.raises(RslitError, match="share no item"):
        align(first, replace(other, items=("y", "z")))
