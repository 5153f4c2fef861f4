"""What `write_front` leaves out and says why, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_front_report import ITEMS, REWARDS, SOUP, difficulty, morl_file, save, soup_file

from rslit.errors import RslitError
from rslit.front import ScoreMeta, ScoreRows, write_front
from rslit.front.compare import choose_reference, nearest_points


@pytest.mark.parametrize(
    ("skip", "parts", "reason"),
    [((10,), 10, "some expert (λ = 1) was not scored"), ((), 1, "there is no point between the experts")],
)
def test_lmc_is_skipped_with_the_reason(tmp_path: Path, skip: tuple[int, ...], parts: int, reason: str) -> None:
    summary = write_front([soup_file(tmp_path / "s.parquet", skip=skip, parts=parts)], tmp_path / "o", replicates=100)
    assert summary.data["lmc"] == {"skipped": reason}
    assert "lmc_slack" not in summary.data["points"][0]
    assert f"LMC: skipped, {reason}" in summary.table()
    assert "slack" not in summary.table()


def test_comparison_with_one_morl_point_is_skipped_with_the_reason(tmp_path: Path) -> None:
    paths = [soup_file(tmp_path / "s.parquet"), morl_file(tmp_path / "m.parquet", mus=[0.5])]
    summary = write_front(paths, tmp_path / "out", replicates=100)
    reason = "the soup has 11 points and MORL 1; a front to compare needs at least 2"
    assert summary.data["hypervolume"]["soup_minus_morl"] == {"skipped": reason}
    assert f"soup - morl: skipped, {reason}" in summary.table()


def test_left_out_items_and_other_initialisations_are_noted(tmp_path: Path) -> None:
    first = soup_file(tmp_path / "a.parquet", 0)
    rows = ScoreRows(ScoreMeta(**{**vars(SOUP), "initialisation": "bad"}))
    for k in range(11):
        for reward in REWARDS:
            lam = {"risky": k / 10, "cautious": 1 - k / 10}
            rows.add(1, "soup", f"risky={k}/10", ITEMS[:20], reward, difficulty()[0][:20] + k, lam=lam)
    data = write_front([first, save(tmp_path / "b.parquet", rows)], tmp_path / "out", replicates=100).data
    assert data["kinds"]["soup"]["items"] == 20
    assert data["notes"] == [
        "10 items left out: not every soup point was evaluated on them",
        "the files name different initialisations",
    ]


def test_refusals(tmp_path: Path) -> None:
    soup, out = soup_file(tmp_path / "s.parquet"), tmp_path / "out"
    morl = morl_file(tmp_path / "m.parquet", items=[f"other{n}" for n in range(30)])
    late = morl_file(tmp_path / "late.parquet", seed=7)
    stranger = soup_file(tmp_path / "t.parquet", 1, meta=ScoreMeta(**{**vars(SOUP), "task": "swim"}))
    single = ScoreRows(ScoreMeta(task="walk", rewards=("fast",), experts=("a",)))
    single.add(0, "soup", "a", ["p"], "fast", [1.0], lam={"a": 1.0})
    two = ScoreRows(SOUP)
    for reward in REWARDS:
        two.add(0, "initialisation", "warm", ITEMS, reward, difficulty()[0])
    cases: list[tuple[list[Path], dict[str, Any], str]] = [
        ([], {}, "no score table was given"),
        ([tmp_path / "nowhere.parquet"], {}, r"nowhere\.parquet does not exist"),
        ([soup, morl], {}, "share no item, so they cannot be paired"),
        ([soup, late], {}, "share no seed, so they cannot be paired"),
        ([soup, stranger], {}, r"s\.parquet has task walk, but .*t\.parquet has task swim"),
        ([late], {}, r"late\.parquet has no soup points"),
        ([save(tmp_path / "one.parquet", single)], {}, "has one reward, 'fast'; a front needs at least two"),
        ([soup, save(tmp_path / "two.parquet", two)], {}, "has initialisations initialisation, warm"),
        (
            [soup],
            {"reference": [1.0]},
            r"reference \[1.0\] does not fit; give one finite number for each of fast, calm",
        ),
        ([soup], {"delta": -1.0}, "delta -1.0 is no margin"),
        ([soup], {"rewards": ["fast", "fun"]}, "reward 'fun' is not in the front"),
        ([soup], {"replicates": 0}, "was given 0 replicates"),
    ]
    for paths, options, message in cases:
        with pytest.raises(RslitError, match=message):
            write_front(paths, out, **{"replicates": 50, **options})
        assert not out.exists()


def test_reference_needs_something_to_start_from() -> None:
    with pytest.raises(RslitError, match="neither initialisation nor all experts"):
        choose_reference(None, None, None, REWARDS)


def test_nearest_points_uses_no_point_twice_and_gives_reasons() -> None:
    lams = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    # Both μ are nearest to λ = (0.5, 0.5); the second-best pairing of the closer one costs less.
    pairs = nearest_points(lams, np.array([[0.45, 0.55], [0.6, 0.4]]), SOUP)
    assert not isinstance(pairs, str)
    assert (pairs[0].tolist(), pairs[1].tolist()) == ([1, 0], [0, 1])
    unknown = ScoreMeta(task="t", rewards=REWARDS, experts=("risky", "cautious"))
    assert "expert 'risky' has no evaluation reward of its own" in nearest_points(lams, lams, unknown)
    twins = ScoreMeta(**{**vars(SOUP), "trained_on": {"risky": "fast", "cautious": "fast"}})
    assert "no evaluation reward of its own" in nearest_points(lams, lams, twins)
    assert "some μ gives no weight" in nearest_points(lams, np.array([[1.0, -1.0], [1.0, 0.0]]), SOUP)


def test_three_rewards(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    names = ("a", "b", "c")
    rows = ScoreRows(ScoreMeta(task="t", rewards=names, experts=names))
    lams = [(i / 4, j / 4, (4 - i - j) / 4) for i in range(5) for j in range(5 - i)]
    for lam in lams:
        for n, reward in enumerate(names):
            scores = np.where(np.arange(20) % 3 == 0, np.nan, rng.normal(5 * lam[n], 0.1, 20))
            rows.add(0, "soup", str(lam), ITEMS[:20], reward, scores, lam=dict(zip(names, lam, strict=True)))
    data = write_front([save(tmp_path / "s.parquet", rows)], tmp_path / "out", replicates=100).data
    assert len(data["points"]) == 15
    assert set(data["lmc"]["verdicts"]) == set(names)
    means = np.array([[p["scores"][n]["estimate"] for n in names] for p in data["points"]])
    np.testing.assert_allclose(means, 5 * np.array(lams), atol=0.15)
