from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rslit.soup import Soup, parse_lam


def experts(
    rho: float, n: int = 2, dtype: torch.dtype = torch.float32, size: int = 300_000
) -> dict[str, dict[str, Tensor]]:
    """Weights N(0, 0.02) of an initialisation kept in bfloat16, with independent expert deltas of relative size rho."""
    generator = torch.Generator().manual_seed(0)
    start = (0.02 * torch.randn(size, generator=generator)).bfloat16().float()
    return {name: {"w": (start + rho * 0.02 * torch.randn(size, generator=generator)).to(dtype)} for name in "abcd"[:n]}


@pytest.mark.parametrize(
    ("rho", "lam", "effective"),
    [
        (1e-1, 0.1, 0.100),
        (1e-2, 0.1, 0.067),
        (3e-3, 0.1, 0.023),
        (1e-3, 0.1, 0.013),
        (1e-2, 0.3, 0.305),
        (1e-3, 0.3, 0.168),
    ],
)
def test_bfloat16_gives_the_effective_lam_of_the_reference(rho: float, lam: float, effective: float) -> None:
    """The figures measured independently in reference/merging_and_fronts.md, part C(2), all in bfloat16."""
    soup = Soup(experts(rho, dtype=torch.bfloat16))
    report = soup.report({"a": 1 - lam, "b": lam})
    assert report.effective["b"] == pytest.approx(effective, abs=0.006)
    assert report.effective["a"] + report.effective["b"] == pytest.approx(1, abs=1e-12)
    assert report.dtype == "bfloat16"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_is_the_least_squares_projection(n: int) -> None:
    given = experts(1e-2, n, size=70_000)
    soup = Soup(given)
    lam = parse_lam({2: "a=0.3,b=0.7", 3: "a=0.2,b=0.3,c=0.5", 4: "a=0.1,b=0.2,c=0.3,d=0.4"}[n])
    report = soup.report(lam, dtype=torch.bfloat16)
    theta = np.stack([state["w"].double().numpy() for state in given.values()])
    stored = soup.state_dict(lam)["w"].bfloat16().double().numpy()
    solution, *_ = np.linalg.lstsq((theta[1:] - theta[0]).T, stored - theta[0], rcond=None)
    assert list(report.effective.values()) == pytest.approx([1 - solution.sum(), *solution], abs=1e-9)
    exact = np.array([float(x) for x in lam.values()]) @ theta
    smallest = min(np.linalg.norm(theta[i] - theta[j]) for i in range(n) for j in range(i))
    assert report.error == pytest.approx(np.linalg.norm(stored - exact) / smallest, rel=1e-6)


def test_experts_on_a_line_have_a_report() -> None:
    a, b = (state["w"] for state in experts(1e-1).values())
    soup = Soup({"a": {"w": a}, "b": {"w": b}, "c": {"w": (a + b) / 2}})
    report = soup.report({"a": 0.5, "c": 0.5})
    assert list(report.effective.values()) == pytest.approx([0.5, 0, 0.5], abs=1e-4)


def test_float32_is_faithful_and_silent(tmp_path: Path) -> None:
    soup = Soup(experts(1e-3))
    report = soup.report({"a": 0.3, "b": 0.7})
    assert report.lam == {"a": Fraction(3, 10), "b": Fraction(7, 10)}
    assert report.effective["b"] == pytest.approx(0.7, abs=1e-5)
    assert report.error < 1e-4
    assert report.faithful
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        soup.stream({"a": 0.3, "b": 0.7}, tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_warn_in_words(tmp_path: Path, dtype: torch.dtype) -> None:
    soup = Soup(experts(1e-4))
    effective = soup.report({"a": 0.9, "b": 0.1}, dtype=dtype).effective
    words = rf"in {str(dtype)[6:]} changes it: asked for lam a=0.9, b=0.1, effective lam a={effective['a']:.3g}"
    with pytest.warns(UserWarning, match=words) as caught:
        soup.stream({"a": 0.9, "b": 0.1}, tmp_path / "out", dtype=dtype)
    assert caught[0].filename == __file__


def test_halves_are_silent_where_nothing_is_lost(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Soup(experts(1e-1)).stream({"a": 0.9, "b": 0.1}, tmp_path / "far", dtype=torch.bfloat16)
        vertex = Soup(experts(1e-3, dtype=torch.bfloat16))
        vertex.stream({"a": 1}, tmp_path / "vertex")
    report = vertex.report({"a": 1})
    assert report.effective == pytest.approx({"a": 1, "b": 0}, abs=1e-12)
    assert report.error == 0
    assert Soup({"a": experts(1e-1)["a"]}).report({"a": 1}).effective == {"a": 1.0}
