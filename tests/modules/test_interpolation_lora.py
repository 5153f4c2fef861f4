"""A sweep over LoRA ingredients: space and adapters reach the task's module, and what does not belong is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from test_interpolation import REWARDS, policy, sweep
from torch import Tensor

from rslit.errors import RslitError
from rslit.samples import Samples
from rslit.soup import IngredientInfo, LoraStack, Soup, fingerprint, write_ingredient

ADAPTER = {"peft_type": "LORA", "r": 2, "lora_alpha": 3}


def state(seed: int, rank: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"A": (rank, 5), "B": (4, rank)}
    return {
        f"base_model.model.q.lora_{f}.default.weight": torch.randn(s, generator=generator) for f, s in shapes.items()
    }


START = state(0)


def ingredient(root: Path, name: str, seed: int, reward: str = "risky", **options: Any) -> str:
    rank, start = options.pop("rank", 2), options.pop("start", START)
    base = {"name": "tiny", "fingerprint": options.pop("base", "sha256:1")}
    weights = START if seed == 0 else state(seed, rank)
    info = IngredientInfo(
        expert=name,
        task=policy().task_class,
        reward=reward,
        step=1,
        initialisation=fingerprint(start),
        trainable_keys=sorted(weights),
        dtype="float32",
        config={"adapter": {**ADAPTER, "r": rank}, "base": base, **options},
    )
    return str(write_ingredient(root / name, weights, info))


@pytest.mark.parametrize("space", [None, "factors", "delta"])
def test_space_and_adapters_reach_the_module(tmp_path: Path, space: str | None) -> None:
    rank = 3 if space == "delta" else 2
    pair = {"risky": ingredient(tmp_path, "risky", 1), "cautious": ingredient(tmp_path, "cautious", 2, rank=rank)}
    mixed = ingredient(tmp_path, "mixed", 3, "mixed", mu={"risky": 0.5, "cautious": 0.5})
    seen: list[tuple[Soup, list[Any]]] = []
    module = policy()

    def evaluate_soups(batch: Any, seed: int, soup: Soup, lams: list[Any]) -> list[Samples]:
        seen.append((soup, lams))
        stack = LoraStack(soup.states, soup.adapters, soup.space)
        means = [float(stack.delta("q", row).mean()) for row in stack.coefficients(lams)]
        items = [str(int(i)) for i in batch["seeds"]]
        scores = [{name: torch.full((len(items),), mean) for name in REWARDS} for mean in means]
        return [Samples(items=items, fields={}, scores=row) for row in scores]

    module.evaluate_soups = evaluate_soups  # type: ignore[assignment, method-assign]
    options = {"initialisation": ingredient(tmp_path, "start", 0), "morl": [mixed], "module": module, "space": space}
    table = sweep(tmp_path / "run", pair, lattice=2, **options)
    soup, lams = seen[0]
    assert soup.space == table.meta.space == (space or "factors")
    assert soup.names == ["risky", "cautious", "initialisation #2", "mu risky=0.5,cautious=0.5 #3"]
    assert list(soup.adapters) == soup.names
    assert [soup.adapters[name]["r"] for name in soup.names] == [2, rank, 2, 2]
    assert lams[1] == {name: Fraction(k, 2) for name, k in zip(soup.names, (1, 1, 0, 0), strict=True)}
    means = table.frame[table.frame["reward"] == "risky"].groupby("kind")["score"].mean()
    for kind, seed in (("initialisation", 0), ("morl", 3)):
        a, b = (state(seed)[f"base_model.model.q.lora_{factor}.default.weight"] for factor in "AB")
        assert means[kind] == pytest.approx(float((1.5 * b @ a).mean()), abs=1e-6)


def test_adapters_from_different_initialisations(tmp_path: Path) -> None:
    pair = {"risky": ingredient(tmp_path, "risky", 1), "cautious": ingredient(tmp_path, "cautious", 2, start=state(8))}
    module = policy()
    module.evaluate_soups = lambda *args: pytest.fail("evaluated")  # type: ignore[method-assign]
    with pytest.raises(RslitError, match="or use space delta"):
        sweep(tmp_path / "run", pair, module=module)
    elsewhere = ingredient(tmp_path, "elsewhere", 3, base="sha256:2", mu={"risky": 1.0})
    with pytest.raises(RslitError, match="has another task or initialisation than the experts"):
        sweep(tmp_path / "run", pair, module=module, space="delta", morl=[elsewhere])
    stranger = ingredient(tmp_path, "stranger", 5)
    with pytest.raises(RslitError, match=r"the experts did not start from .*stranger"):
        sweep(tmp_path / "run", pair, module=module, space="delta", initialisation=stranger)
    with pytest.raises(RslitError, match="cannot be poured into one; evaluate it per sample"):
        sweep(tmp_path / "run", pair, space="delta")  # locomotion knows no adapters
