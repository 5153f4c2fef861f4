"""`write_front`: its numbers against the parts they come from, its files, its refusals."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pytest

from rslit.front import Front, ScoreMeta, ScoreRows, read_scores, write_front, write_scores

REWARDS = ("fast", "calm")
SOUP = ScoreMeta(
    task="walk",
    rewards=REWARDS,
    experts=("risky", "cautious"),
    space="full",
    initialisation="f00",
    trained_on={"risky": "fast", "cautious": "calm"},
)
MORL = ScoreMeta(task="walk", rewards=REWARDS, initialisation="f00")
SIDES = ("soup", "morl")
ITEMS = [f"e{n}" for n in range(30)]


def difficulty(meta_rewards: int = 2) -> np.ndarray:
    return np.random.default_rng(99).normal(0, 2, (meta_rewards, len(ITEMS)))


def save(path: Path, rows: ScoreRows) -> Path:
    write_scores(rows.table(), path)
    return path


def soup_file(
    path: Path,
    seed: int = 0,
    *,
    parts: int = 10,
    bend: float = 12.0,
    start: bool = True,
    skip: Sequence[int] = (),
    meta: ScoreMeta = SOUP,
    items: Sequence[str] = ITEMS,
) -> Path:
    rng = np.random.default_rng(seed)
    rows = ScoreRows(meta)
    for k in range(parts + 1):
        lam = k / parts
        noise = rng.normal(0, 0.5, (2, len(items)))
        for n, reward in enumerate(meta.rewards):
            mean = 10 * (lam, 1 - lam)[n] + bend * lam * (1 - lam)
            if k not in skip:
                rows.add(
                    seed,
                    "soup",
                    f"risky={k}/{parts}",
                    items,
                    reward,
                    mean + difficulty()[n] + noise[n],
                    lam={"risky": lam, "cautious": 1 - lam},
                )
    for n, reward in enumerate(meta.rewards if start else ()):
        rows.add(seed, "initialisation", "initialisation", items, reward, difficulty()[n] + 1)
    return save(path, rows)


def morl_file(path: Path, seed: int = 0, *, mus: Sequence[float] = (0, 0.5, 1), items: Sequence[str] = ITEMS) -> Path:
    rng = np.random.default_rng(1000 + seed)
    rows = ScoreRows(MORL)
    for mu in mus:
        for n, reward in enumerate(REWARDS):
            mean = 10 * (mu, 1 - mu)[n] + 6 * mu * (1 - mu)
            scores = mean + difficulty()[n] + rng.normal(0, 0.5, len(items))
            # Twice the weights: only the direction of μ matters.
            rows.add(seed, "morl", f"mu fast={mu}", items, reward, scores, mu={"fast": 2 * mu, "calm": 2 * (1 - mu)})
    return save(path, rows)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        maker(tmp_path / f"{name}{seed}.parquet", seed)
        for seed in (0, 1, 2)
        for name, maker in (("soup", soup_file), ("morl", morl_file))
    ]


def strict(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    data: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return data


def test_numbers_of_soup_morl_and_initialisation(files: list[Path], tmp_path: Path) -> None:
    summary = write_front(files, tmp_path / "out", replicates=500)
    data = strict(tmp_path / "out" / "front.json")
    assert data == summary.data
    frames = [read_scores(path).frame for path in files]
    mean = {
        (point, reward): np.mean(
            [
                f[(f["point"] == point) & (f["reward"] == reward)]["score"].mean()
                for f in frames
                if point in set(f["point"])
            ]
        )
        for point in {name for f in frames for name in f["point"]}
        for reward in REWARDS
    }
    assert [point["kind"] for point in data["points"]] == ["soup"] * 11 + ["initialisation"] + ["morl"] * 3
    for point in data["points"]:
        for reward in REWARDS:
            assert point["scores"][reward]["estimate"] == pytest.approx(mean[point["point"], reward])
            assert point["scores"][reward]["low"] < mean[point["point"], reward] < point["scores"][reward]["high"]
    assert data["points"][3]["lam"] == {"risky": 0.3, "cautious": 0.7}
    assert data["points"][-2]["mu"] == {"fast": 1.0, "calm": 1.0}
    assert data["points"][11]["nondominated"] is None

    soup = np.array([[mean[f"risky={k}/10", reward] for reward in REWARDS] for k in range(11)])
    lams = np.stack([np.arange(11) / 10, 1 - np.arange(11) / 10], axis=1)
    assert [point["nondominated"] for point in data["points"][:11]] == Front(soup).nondominated().tolist()
    slack = soup - lams @ soup[[10, 0]]
    for k in range(11):
        assert data["points"][k]["lmc_slack"]["calm"] == pytest.approx(slack[k, 1], abs=1e-9)
    assert data["lmc"]["verdicts"] == {"fast": "holds", "calm": "holds"}
    assert data["lmc"]["margin"]["fast"] == pytest.approx(0.02 * abs(soup[10, 0] - soup[0, 0]))
    assert data["lmc"]["points"][0]["point"] == "risky=1/10"

    reference = [mean["initialisation", reward] for reward in REWARDS]
    assert data["reference"]["origin"] == "mean scores of the initialisation"
    assert list(data["reference"]["point"].values()) == pytest.approx(reference)

    def volume(points: np.ndarray) -> float:
        return float(moocore.hypervolume(points, ref=reference, maximise=True))

    morl = np.array([[mean[f"mu fast={mu}", reward] for reward in REWARDS] for mu in (0, 0.5, 1)])
    volumes = data["hypervolume"]
    assert volumes["soup"]["estimate"] == pytest.approx(volume(soup))
    assert volumes["morl"]["estimate"] == pytest.approx(volume(morl))
    assert volumes["soup"]["outside"] == int((~(soup > reference).all(axis=1)).sum())
    fair = volumes["soup_minus_morl"]
    assert [pair["soup"] for pair in fair["pairs"]] == ["risky=0/10", "risky=5/10", "risky=10/10"]
    assert fair["points"] == 3
    assert fair["difference"]["estimate"] == pytest.approx(volume(soup[[0, 5, 10]]) - volume(morl))
    assert fair["difference"]["low"] > 0

    gains = {(row["expert"], row["reward"]): row for row in data["experts_minus_initialisation"]["differences"]}
    assert data["experts_minus_initialisation"]["paired"] == "by seed and item"
    assert [key for key, row in gains.items() if row["own"]] == [("risky", "fast"), ("cautious", "calm")]
    assert gains["risky", "calm"]["estimate"] == pytest.approx(soup[10, 1] - reference[1])
    # The items' difficulty (sd 2) cancels against the initialisation's: the noise left is 0.5 / sqrt(90).
    assert gains["risky", "fast"]["high"] - gains["risky", "fast"]["low"] < 0.6


def test_soup_beside_morl_by_preference_attainment_and_cost(files: list[Path], tmp_path: Path) -> None:
    data = write_front(files, tmp_path / "out", replicates=100).data
    points = {point["point"]: list(point["scores"].values()) for point in data["points"]}
    start, fast, calm = (
        np.array([score["estimate"] for score in points[label]])
        for label in ("initialisation", "risky=10/10", "risky=0/10")
    )
    gain = np.array([fast[0], calm[1]]) - start

    def rescaled(labels: Sequence[str]) -> np.ndarray:
        return (np.array([[score["estimate"] for score in points[label]] for label in labels]) - start) / gain

    soup, morl = (rescaled([p[kind] for p in data["hypervolume"]["soup_minus_morl"]["pairs"]]) for kind in SIDES)
    found = data["preferences"]
    assert found["points"] == 3
    assert found["preferences"]["distribution"] == "uniform on the simplex"
    shortfall = moocore.epsilon_additive(soup, ref=morl, maximise=True)
    assert found["shortfall"]["soup"]["estimate"] == pytest.approx(shortfall)
    assert found["igd_plus"]["morl"]["estimate"] == pytest.approx(moocore.igd_plus(morl, ref=soup, maximise=True))
    w = np.linspace(0, 1, 2001)
    weights = np.stack([w, 1 - w])
    utility = (soup @ weights).max(axis=0).mean() - (morl @ weights).max(axis=0).mean()
    assert found["utility"]["difference"]["estimate"] == pytest.approx(utility, abs=1e-3)
    assert found["utility"]["difference"]["low"] > 0

    assert set(data["attainment"]) == set(SIDES)
    assert set(data["attainment"]["soup"]) == {"20", "50", "100"}
    assert data["costs"]["soup"] == {"trainings_per_seed": 2, "trainings": 6, "samples": None}
    assert data["costs"]["morl"] == {"trainings_per_seed": 3, "trainings": 9, "samples": None}
    volumes = data["hypervolume"]
    assert volumes["soup"]["cross_fit"]["estimate"] == pytest.approx(volumes["soup"]["estimate"], rel=0.05)
    assert volumes["soup_minus_morl"]["cross_fit"]["low"] > 0


def test_few_seeds_that_dominate_are_noted(tmp_path: Path) -> None:
    # The bend differs much between the seeds; items and their noise are the same.
    paths = [soup_file(tmp_path / f"{seed}.parquet", seed, bend=12.0 + 8 * seed) for seed in (0, 1, 2)]
    summary = write_front(paths, tmp_path / "out", replicates=100)
    share = summary.data["hypervolume"]["soup"]["seed_share"]
    assert share > 0.5
    (note,) = summary.data["notes"]
    assert note.startswith(f"hypervolume soup: {share:.0%} of the variance is between only 3 seeds")
    assert f"note: {note}" in summary.table()
    assert summary.data["preferences"] == {"skipped": "MORL was not scored"}
    assert list(summary.data["attainment"]) == ["soup"]


def test_provenance_and_notes(files: list[Path], tmp_path: Path) -> None:
    data = write_front(files, tmp_path / "out", replicates=100, seed=3).data
    first = data["provenance"]["files"][0]
    assert first["sha256"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert (first["path"], first["kinds"], first["space"]) == (str(files[0]), ["soup", "initialisation"], "full")
    assert data["kinds"]["soup"] == {"seeds": [0, 1, 2], "items": 30, "points": 11}
    assert (data["task"], data["space"], data["notes"]) == ("walk", "full", [])
    assert data["intervals"]["conditional"] is False
    assert data["intervals"]["seed"] == 3


def test_files_are_whole_and_repeatable(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    summary = write_front(files, out, replicates=100)
    names = ["front.csv", "front.html", "front.json", "front.png", "front.svg"]
    assert sorted(entry.name for entry in out.iterdir()) == names
    assert sorted(path.name for path in summary.files.values()) == names
    before = {name: (out / name).read_bytes() for name in names}
    write_front(files, out, replicates=100)
    assert {name: (out / name).read_bytes() for name in names} == before
    assert before["front.svg"].startswith(b"<?xml")
    with (out / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert float(rows[3]["lam.risky"]) == 0.3
    assert float(rows[3]["fast"]) == summary.data["points"][3]["scores"]["fast"]["estimate"]
    assert rows[12]["lam.risky"] == ""
    assert (rows[12]["mu.calm"], rows[11]["nondominated"]) == ("2.0", "")


def test_table_reads_in_a_terminal(files: list[Path], tmp_path: Path) -> None:
    text = write_front(files, tmp_path, replicates=100).table()
    lines = text.splitlines()
    assert lines[0] == "walk, space full: 11 soup points, 3 seeds (0, 1, 2) x 30 items; 95% intervals"
    assert lines[2].split() == ["kind", "point", "fast", "calm", "slack", "fast", "slack", "calm"]
    assert sum("risky=" in line for line in lines if "best λ" not in line) == 11
    assert " ± " in lines[3]
    assert "LMC on fast: holds (margin 0.2" in text
    assert "hypervolume soup - morl: " in text
    assert "(cross-fit " in text
    assert "expected utility soup - morl: " in text
    assert "worst shortfall of the soup: " in text
    assert "cost morl: 3 trainings per seed, 9 in all" in text
    assert "expert cautious - initialisation on its calm: " in text
    assert max(map(len, lines)) <= 120


def test_samples_spent(tmp_path: Path) -> None:
    """Summed over the tables that know; unknown as soon as one of a kind does not."""
    paths = []
    for seed in (0, 1):
        meta = replace(SOUP, extras={"samples": {"soup": 1_000 + seed, "morl": None}})
        paths.append(soup_file(tmp_path / f"{seed}.parquet", seed, meta=meta))
    summary = write_front([*paths, morl_file(tmp_path / "morl.parquet")], tmp_path / "out", replicates=50)
    costs = summary.data["costs"]
    assert (costs["soup"]["samples"], costs["morl"]["samples"]) == (2_001, None)
    lines = summary.table().splitlines()
    assert "cost soup: 2 trainings per seed, 4 in all, 2,001 samples" in lines
    assert "cost morl: 3 trainings per seed, 3 in all" in lines
    page = summary.files["html"].read_text()
    assert "<th scope='col'>samples in all</th>" in page
    assert "<th scope='row'>soup</th><td>2</td><td>4</td><td>2,001</td>" in page
    paths.append(soup_file(tmp_path / "2.parquet", 2))
    assert write_front(paths, tmp_path / "more", replicates=50).data["costs"]["soup"]["samples"] is None


def test_one_seed_without_initialisation_or_morl(tmp_path: Path) -> None:
    summary = write_front([soup_file(tmp_path / "s.parquet", start=False)], tmp_path / "out", replicates=100)
    data = strict(summary.files["json"])
    assert data["intervals"]["conditional"] is True
    assert data["points"][0]["scores"]["fast"]["seed_low"] is None
    assert data["notes"] == ["one training seed: intervals are conditional on that run"]
    assert data["reference"]["origin"].startswith("worst expert minus 10 %")
    ends = [data["points"][k]["scores"]["fast"]["estimate"] for k in (0, 10)]
    assert data["reference"]["point"]["fast"] == pytest.approx(min(ends) - 0.1 * abs(ends[0] - ends[1]))
    assert "morl" not in data["hypervolume"]
    assert data["experts_minus_initialisation"] == {"skipped": "the initialisation was not scored"}
    assert "note: one training seed" in summary.table()


def test_one_initialisation_stands_for_all_seeds(tmp_path: Path) -> None:
    paths = [soup_file(tmp_path / f"{seed}.parquet", seed, start=seed == 1) for seed in (1, 2)]
    gains = write_front(paths, tmp_path / "out", replicates=100).data["experts_minus_initialisation"]
    assert gains["paired"] == "by item, one initialisation for all seeds"
    expert = np.mean(
        [read_scores(p).frame.query("point == 'risky=10/10' and reward == 'fast'")["score"] for p in paths]
    )
    assert gains["differences"][0]["estimate"] == pytest.approx(expert - 1 - difficulty()[0].mean())


def test_given_reference_is_used_and_named(tmp_path: Path) -> None:
    path = soup_file(tmp_path / "s.parquet")
    data = write_front([path], tmp_path / "out", reference=[-20.0, 100.0], replicates=100).data
    assert data["reference"] == {"point": {"fast": -20.0, "calm": 100.0}, "origin": "given"}
    assert data["hypervolume"]["soup"]["estimate"] == 0
    assert data["hypervolume"]["soup"]["outside"] == 11
