"""What the LoRA tests share: experts on tiny language models, and the same soups merged densely in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from tiny_models import save_tiny_gpt2, save_tiny_llama
from torch import Tensor
from transformers import AutoModelForCausalLM

from rslit.soup import IngredientInfo, base_fingerprint, dtype_name, fingerprint, write_ingredient

TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}
SAVE: dict[str, Callable[..., Path]] = {"llama": save_tiny_llama, "gpt2": save_tiny_gpt2}
KEY = "base_model.model.{}.lora_{}.default.weight"


@dataclass
class Expert:
    """A LoRA expert's weights, its adapter config, and its scalings by layer."""

    state: dict[str, Tensor]
    adapter: dict[str, Any]
    scalings: dict[str, float]


def base_folder(kind: str, root: Path, **options: Any) -> Path:
    """A tiny model; the output layer of LLaMA is its own, and Linear layers have a bias."""
    return SAVE[kind](root / kind, **({"attention_bias": True} if kind == "llama" else {}) | options)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def wrap(folder: Path, kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> PeftModel:
    given = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS[kind], "fan_in_fan_out": kind == "gpt2"}
    model: PeftModel = get_peft_model(load(folder, dtype), LoraConfig(task_type="CAUSAL_LM", **given | options))
    return model.eval()


def adapter_of(model: PeftModel) -> dict[str, Any]:
    """The config as it reads back from adapter_config.json: sets are lists there."""
    config = model.peft_config["default"].to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}


def expert(model: PeftModel, seed: int, start: int = 0, drift: float = 0.3) -> Expert:
    """An expert that moved from the initialisation `start`; both factors are far from zero."""
    state, scalings = {}, {}
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            noise = [
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(s)) for s in (start, 77 + seed)
            ]
            state[key] = 0.2 * (noise[0] + drift * noise[1])
    for path, module in model.base_model.model.named_modules():
        if isinstance(module, LoraLayer):
            scalings[path] = module.scaling["default"]
    return Expert(state, adapter_of(model), scalings)


def experts(folder: Path, kind: str, n: int, **options: Any) -> dict[str, Expert]:
    """n experts of one initialisation."""
    model = wrap(folder, kind, **options)
    return {name: expert(model, seed) for seed, name in enumerate("abcd"[:n])}


def states(given: Mapping[str, Expert]) -> dict[str, dict[str, Tensor]]:
    return {name: e.state for name, e in given.items()}


def adapters(given: Mapping[str, Expert]) -> dict[str, dict[str, Any]]:
    return {name: e.adapter for name, e in given.items()}


def dense(given: Mapping[str, Expert], lam: Sequence[float], space: str, path: str) -> Tensor:
    """What the soup adds to a layer's weight, float64."""
    a, b = ([e.state[KEY.format(path, factor)].double() for e in given.values()] for factor in "AB")
    scalings = [e.scalings[path] for e in given.values()]
    if space == "delta":
        return sum(w * s * y @ x for w, s, x, y in zip(lam, scalings, a, b, strict=True))  # type: ignore[return-value]
    mean_a, mean_b = (sum(w * x for w, x in zip(lam, part, strict=True)) for part in (a, b))
    return scalings[0] * mean_b @ mean_a  # type: ignore[operator, return-value]


def merged(folder: Path, given: Mapping[str, Expert], lam: Sequence[float], space: str) -> Any:
    """The base with the soup in its weights."""
    model = load(folder)
    for path in next(iter(given.values())).scalings:
        layer = model.get_submodule(path)
        delta = dense(given, lam, space, path)
        turned = delta.T if type(layer).__name__ == "Conv1D" else delta
        layer.weight.data = (layer.weight.double() + turned).float()
    return model


def prompts(samples: int, length: int = 9, vocabulary: int = 300) -> dict[str, Tensor]:
    """Prompts of different lengths, padded on the left."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(10, vocabulary, (samples, length), generator=generator)
    lengths = torch.arange(samples) % (length - 3) + 4
    mask = (torch.arange(length) >= length - lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def lams(n: int) -> list[list[float]]:
    """Five λ on the simplex of n experts: a vertex, the centre, an edge, and two inside."""
    inner = [[(k + 1) / (n * (n + 1) / 2) for k in range(n)]]
    edge = [0.25, 0.75] + [0.0] * (n - 2)
    vertex = [1.0] + [0.0] * (n - 1)
    return [vertex, [1 / n] * n, edge, inner[0], inner[0][::-1]]


@cache
def base_print(base: Path | str) -> str:
    """The fingerprint that a policy on this base would record; any text will do where there is none."""
    return base_fingerprint(load(Path(base))) if Path(base).is_dir() else f"sha256:{base}"


def write(
    root: Path, name: str, given: Expert, base: Path | str, *, start: str = "start", print_of: str = "base", **info: Any
) -> Path:
    """An ingredient; equal `start` (or `print_of`) means one initialisation (or base)."""
    fields = {
        "expert": name,
        "task": "rslit.modules.TextModule",
        "reward": f"reward {name}",
        "step": 3,
        "initialisation": fingerprint({start: torch.zeros(1)}),
        "trainable_keys": sorted(given.state),
        "dtype": dtype_name(given.state, given.state),
        "scores": {"speed": 1.5},
        "config": {
            "adapter": given.adapter,
            "base": {
                "name": str(base),
                "fingerprint": base_print(base) if print_of == "base" else f"sha256:{print_of}",
            },
        },
    }
    return write_ingredient(root / name, given.state, IngredientInfo(**fields | info))


def rs(alpha: float, rank: int) -> float:
    return alpha / math.sqrt(rank)
