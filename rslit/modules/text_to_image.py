"""Text-to-image: diffusion models fine-tuned on reward-weighted images (paper, section 3.3 and appendix E)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from rslit.diffusion.cache import RowCache
from rslit.diffusion.ensembles import ensembled
from rslit.diffusion.options import DiffusionOptions, DrawingOptions
from rslit.diffusion.pixels import load_pixels
from rslit.diffusion.policy import DiffusionPolicy, build_diffusion_policy
from rslit.errors import RslitError
from rslit.modules.experts_in_turn import experts_in_turn
from rslit.modules.pretrained import PretrainedModule
from rslit.objectives import denoising_errors, denoising_target, noised, reward_weighted_loss
from rslit.rewards import Reward
from rslit.rollouts import Experience
from rslit.samples import Samples
from rslit.seeds import generator
from rslit.soup import Lam, LoraStack, Soup, fingerprint

__all__ = ["TextToImageModule"]

_ROW = "row "


class TextToImageModule(PretrainedModule):
    """A text-to-image pipeline whose denoiser is trained on images with weights.

    The loss is equation 19: the mean over a batch of the image's weight times its denoising error, at a time and a
    noise drawn anew in each step. Weights come from the data: rescaled rewards of images that the initialisation drew
    (`GeneratedImagesDataModule`), or 1, which is supervised training (`CaptionedImagesDataModule`).

    Samples have ``image`` (uint8 (B, 3, H, W), what a PNG of it holds), ``prompt`` and ``seed``. An image depends on
    its prompt, its seed and the weights alone: not on the batch size, nor on the number of processes.

    An experience has a row per image: ``clean``, ``noise`` (C, h, w), ``time``, ``level``, ``weight``, and what the
    text encoders made of the prompt.

    Attributes:
        parts: The policy and what belongs to it.
        latest: None: training looks at images that were drawn before.
    """

    task = "text_to_image"
    latest: Samples | None = None
    parts: DiffusionPolicy
    evaluation: DrawingOptions

    def __init__(
        self,
        policy: DiffusionOptions,
        reward: Reward,
        evaluation_rewards: list[Reward] | None = None,
        initialisation: str | None = None,
        drawing: DrawingOptions | None = None,
        prompt_dropout: float = 0.1,
        minibatches: int = 1,
        cache_gib: float = 4.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Loads the policy.

        Args:
            policy: Pipeline, and what of its denoiser is trained.
            reward: Reward of an image: the column of the scored images that training weighs by, or a WeightedSum for
                MORL. In supervised training it is only measured.
            evaluation_rewards: Rewards of an image that evaluations report.
            initialisation: Ingredient folder to start from.
            drawing: How images are drawn.
            prompt_dropout: Share of training images whose prompt is left away, which classifier-free guidance needs.
            minibatches: Optimiser steps per batch of the datamodule; must divide its size.
            cache_gib: Memory for latents, and as much for what the text encoders make of prompts, GiB; 0 keeps nothing.
            optimizer: Optimiser over what is trained.
            lr_scheduler: Scheduler, stepped once per Lightning epoch.

        Raises:
            RslitError: The pipeline cannot be loaded, or `prompt_dropout` is no share.
        """
        super().__init__(reward, evaluation_rewards, initialisation, 1, minibatches, optimizer, lr_scheduler)
        if not 0 <= prompt_dropout <= 1:
            raise RslitError(f"prompt_dropout must be a share in [0, 1], got {prompt_dropout:g}")
        self.drawing = self.evaluation = drawing or DrawingOptions()
        self.prompt_dropout = prompt_dropout
        self.parts = build_diffusion_policy(policy)
        self.policy = self.parts.model
        self.load_initialisation()
        self._texts, self._latents = RowCache(cache_gib), RowCache(cache_gib)

    def _read(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """What the text encoders make of prompts, on the module's device, in float32."""

        def make(places: list[int]) -> dict[str, Tensor]:
            self.parts.to(self.device)
            return self.parts.read([prompts[place] for place in places])

        rows = self._texts.rows(prompts, make)
        return {
            name: value.to(self.device, torch.float32 if value.is_floating_point() else value.dtype)
            for name, value in rows.items()
        }

    # -- training -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rollout(self, batch: Mapping[str, Sequence[Any]]) -> Experience:
        """Latents of a batch of images, and the time and noise at which each is looked at."""
        count = len(batch["items"])
        draw = generator(self.seed, "denoising", self.global_rank, self.rollouts_done)
        found = self._encoded(batch)
        clean = found["mean"]
        if bool(found["deviation"].any()):  # the VAE's noise is drawn anew, as in training without a cache
            clean = clean + found["deviation"] * torch.randn(clean.shape, generator=draw)
        time, level = self.parts.noise.draw(count, draw)
        dropped = torch.rand(count, generator=draw) < self.prompt_dropout
        prompts = ["" if drop else prompt for prompt, drop in zip(batch["prompt"], dropped.tolist(), strict=True)]
        rows: dict[str, Tensor] = {
            "clean": clean,
            "noise": torch.randn(clean.shape, generator=draw),
            "time": time,
            "level": level,
            "weight": torch.tensor(batch["weight"], dtype=torch.float32),
        }
        rows |= {_ROW + name: value for name, value in self._read(prompts).items()}
        self.rollouts_done += 1
        return TensorDict(rows, batch_size=[count], device=self.device)

    def _encoded(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Tensor]:
        def make(places: list[int]) -> dict[str, Tensor]:
            self.parts.to(self.device)
            some = {key: [batch[key][place] for place in places] for key in ("items", "image")}
            pixels = load_pixels(some, self.size).to(self.device)
            mean, deviation = self.parts.latents(pixels)
            return {"mean": mean, "deviation": deviation}

        return self._latents.rows([str(image) for image in batch["image"]], make)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of images, in pixels."""
        height, width = self.parts.size
        return self.drawing.height or height, self.drawing.width or width

    def training_step(self, minibatch: Experience, batch_idx: int) -> Tensor:
        """Equation 19 of a minibatch of images."""
        kind = self.parts.noise.prediction
        clean, noise, level = minibatch["clean"], minibatch["noise"], minibatch["level"]
        names = [key for key in map(str, minibatch.keys()) if key.startswith(_ROW)]
        rows = {name.removeprefix(_ROW): minibatch[name] for name in names}
        found = self.parts.denoise(noised(kind, clean, noise, level), minibatch["time"], rows)
        errors = denoising_errors(found, denoising_target(kind, clean, noise, level))
        loss = reward_weighted_loss(errors, minibatch["weight"])
        stats = {
            "loss/weighted": loss,
            "loss/denoising": errors.mean(),
            "objective/weight": minibatch["weight"].mean(),
        }
        self.log_rollout(stats, batch_idx, bar=("loss/weighted",))
        return loss

    # -- drawing --------------------------------------------------------------------------------------------------

    def answer(self, batch: Mapping[str, Sequence[Any]], seed: int, copies: int) -> list[Samples]:
        """Draws an image for each prompt of a batch. See :meth:`PretrainedModule.answer`.

        Args:
            batch: Has ``items``, ``prompt`` and ``seed``, the seed of each image, the same for every λ.
            seed: Not used: a prompt's own seed decides.
            copies: 1.
        """
        assert copies == 1, "guidance puts each batch twice through the denoiser, so λ are drawn one by one"
        self.parts.to(self.device)
        images = self.parts.draw(self._read(batch["prompt"]), self._read([""]), batch["seed"], self.drawing)
        fields: dict[str, Any] = {"image": images, "prompt": list(batch["prompt"]), "seed": list(batch["seed"])}
        return [Samples(list(batch["items"]), fields)]

    @torch.no_grad()
    def evaluate_soups(
        self, batch: Mapping[str, Sequence[Any]], seed: int, soup: Soup, lams: Sequence[Lam]
    ) -> list[Samples]:
        """One λ after the other; of LoRA experts no weight is merged."""
        if not soup.adapters:
            return super().evaluate_soups(batch, seed, soup, lams)
        stack = LoraStack(soup.states, soup.adapters, soup.space, device=self.device)
        samples = []
        for lam in lams:
            with stack.per_sample(self.policy, stack.coefficients([lam])):
                samples.append(self.evaluate(batch, seed))
        return samples

    @torch.no_grad()
    def evaluate_ensembles(
        self, batch: Mapping[str, Sequence[Any]], seed: int, soup: Soup, lams: Sequence[Lam]
    ) -> list[Samples]:
        """One λ after the other; in each denoising step the experts' predictions are interpolated."""
        samples = []
        with experts_in_turn(self.policy, soup, self.device) as turns:
            for lam in lams:
                with ensembled(self.parts.denoiser, list(map(float, soup.coefficients(lam).values())), turns):
                    samples.append(self.evaluate(batch, seed))
        return samples

    def image_record(self) -> dict[str, str]:
        """What beside prompt and seed an image depends on: `ImageWriter` writes it into each, and compares."""
        how = self.drawing
        size = "x".join(map(str, self.size))
        return {
            "lam": "initialisation",
            "model": self.parts.base["name"],
            "base": self.parts.base["fingerprint"],
            "weights": fingerprint(self.policy_state()),
            "drawing": f"steps={how.steps} guidance={how.guidance:g} scheduler={how.scheduler or 'own'} size={size} "
            f"rows={how.rows}",
        }

    @torch.no_grad()
    def predict_step(self, batch: Mapping[str, Sequence[Any]], batch_idx: int) -> Samples:
        """Draws the images of a batch; rewards are another stage's business."""
        return self.answer(batch, 0, 1)[0]
