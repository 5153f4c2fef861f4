"""Other soups set beside one: points, hypervolumes and differences against numpy, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import moocore
import numpy as np
import pytest
from numpy.typing import NDArray

from rslit.cli import main
from rslit.errors import RslitError
from rslit.front import ScoreMeta, ScoreRows, write_front, write_scores
from rslit.front.hypervolume import hypervolume_spread, paired_hypervolume_difference

REWARDS = ("fast", "calm")
ITEMS = [f"e{n}" for n in range(24)]
REFERENCE = [-5.0, -5.0]


def scores(seed: int, bend: float, parts: int) -> NDArray[np.float64]:
    """(items, points, rewards): items as hard for every run, its noise its own."""
    difficulty = np.random.default_rng(7).normal(0, 1, (len(ITEMS), 1, 2))
    lam = np.linspace(1, 0, parts + 1)
    mean = np.stack([10 * lam, 10 * (1 - lam)], axis=1) + (bend * lam * (1 - lam))[:, None]
    return mean + difficulty + np.random.default_rng([seed, parts]).normal(0, 0.5, (len(ITEMS), parts + 1, 2))


def save(
    path: Path,
    seed: int = 0,
    *,
    bend: float = 10.0,
    parts: int = 4,
    experts: Sequence[str] = ("fast", "calm"),
    rewards: Sequence[str] = REWARDS,
    task: str = "walk",
    items: Sequence[str] = ITEMS,
) -> Path:
    rows = ScoreRows(ScoreMeta(task=task, rewards=tuple(rewards), experts=tuple(experts), space="weights"))
    values = scores(seed, bend, parts)
    for m, lam in enumerate(np.linspace(1, 0, parts + 1)):
        named = dict(zip(experts, (lam, 1 - lam), strict=True))
        label = ",".join(f"{name}={value:g}" for name, value in named.items())
        for reward in rewards:
            k = REWARDS.index(reward) if reward in REWARDS else 0
            rows.add(seed, "soup", label, items, reward, values[: len(items), m, k], lam=named)
    write_scores(rows.table(), path)
    return path


def volume(means: NDArray[np.float64]) -> float:
    return float(moocore.hypervolume(means, ref=REFERENCE, maximise=True))


def test_numbers(tmp_path: Path) -> None:
    """A flatter soup of other experts with more points, its rewards in another order and one more of them."""
    main_file = save(tmp_path / "a.parquet", 0)
    other = save(
        tmp_path / "b.parquet", 3, bend=0, parts=8, experts=("init", "fast"), rewards=("calm", "fast", "other")
    )
    data = write_front(
        [main_file], tmp_path / "out", reference=REFERENCE, replicates=300, beside={"wise": [other]}
    ).data
    found = data["beside"]["wise"]
    theirs, mine = scores(3, 0, 8), scores(0, 10, 4)
    assert [point["lam"] for point in found["points"]][2] == {"init": 0.75, "fast": 0.25}
    for m, point in enumerate(found["points"]):
        assert point["scores"]["calm"]["estimate"] == pytest.approx(theirs[:, m, 1].mean())
        assert point["scores"]["fast"]["low"] < theirs[:, m, 0].mean() < point["scores"]["fast"]["high"]
    assert found["hypervolume"]["estimate"] == pytest.approx(volume(theirs.mean(axis=0)))
    assert found["hypervolume"]["points"] == 9
    # Of the nine every other one, as many as the soup has.
    expected = volume(mine.mean(axis=0)) - volume(theirs.mean(axis=0)[::2])
    difference = found["soup_minus"]
    assert (difference["points"], difference["items"]) == (5, 24)
    assert difference["estimate"] == pytest.approx(expected)
    paired = paired_hypervolume_difference(
        mine[None], theirs[None][:, :, ::2], REFERENCE, replicates=300, level=0.95, rng=0
    )
    assert difference["low"] == pytest.approx(float(paired.low))
    assert difference["low"] > 0
    assert found["trainings"] == {"trainings_per_seed": 2, "trainings": 2}
    assert found["provenance"][0]["path"] == str(other)


def test_seeds_are_paired(tmp_path: Path) -> None:
    mains = [save(tmp_path / f"a{seed}.parquet", seed) for seed in (0, 1)]
    others = [save(tmp_path / f"b{seed}.parquet", seed, bend=4) for seed in (0, 1)]
    data = write_front(mains, tmp_path / "out", replicates=100, beside={"other": others}).data
    assert data["beside"]["other"]["soup_minus"]["seeds"] == 2
    alone = save(tmp_path / "c.parquet", 9, bend=4)
    with pytest.raises(RslitError, match="share no seed, so they cannot be paired"):
        write_front(mains, tmp_path / "out2", beside={"other": [alone]})
    assert not (tmp_path / "out2").exists()


def test_command_line_files_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_file, other = save(tmp_path / "a.parquet"), save(tmp_path / "b.parquet", 1, bend=0)
    out = tmp_path / "out"
    assert main(["front", str(main_file), "--beside", f"flat={other}", "--out", str(out), "--replicates", "50"]) == 0
    assert "; soup - flat: " in capsys.readouterr().out
    lines = (out / "front.csv").read_text().splitlines()
    assert sum(",flat," in line for line in lines) == 5
    assert "flat" in (out / "front.svg").read_text()
    assert "that of <b>flat</b>: difference of" in (out / "front.html").read_text()


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_file = save(tmp_path / "a.parquet")
    bad = {
        "is of task swim, not walk": save(tmp_path / "task.parquet", task="swim"),
        "has no reward 'calm'; evaluate it on the same rewards": save(tmp_path / "r.parquet", rewards=("fast", "x")),
        "share no item, so they cannot be paired": save(tmp_path / "i.parquet", items=["z1", "z2"]),
    }
    for message, path in bad.items():
        out = tmp_path / "out"
        assert main(["front", str(main_file), "--beside", f"x={path}", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not out.exists()
    with pytest.raises(SystemExit):
        main(["front", str(main_file), "--beside", "b.parquet", "--out", str(tmp_path / "out")])
    assert "'b.parquet' is not NAME=SCORES" in capsys.readouterr().err


def test_only_some_rewards(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", rewards=("fast", "other", "calm"))
    every = write_front([path], tmp_path / "every", replicates=50).data
    data = write_front([path], tmp_path / "out", replicates=50, only=["calm", "fast"]).data
    assert data["rewards"] == ["calm", "fast"]
    assert data["points"][1]["scores"] == {r: every["points"][1]["scores"][r] for r in ("calm", "fast")}
    assert list(data["reference"]["point"]) == ["calm", "fast"]
    with pytest.raises(RslitError, match=r"a\.parquet has no reward 'far'; its rewards are fast, other, calm"):
        write_front([path], tmp_path / "out", only=["far", "fast"])


def test_linear_mode_connectivity_of_what_is_beside(tmp_path: Path) -> None:
    """Between its own experts: a path above its chord, one below, and one whose experts were not scored."""
    main_file, above, below = (save(tmp_path / f"{n}.parquet", n, bend=bend) for n, bend in enumerate((0, 10, -10)))
    beside = {"above": [above], "below": [below]}
    data = write_front([main_file], tmp_path / "out", replicates=300, beside=beside).data
    assert data["beside"]["above"]["lmc"] == dict.fromkeys(REWARDS, "holds")
    assert data["beside"]["below"]["lmc"] == dict.fromkeys(REWARDS, "violated")
    assert "violated, violated" in (tmp_path / "out" / "front.html").read_text()


def test_spread_over_trainings(tmp_path: Path) -> None:
    """Of the fronts of experts of the same names at the same λ, on the items of all; others do not count."""
    bends = (10.0, 4.0, 12.0)
    files = [save(tmp_path / f"{n}.parquet", n, bend=bend) for n, bend in enumerate(bends)]
    few = save(tmp_path / "few.parquet", 3, bend=8, items=ITEMS[:20])
    finer = save(tmp_path / "finer.parquet", 4, parts=8)
    strange = save(tmp_path / "strange.parquet", 5, experts=("fast", "init"))
    beside = {"b": [files[1]], "c": [files[2]], "few": [few], "finer": [finer], "strange": [strange]}
    result = write_front([files[0]], tmp_path / "out", reference=REFERENCE, replicates=300, beside=beside)
    found = result.data["trainings"]
    assert (found["fronts"], found["seeds"], found["items"]) == (["soup", "b", "c", "few"], 1, 20)
    runs = [scores(n, bend, 4)[:20] for n, bend in enumerate((*bends, 8))]
    volumes = np.array([volume(run.mean(0)) for run in runs])
    wanted = {"mean": volumes.mean(), "deviation": volumes.std(ddof=1), "least": volumes.min(), "most": volumes.max()}
    assert {name: one["estimate"] for name, one in found["hypervolume"].items()} == pytest.approx(wanted)
    for one in found["hypervolume"].values():
        assert one["low"] < one["high"]
    # Items are as hard for each front: their differences are known far better than each by itself.
    assert found["hypervolume"]["deviation"]["high"] < 1.3 * wanted["deviation"]
    assert f"hypervolumes of 4 trainings of these experts: {volumes.mean():.4g}" in result.table()
    assert "Trained in <b>4 ways</b>" in result.files["html"].read_text()


def test_spread_of_shifted_fronts() -> None:
    """Fronts that differ by a constant: the rectangle of one point grows with it, the same in every replicate."""
    front = np.random.default_rng(0).normal(0, 1e-9, (2, 30, 1, 2))
    found = hypervolume_spread([front + shift for shift in (1.0, 2.0, 3.0)], [0, 0], replicates=100)
    np.testing.assert_allclose(found.estimate, [14 / 3, np.std([1, 4, 9], ddof=1), 1, 9], rtol=1e-6)
    np.testing.assert_allclose(found.low, found.high, rtol=1e-6)
    with pytest.raises(RslitError, match="1 front has no spread"):
        hypervolume_spread([front], [0, 0])
    with pytest.raises(RslitError, match=r"\(seeds, items, rewards\)"):
        hypervolume_spread([front, front[:, :5]], [0, 0])


def test_no_spread_without_other_trainings(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{n}.parquet", n, parts=parts) for n, parts in enumerate((4, 8))]
    assert "trainings" not in write_front([files[0]], tmp_path / "out", replicates=50, beside={"x": [files[1]]}).data
