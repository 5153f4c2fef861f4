"""Folders of generated images without a model that draws them: a module whose images follow from their seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from rslit.diffusion.image_folder import write_image, write_index, write_rewards
from rslit.diffusion.prompts import ImagePrompt, image_seed
from rslit.samples import Samples

PROMPTS = ["a red circle", "a blue square", "ein grüner Kreis, 漢字", "a 'quoted' <thing> & more", "a red circle"]


def drawn(prompt: str, seed: int, size: tuple[int, int] = (4, 6)) -> Tensor:
    """The image of a prompt and a seed, uint8 (3, 4, 6)."""
    noise = torch.Generator().manual_seed(seed + len(prompt))
    return torch.randint(0, 256, (3, *size), generator=noise, dtype=torch.uint8)


class ToyDrawer(LightningModule):
    """Draws like a text-to-image module; counts what it draws.

    Args:
        model: What it calls itself.
    """

    def __init__(self, model: str = "toy") -> None:
        super().__init__()
        self.model = model
        self.items: list[str] = []

    def image_record(self) -> dict[str, str]:
        return {"model": self.model, "lam": "initialisation"}

    def predict_step(self, batch: Mapping[str, Sequence[Any]], batch_idx: int) -> Samples:
        images = torch.stack([drawn(p, s) for p, s in zip(batch["prompt"], batch["seed"], strict=True)])
        self.items += batch["items"]
        return Samples(list(batch["items"]), {"image": images, "prompt": batch["prompt"], "seed": batch["seed"]})


def brightness(samples: Samples) -> Tensor:
    """Mean pixel value, 0 to 255."""
    return samples["image"].float().mean((1, 2, 3))


def redness(samples: Samples) -> Tensor:
    """Mean of the red channel less the mean of the others."""
    image = samples["image"].float().mean((2, 3))
    return image[:, 0] - image[:, 1:].mean(1)


def prompts_file(path: Path, prompts: Sequence[str] = PROMPTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8")
    return path


def image_folder(folder: Path, count: int = 6, rewards: Mapping[str, Sequence[float]] | None = None) -> Path:
    """A folder of images as the writer leaves it, and their rewards if given."""
    prompts = [ImagePrompt(f"p{k}", f"prompt {k}", image_seed(0, f"p{k}")) for k in range(count)]
    for p in prompts:
        text = {"item": p.item, "prompt": p.prompt, "seed": str(p.seed), "model": "toy", "lam": "initialisation"}
        write_image(folder, p.item, drawn(p.prompt, p.seed), text)
    write_index(folder, prompts)
    if rewards:
        items = [p.item for p in prompts]
        write_rewards(folder, items, {name: dict(zip(items, v, strict=True)) for name, v in rewards.items()})
    return folder
