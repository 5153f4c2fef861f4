"""Front: dominance, hypervolume and LMC slack against hand computation, brute force and pymoo."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pymoo.indicators.hv import HV

from rslit.errors import RslitError
from rslit.front import Front, ScoreMeta, ScoreRows

LAMS = [[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]
SCORES = [[4.0, 0.0], [3.5, 1.0], [1.0, 3.0], [0.0, 2.0]]


def test_nondominated_equals_brute_force_and_keeps_equal_points() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, size=(60, 3)).astype(float)
    scores[7] = scores[11]
    mask = Front(scores).nondominated()
    expected = [not any((other >= one).all() and (other > one).any() for other in scores) for one in scores]
    assert mask.tolist() == expected
    assert 0 < mask.sum() < 60
    assert Front([[1, 2], [1, 2], [0, 0]]).nondominated().tolist() == [True, True, False]


def test_hypervolume_by_hand() -> None:
    # Boxes from (0, -1): 4 x 1, then 3.5 x 1 more, then 1 x 2 more; the last point is dominated.
    assert Front(SCORES).hypervolume([0.0, -1.0]) == pytest.approx(4 + 3.5 + 2)


@pytest.mark.parametrize("rewards", [2, 3, 4])
def test_hypervolume_equals_pymoo(rewards: int) -> None:
    scores = np.random.default_rng(rewards).random((20, rewards))
    expected = HV(ref_point=np.full(rewards, -0.1))(-scores)
    assert Front(scores).hypervolume(np.full(rewards, 0.1)) == pytest.approx(expected, rel=1e-12)


def test_outside_counts_points_not_strictly_better() -> None:
    front = Front(SCORES)
    assert front.outside([-1.0, -1.0]) == 0
    assert front.outside([0.0, 0.0]) == 2
    assert front.outside([1.0, 0.0]) == 3
    assert front.outside([4.0, 4.0]) == 4


def test_lmc_slack_by_hand() -> None:
    slack = Front(SCORES, LAMS).lmc_slack()
    # 0.75 (4, 0) + 0.25 (0, 2) = (3, 0.5) and 0.5 (4, 0) + 0.5 (0, 2) = (2, 1).
    np.testing.assert_allclose(slack, [[0, 0], [0.5, 0.5], [-1, 2], [0, 0]])


def test_lmc_slack_of_three_experts_in_any_order() -> None:
    rng = np.random.default_rng(1)
    lams = np.vstack([rng.dirichlet(np.ones(3), 5), np.eye(3)[[2, 0, 1]]])
    scores = rng.normal(size=(8, 4))
    expected = scores - lams @ scores[[6, 7, 5]]
    np.testing.assert_allclose(Front(scores, lams).lmc_slack(), expected, atol=1e-12)


def test_frame_has_a_row_per_point() -> None:
    frame = Front(SCORES, LAMS, rewards=["v", "s"], experts=["risky", "cautious"]).to_frame()
    assert list(frame.columns) == [
        "point", "lam.risky", "lam.cautious", "v", "s", "nondominated", "slack.v", "slack.s",
    ]  # fmt: skip
    assert frame["point"].tolist()[1] == "risky=0.75,cautious=0.25"
    assert frame["nondominated"].tolist() == [True, True, True, False]
    assert frame["slack.s"].tolist() == [0.0, 0.5, 2.0, 0.0]


def test_frame_without_experts_or_lams_has_no_slack() -> None:
    inner = Front(SCORES[1:3], LAMS[1:3])
    assert not inner.has_experts()
    assert "slack.reward 1" not in inner.to_frame().columns
    assert list(Front(SCORES).to_frame().columns) == ["point", "reward 1", "reward 2", "nondominated"]
    assert Front(SCORES).labels == ("point 1", "point 2", "point 3", "point 4")


def test_from_table_is_the_mean_over_seeds_and_items_that_apply() -> None:
    rows = ScoreRows(ScoreMeta(task="t", rewards=("x", "y"), experts=("a", "b")))
    for seed in (0, 1):
        for k, lam in enumerate(LAMS):
            weights = dict(zip("ab", lam, strict=True))
            rows.add(seed, "soup", f"p{k}", ["i", "j"], "x", [k, k + 4 * seed], lam=weights)
            rows.add(seed, "soup", f"p{k}", ["i", "j"], "y", [k + seed, math.nan], lam=weights)
        rows.add(seed, "initialisation", "start", ["i", "j"], "x", [-1, -3])
        rows.add(seed, "initialisation", "start", ["i", "j"], "y", [-1, math.nan])
    table = rows.table()
    front = Front.from_table(table)
    np.testing.assert_allclose(front.scores, [[k + 1, k + 0.5] for k in range(4)])
    assert (front.rewards, front.experts, front.labels) == (("x", "y"), ("a", "b"), ("p0", "p1", "p2", "p3"))
    assert front.expert_points().tolist() == [0, 3]
    start = Front.from_table(table, kind="initialisation")
    assert start.scores.tolist() == [[-2.0, -1.0]]
    assert start.lams is None
    with pytest.raises(RslitError, match="no rows of kind 'morl'"):
        Front.from_table(table, kind="morl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": [1.0, 2.0]}, r"shape \(2,\) are no front"),
        ({"scores": np.zeros((0, 2))}, "are no front"),
        ({"scores": [[1.0, math.nan]]}, "reward 'reward 2' at point 0 is nan; a front needs finite scores"),
        ({"scores": [[math.inf, 1.0]]}, "reward 'reward 1' at point 0 is inf"),
        ({"lams": [[1.0, 0.0]]}, r"λ of shape \(1, 2\) do not fit 4 points"),
        ({"lams": np.full((4, 2), 0.4)}, "λ does not sum to 1"),
        ({"lams": np.full((4, 2), math.nan)}, "λ does not sum to 1"),
        ({"rewards": ["v"]}, "1 reward names were given for 2 rewards"),
        ({"lams": LAMS, "experts": ["a", "b", "c"]}, "3 expert names were given for 2 experts"),
        ({"labels": ["p"]}, "1 point names were given for 4 points"),
    ],
)
def test_bad_fronts(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RslitError, match=message):
        Front(**{"scores": SCORES, **arguments})  # type: ignore[arg-type]


def test_bad_reference_and_missing_experts() -> None:
    front = Front(SCORES, rewards=["v", "s"])
    for reference in ([0.0], [0.0, math.nan], [0.0, 0.0, 0.0]):
        with pytest.raises(RslitError, match="give one finite number for each of v, s"):
            front.hypervolume(reference)
        with pytest.raises(RslitError, match="does not fit"):
            front.outside(reference)
    with pytest.raises(RslitError, match="the front has no λ"):
        front.lmc_slack()
    with pytest.raises(RslitError, match="expert 'cautious' is not among the points"):
        Front(SCORES[:3], LAMS[:3], experts=["risky", "cautious"]).lmc_slack()
