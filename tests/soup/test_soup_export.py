from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from soup_kit import TRAINABLE, info, same_bits, states, write_all
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup import Ingredient, Soup, export_soup, fingerprint, parse_lam, write_ingredient


def test_exports_a_soup_that_loads(tmp_path: Path) -> None:
    experts = states(2)
    paths = write_all(tmp_path, experts)
    out = export_soup(paths, parse_lam("a=1/3,b=2/3"), tmp_path / "deep" / "mine", scores={"soup": {"speed": 2.25}})
    assert out == tmp_path / "deep" / "mine"
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "ingredient.json", "weights.safetensors"]
    read = Ingredient.load(out)
    expected = Soup(experts, trainable_keys=TRAINABLE).state_dict({"a": Fraction(1, 3), "b": Fraction(2, 3)})
    assert all(same_bits(tensor, expected[key]) for key, tensor in read.state_dict().items())
    assert read.info.expert == "mine"
    assert read.info.reward == "reward a + reward b"
    assert read.info.scores == {"speed": 2.25}
    assert read.info.initialisation == info(experts["a"]).initialisation
    recipe = read.info.config["soup"]
    assert recipe["lam"] == {"a": "1/3", "b": "2/3"}
    assert recipe["space"] == "weights"
    assert recipe["dtype"] == "float32"
    assert recipe["effective_lam"]["a"] == pytest.approx(1 / 3, abs=1e-6)
    assert 0 < recipe["rounding_error"] < 1e-5
    assert [e["weights"] for e in recipe["experts"]] == [fingerprint(state) for state in experts.values()]
    assert [e["path"] for e in recipe["experts"]] == [str(path) for path in paths]
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: rslit\n")
    assert "| a | reward a | 10 | 1/3 | 0.3333 |\n| b | reward b | 10 | 2/3 | 0.6667 |" in card
    assert "| model | speed |\n| --- | --- |\n| a | 1.5 |\n| b | 1.5 |\n| soup | 2.25 |" in card
    assert "--lam a=1/3,b=2/3 --out mine" in card
    # A soup can be an expert of another soup.
    again = Soup.load([paths[0], out])
    assert again.names == ["a", "mine"]


def test_scores_in_the_card(tmp_path: Path) -> None:
    experts = states(2)
    paths = [write_ingredient(tmp_path / n, s, info(s, n, scores={"x": math.nan})) for n, s in experts.items()]
    scores = {"a": {"p|q": 1.0}, "soup": {"x": 12345.678}}
    card = (export_soup(paths, {"a": 1}, tmp_path / "out", scores=scores) / "README.md").read_text()
    assert "| model | p\\|q | x |\n| --- | --- | --- |\n| a | 1 |  |\n| b |  |  |\n| soup |  | 1.235e+04 |" in card
    plain = [write_ingredient(tmp_path / n, s, info(s, n, scores={})) for n, s in experts.items()]
    assert "Not evaluated." in (export_soup(plain, {"a": 1}, tmp_path / "out") / "README.md").read_text()


def test_half_precision_warns(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    start = 0.02 * torch.randn(50_000, generator=generator)
    experts: dict[str, dict[str, Tensor]] = {
        n: {"w": (start + 2e-5 * torch.randn(50_000, generator=generator)).bfloat16()} for n in "ab"
    }
    paths = write_all(tmp_path, experts, trainable_keys=["w"])
    with pytest.warns(UserWarning, match="storing this soup in bfloat16 changes it: asked for lam a=0.7, b=0.3"):
        out = export_soup(paths, {"a": 0.7, "b": 0.3}, tmp_path / "out")
    recipe = json.loads((out / "ingredient.json").read_text())["config"]["soup"]
    assert recipe["effective_lam"]["b"] == pytest.approx(
        Soup.load(paths).report({"a": 0.7, "b": 0.3}).effective["b"], abs=1e-12
    )


def test_refusals(tmp_path: Path) -> None:
    paths = write_all(tmp_path, states(2))
    half = {"a": 0.5, "b": 0.5}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    cases = [
        (half, paths[0], None, "is an ingredient of the soup"),
        (half, tmp_path / "other", None, "the folder holds something else"),
        (half, tmp_path / "new", {"z": {}}, "scores of 'z', which is not in the soup"),
        ({"a": 0.5}, tmp_path / "new", None, "sums to 0.5"),
        ({"a": -1, "b": 2}, tmp_path / "new", None, "outside"),
    ]
    for lam, out, scores, message in cases:
        with pytest.raises(RslitError, match=message):
            export_soup(paths, lam, out, scores=scores)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    assert (
        Ingredient.load(export_soup(paths, {"a": -1, "b": 2}, tmp_path / "new", extrapolate=True)).info.expert == "new"
    )
    assert Ingredient.load(export_soup(paths, half, tmp_path / "new")).info.config["soup"]["lam"]["a"] == "1/2"


def test_imports_torch_and_nothing_heavier() -> None:
    heavy = ("lightning", "pandas", "scipy", "matplotlib", "transformers", "peft")
    code = f"import sys, rslit.soup; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
