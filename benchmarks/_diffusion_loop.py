"""What the diffusion benchmark is measured against: diffusers' own ways of training and of drawing at each λ.

`training` does in our words, and in its order, what examples/text_to_image/train_text_to_image.py of diffusers does
with its default options: a DataLoader whose rows are read and tokenised as they are asked for, accelerate, no EMA, a
constant learning rate, TensorBoard. For a model in pixel space it leaves the VAE and the predicted variance away, as
examples/dreambooth/train_dreambooth.py does for DeepFloyd IF. Without its bar of progress and its checkpoints.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _diffusion_shapes import TOKENS
from _turns import report
from PIL import Image, ImageOps
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

__all__ = ["Reloaded", "training"]


class Images(Dataset[dict[str, torch.Tensor]]):
    """Images and prompts, read and tokenised when a batch of them is asked for, as those of `datasets` are.

    Args:
        rows: Prompt and file of each.
        length: Rows of an epoch: they are gone through again and again.
        pixels: Width and height.
        tokenizer: Of the pipeline.
    """

    def __init__(self, rows: Sequence[tuple[str, str]], length: int, pixels: int, tokenizer: Any) -> None:
        self.rows, self.length, self.pixels, self.tokenizer = rows, length, pixels, tokenizer

    def __len__(self) -> int:
        return self.length

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        chosen = [self.rows[place % len(self.rows)] for place in places]
        ids = self.tokenizer(
            [prompt for prompt, _ in chosen],
            max_length=TOKENS,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return [
            {"pixel_values": self._pixels(path), "input_ids": row} for (_, path), row in zip(chosen, ids, strict=True)
        ]

    def _pixels(self, path: str) -> torch.Tensor:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        # Of torchvision's transforms there; the same size by the same filter as ours.
        image = ImageOps.fit(image, (self.pixels, self.pixels), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub_(0.5).div_(0.5)


def _collate(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def training(given: argparse.Namespace, rate: float, steps: int, warm_up: int, pixels: int) -> None:
    """Trains, and reports after each round.

    Args:
        given: Of the command line.
        rate: Learning rate.
        steps: Of a round.
        warm_up: Steps that do not count.
        pixels: Width and height of images.
    """
    import accelerate
    import diffusers
    from diffusers.optimization import get_scheduler

    from rslit.diffusion.load import load_pipeline
    from rslit.diffusion.options import DiffusionOptions
    from rslit.diffusion.trained import choose_trained

    batches = json.loads((given.folder / "batches.json").read_text())
    batch_size = len(batches[0]["items"])
    options = DiffusionOptions(str(given.folder / "pipeline"), trained=given.trained)
    pipe, _ = load_pipeline(options)
    vae, text_encoder, unet = getattr(pipe, "vae", None), pipe.text_encoder, pipe.unet
    noise_scheduler: Any = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    choose_trained(unet, options)  # of all weights, those that we train
    unet.train()

    logs = accelerate.utils.ProjectConfiguration(project_dir=given.logs, logging_dir=given.logs)
    accelerator = accelerate.Accelerator(cpu=True, log_with="tensorboard", project_config=logs)
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    rows = [pair for batch in batches for pair in zip(batch["prompt"], batch["image"], strict=True)]
    total = warm_up + steps * given.rounds
    dataset = Images(rows, total * batch_size, pixels, pipe.tokenizer)
    loader: Any = DataLoader(dataset, shuffle=True, collate_fn=_collate, batch_size=batch_size, num_workers=0)
    scheduler: Any = get_scheduler("constant", optimizer=optimizer)
    unet, optimizer, loader, scheduler = accelerator.prepare(unet, optimizer, loader, scheduler)
    accelerator.init_trackers("text2image-fine-tune", {"rate": rate})

    began, count = 0.0, sum(p.numel() for p in trained)
    for step, batch in enumerate(loader, 1):
        with accelerator.accumulate(unet):
            latents = batch["pixel_values"]
            if vae is not None:
                latents = vae.encode(latents).latent_dist.sample() * vae.config.scaling_factor
            noise = torch.randn_like(latents)
            times = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(latents),)).long()
            noisy = noise_scheduler.add_noise(latents, noise, times)
            text = text_encoder(batch["input_ids"], return_dict=False)[0]
            found = unet(noisy, times, text, return_dict=False)[0]
            if found.shape[1] == 2 * latents.shape[1]:
                found, _ = found.chunk(2, dim=1)
            loss = functional.mse_loss(found.float(), noise.float(), reduction="mean")
            shown = accelerator.gather(loss.repeat(batch_size)).mean().item()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        accelerator.log({"train_loss": shown}, step=step)
        loss.detach().item()  # for its bar of progress
        if step < warm_up or (step - warm_up) % steps:
            continue
        if step == warm_up:
            report(what=f"diffusers {diffusers.__version__}, accelerate {accelerate.__version__}", trained=count)
        else:
            report(seconds=time.perf_counter() - began, loss=shown)
        began = time.perf_counter()


class Reloaded:
    """For each λ the poured pipeline is read from disk and draws, as one would with diffusers alone.

    Args:
        folder: With the pipelines `poured-0`, ...

    Attributes:
        loading: Seconds of the last sweep that reading took.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loading = 0.0

    def sweep(self, batch: dict[str, list[Any]], lams: int, steps: int, guidance: float) -> np.ndarray[Any, Any]:
        """Images uint8 (λ, B, H, W, 3)."""
        from diffusers import DiffusionPipeline

        self.loading, found = 0.0, []
        for k in range(lams):
            began = time.perf_counter()
            pipe: Any = DiffusionPipeline.from_pretrained(self.folder / f"poured-{k}")
            pipe.set_progress_bar_config(disable=True)
            self.loading += time.perf_counter() - began
            images = pipe(
                batch["prompt"],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in batch["seed"]],
                output_type="np",
            ).images
            found.append((images * 255).round().clip(0, 255).astype(np.uint8))
        return np.stack(found)
