"""What the soup tests share: small experts, in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from rslit.soup import IngredientInfo, dtype_name, fingerprint, write_ingredient

TRAINABLE = ["0.bias", "0.weight", "2.bias", "2.weight"]


def mlp(seed: int = 0, width: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))


def states(n: int, dtype: torch.dtype = torch.float32, width: int = 8) -> dict[str, dict[str, Tensor]]:
    """n experts around one initialisation, with a shared integer and a shared float buffer."""
    start = mlp(0, width).state_dict()
    generator = torch.Generator().manual_seed(1)
    result = {}
    for name in "abcdefgh"[:n]:
        state = {k: (v + 0.1 * torch.randn(v.shape, generator=generator)).to(dtype) for k, v in start.items()}
        result[name] = state | {"count": torch.tensor(7), "mean": torch.tensor([0.5, float("nan")])}
    return result


def info(state: dict[str, Tensor], expert: str = "a", **changes: object) -> IngredientInfo:
    keys = changes.get("trainable_keys", TRAINABLE)
    fields = {
        "expert": expert,
        "task": "rslit.modules.Task",
        "reward": f"reward {expert}",
        "step": 10,
        "initialisation": fingerprint(mlp().state_dict()),
        "trainable_keys": TRAINABLE,
        "dtype": dtype_name(state, [key for key in keys if key in state]),
        "scores": {"speed": 1.5},
    }
    return IngredientInfo(**(fields | changes))  # type: ignore[arg-type]


def write_all(folder: Path, experts: dict[str, dict[str, Tensor]], **changes: object) -> list[Path]:
    return [write_ingredient(folder / name, state, info(state, name, **changes)) for name, state in experts.items()]


def same_bits(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))
