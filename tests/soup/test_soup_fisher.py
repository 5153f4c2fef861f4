"""Fisher-weighted averages against the formula in NumPy, on disk through `rslit soup --fisher`, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from soup_kit import TRAINABLE, info, same_bits, states
from torch import Tensor

from rslit.cli import main
from rslit.errors import RslitError
from rslit.soup import Ingredient, Soup, fisher_mean, write_ingredient

THIRDS = {"a": Fraction(1, 2), "b": Fraction(1, 3), "c": Fraction(1, 6)}
States = dict[str, dict[str, Tensor]]


def diagonals(experts: States, scale: float = 1.0) -> States:
    generator = torch.Generator().manual_seed(5)
    return {
        name: {key: scale * torch.rand(state[key].shape, generator=generator) ** 2 for key in TRAINABLE}
        for name, state in experts.items()
    }


def written(root: Path, experts: States, fishers: States) -> list[str]:
    return [
        str(write_ingredient(root / name, state, info(state, name), {"fisher.safetensors": save(fishers[name])}))
        for name, state in experts.items()
    ]


@pytest.mark.parametrize("scale", [1.0, 1e-32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_is_the_formula(dtype: torch.dtype, scale: float) -> None:
    experts = states(3, dtype)
    fishers = diagonals(experts, scale)
    found = fisher_mean(experts, TRAINABLE, THIRDS, fishers)
    for key in TRAINABLE:
        weights = np.stack([float(THIRDS[n]) * fishers[n][key].double().numpy() / scale for n in experts])
        theta = np.stack([experts[n][key].double().numpy() for n in experts])
        np.testing.assert_allclose(found[key].double(), (weights * theta).sum(0) / weights.sum(0), rtol=2e-5, atol=1e-6)
        assert found[key].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_equal_diagonals_give_the_ordinary_soup_and_so_does_where_all_vanish() -> None:
    experts = states(3)
    soup = Soup(experts, trainable_keys=TRAINABLE).state_dict(THIRDS)
    equal = {name: {key: torch.full_like(experts[name][key], 0.3) for key in TRAINABLE} for name in experts}
    for key, tensor in fisher_mean(experts, TRAINABLE, THIRDS, equal).items():
        torch.testing.assert_close(tensor, soup[key])
    fishers = diagonals(experts)
    for name in experts:
        fishers[name]["0.weight"][:2] = 0
    fishers["a"]["0.bias"][:] = 0
    fishers["b"]["0.bias"][:] = 0
    found = fisher_mean(experts, TRAINABLE, THIRDS, fishers)
    assert same_bits(found["0.weight"][:2], soup["0.weight"][:2])
    assert not same_bits(found["0.weight"][2:], soup["0.weight"][2:])
    # Only c is sure of this one.
    torch.testing.assert_close(found["0.bias"], experts["c"]["0.bias"])


def test_vertices_and_common_weights_stay_bit_for_bit() -> None:
    experts = states(3)
    experts["b"]["2.bias"] = experts["c"]["2.bias"] = experts["a"]["2.bias"]
    fishers = diagonals(experts)
    assert same_bits(fisher_mean(experts, TRAINABLE, THIRDS, fishers)["2.bias"], experts["a"]["2.bias"])
    alone = fisher_mean(experts, TRAINABLE, {"a": Fraction(0), "b": Fraction(1), "c": Fraction(0)}, {})
    assert all(same_bits(alone[key], experts["b"][key]) for key in TRAINABLE)


def test_command_writes_an_ingredient_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experts = states(2)
    fishers = diagonals(experts)
    folders, out = written(tmp_path, experts, fishers), tmp_path / "out"
    code = main(["soup", "--ingredients", *folders, "--lam", "a=0.3,b=0.7", "--out", str(out), "--fisher"])
    assert code == 0, capsys.readouterr().err
    lam = {"a": Fraction(3, 10), "b": Fraction(7, 10)}
    expected = fisher_mean(experts, TRAINABLE, lam, fishers)
    state = load_file(out / "weights.safetensors")
    assert all(same_bits(state[key], expected[key]) for key in TRAINABLE)
    assert same_bits(state["count"], experts["a"]["count"])
    recipe = Ingredient.load(out).info.config["soup"]
    assert recipe["fisher"] is True
    assert recipe["effective_lam"] == pytest.approx({"a": 0.3, "b": 0.7})
    card = (out / "README.md").read_text()
    assert "--lam a=3/10,b=7/10 --out out --fisher" in card
    assert "Fisher diagonals" in card


def test_half_precision_is_averaged_in_float32_and_rounded_once(tmp_path: Path) -> None:
    experts = states(2, torch.bfloat16)
    fishers = diagonals(experts)
    folders, out = written(tmp_path, experts, fishers), tmp_path / "out"
    assert main(["soup", "--ingredients", *folders, "--lam", "a=1/2,b=1/2", "--out", str(out), "--fisher"]) == 0
    expected = fisher_mean(experts, TRAINABLE, dict.fromkeys("ab", Fraction(1, 2)), fishers)
    state = load_file(out / "weights.safetensors")
    assert all(same_bits(state[key], expected[key].bfloat16()) for key in TRAINABLE)


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experts = states(2)
    fishers = diagonals(experts)
    half = dict.fromkeys("ab", Fraction(1, 2))
    with pytest.raises(RslitError, match=r"lam of expert 'a' is 1.5; Fisher-weighted averages need it in \[0, 1\]"):
        fisher_mean(experts, TRAINABLE, {"a": Fraction(3, 2), "b": Fraction(-1, 2)}, fishers)
    for value, message in (
        (None, "of expert 'b' lacks '0.bias'"),
        (torch.ones(3), r"of expert 'b' at '0.bias' has shape \(3,\), the weight \(8,\)"),
        (-torch.ones(8), "of expert 'b' at '0.bias' is negative or not finite"),
        (torch.full((8,), float("nan")), "is negative or not finite"),
    ):
        own = {key: tensor for key, tensor in fishers["b"].items() if key != "0.bias"}
        bad = {"a": fishers["a"], "b": own if value is None else own | {"0.bias": value}}
        with pytest.raises(RslitError, match=message):
            fisher_mean(experts, TRAINABLE, half, bad)
    folders = written(tmp_path, experts, fishers)
    start = ["soup", "--ingredients", *folders, "--lam", "a=1/2,b=1/2", "--out", str(tmp_path / "out"), "--fisher"]
    (Path(folders[1]) / "fisher.safetensors").write_bytes(b"no")
    assert main(start) == 2
    assert "fisher.safetensors: cannot be read as safetensors" in capsys.readouterr().err
    (Path(folders[1]) / "fisher.safetensors").unlink()
    assert main(start) == 2
    assert "fisher.safetensors: no such file; write the expert's Fisher diagonal there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
