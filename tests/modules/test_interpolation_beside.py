"""Sweeps that soups are set beside: ensembles, soups towards the initialisation, of MORL, of one reward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_interpolation import START, ingredient, policy, state, sweep
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.front import Front, write_front
from rslit.front.paths import paths
from rslit.seeds import stream_seed
from rslit.soup import fingerprint


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    return {name: ingredient(tmp_path, name, state(seed), name) for seed, name in ((1, "risky"), (2, "cautious"))}


def test_ensembles_of_policies(pair: dict[str, str], tmp_path: Path) -> None:
    """Against a policy whose network is the weighted sum of the experts' outputs."""
    soups = sweep(tmp_path / "soups", pair, lattice=4)
    table = sweep(tmp_path / "run", pair, lattice=4, ensemble=True)
    assert (soups.meta.space, table.meta.space) == ("weights", "predictions")
    found, plain = Front.from_table(table, "soup"), Front.from_table(soups, "soup")
    ends = found.expert_points()
    np.testing.assert_allclose(found.scores[ends], plain.scores[ends], rtol=1e-6)
    assert np.abs(found.scores[2] - plain.scores[2]).max() > 1e-4

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            nets = [policy() for _ in range(2)]
            for net, seed in zip(nets, (1, 2), strict=True):
                net.policy.load_state_dict(state(seed))
            self.nets = [net.policy.net for net in nets]

        def forward(self, x: Tensor) -> Tensor:
            mixed: Tensor = 0.5 * self.nets[0](x) + 0.5 * self.nets[1](x)
            return mixed

    module = policy()
    module.policy.load_state_dict(state(1))
    module.policy.net = Mixed()
    seeds = [100, 101, 102]
    samples = module.evaluate({"seeds": torch.tensor(seeds)}, stream_seed(3, "evaluation", 0))
    rows = table.frame[(table.frame["point"] == found.labels[2]) & (table.frame["reward"] == "risky")]
    own = [float(rows[rows["item"] == str(item)]["score"].iloc[0]) for item in samples.items]
    np.testing.assert_allclose(own, samples.scores["risky"], rtol=1e-5)


def test_ensembles_are_of_experts_alone(pair: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="leave initialisation, morl and trajectories to the sweep"):
        sweep(tmp_path / "run", pair, ensemble=True, morl=["x"])


def test_towards_the_initialisation(pair: dict[str, str], tmp_path: Path) -> None:
    """WiSE: the initialisation is an ingredient, whichever comes first; strangers stay refused."""
    start = ingredient(tmp_path, "start", START, "pretrain", initialisation=fingerprint({}))
    for ingredients in ({"initialisation": start, **pair}, {**pair, "initialisation": start}):
        table = sweep(tmp_path / "-".join(ingredients), ingredients, lattice=2)
        assert table.meta.experts == tuple(ingredients)
    # MORL is a stranger or not by the experts, not by the initialisation among the ingredients.
    mixed = {"mu": {"risky": 0.5, "cautious": 0.5}}
    morl = ingredient(tmp_path, "morl", state(4), "mixed", config=mixed)
    before = ingredient(tmp_path, "before", state(4), "mixed", config=mixed, initialisation=fingerprint({}))
    sweep(tmp_path / "with-morl", {"initialisation": start, **pair}, lattice=2, morl=[morl])
    with pytest.raises(RslitError, match="another task or initialisation"):
        sweep(tmp_path / "bad", {"initialisation": start, **pair}, lattice=2, morl=[before])
    stranger = ingredient(tmp_path, "stranger", state(5), initialisation=fingerprint(state(9)))
    with pytest.raises(RslitError, match="are strangers"):
        sweep(tmp_path / "bad", {"initialisation": start, "stranger": stranger})
    with pytest.raises(RslitError, match="are strangers"):
        sweep(tmp_path / "bad", {**pair, "initialisation": start, "stranger": stranger})


def test_all_of_them_beside_a_soup(pair: dict[str, str], tmp_path: Path) -> None:
    """MORL solutions, two seeds of one reward and the initialisation as ingredients, and λ beyond the experts."""
    start = ingredient(tmp_path, "start", START, "pretrain", initialisation=fingerprint({}))
    morl = ingredient(tmp_path, "half", state(6), "morl", config={"seed": 3, "mu": {"risky": 0.5, "cautious": 0.5}})
    again = ingredient(tmp_path, "again", state(7), "risky", config={"seed": 9})
    beyond = [{"risky": 1 + e, "cautious": -e} for e in (0.5, 0.25, 0, -0.5, -1, -1.25)]
    sweep(tmp_path / "soup", pair, lattice=4, initialisation=start, morl=[morl])
    sweep(tmp_path / "wise", {"initialisation": start, "risky": pair["risky"]}, lattice=4)
    sweep(tmp_path / "morl", {"half": morl, **pair}, lattice=2)
    sweep(tmp_path / "same", {"first": pair["risky"], "second": again}, lattice=4)
    sweep(tmp_path / "beyond", pair, lattice=beyond, extrapolate=True)
    sweep(tmp_path / "ensembles", pair, lattice=4, ensemble=True)
    names = ("wise", "morl", "same", "beyond", "ensembles")
    beside = {name: [tmp_path / name / "scores.parquet"] for name in names}
    soup = tmp_path / "soup" / "scores.parquet"
    data = write_front([soup], tmp_path / "out", replicates=50, reference=[-9, -9], beside=beside).data
    assert list(data["beside"]) == list(names)
    for name in names:
        assert data["beside"][name]["soup_minus"]["points"] == 5
    assert data["beside"]["ensembles"]["space"] == "predictions"
    assert data["beside"]["beyond"]["points"][0]["lam"] == {"risky": 1.5, "cautious": -0.5}
    # Beyond the experts a soup is a soup too; what interpolating scores promises is asked of those between them.
    own = write_front(
        [tmp_path / "beyond" / "scores.parquet"], tmp_path / "own", replicates=50, reference=[-9, -9]
    ).data
    assert [row["point"] for row in own["lmc"]["points"]] == ["risky=1/2,cautious=1/2"]


def test_trajectories(pair: dict[str, str], tmp_path: Path) -> None:
    """Experts on their way are points of their own kind, in the order of training, and change nothing else."""
    for step, seed in ((100, 11), (20, 12)):
        ingredient(tmp_path / "way", f"epoch={step:04}", state(seed), step=step)
    (tmp_path / "way" / "last").mkdir()
    start = ingredient(tmp_path, "start", START, initialisation=fingerprint({}))
    options = {"lattice": 2, "initialisation": start, "trajectories": {"risky": str(tmp_path / "way")}}
    table = sweep(tmp_path / "run", pair, **options)
    way = Front.from_table(table, "trajectory")
    assert way.labels == ("risky step 20", "risky step 100")
    assert paths(way.labels) == {"risky": [0, 1]}
    alone = sweep(tmp_path / "alone", {"one": pair["cautious"], "way": str(tmp_path / "way" / "epoch=0020")}, lattice=1)
    np.testing.assert_allclose(way.scores[0], Front.from_table(alone, "soup").scores[1], rtol=1e-6)
    data = write_front([tmp_path / "run" / "scores.parquet"], tmp_path / "out", replicates=50).data
    assert [row["kind"] for row in data["points"]] == ["soup"] * 3 + ["initialisation"] + ["trajectory"] * 2
    assert "trainings" in (tmp_path / "out" / "front.svg").read_text()
    plain = sweep(tmp_path / "plain", pair, lattice=2, initialisation=start)
    np.testing.assert_allclose(
        Front.from_table(table, "soup").scores, Front.from_table(plain, "soup").scores, rtol=1e-5
    )


def test_trajectories_that_are_none(pair: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="has no ingredients epoch=…; train 'risky' with SoupCallback"):
        sweep(tmp_path / "run", pair, trajectories={"risky": str(tmp_path)})
    with pytest.raises(RslitError, match="'other' is no expert; name one of risky, cautious"):
        sweep(tmp_path / "run", pair, trajectories={"other": str(tmp_path)})
