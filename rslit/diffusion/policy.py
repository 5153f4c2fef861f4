"""A diffusion model as a policy: reads prompts, knows latents, denoises, draws.

Notation: B images, H x W pixels, latents (B, C, h, w); a model in pixel space has the images themselves as latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rslit.diffusion.families import Family, Rows
from rslit.diffusion.load import load_pipeline, quiet
from rslit.diffusion.noise import NoiseLevels, noise_levels
from rslit.diffusion.options import DiffusionOptions, DrawingOptions
from rslit.diffusion.trained import choose_trained
from rslit.errors import RslitError
from rslit.language.adapter import adapter_config
from rslit.soup import base_fingerprint

__all__ = ["DiffusionPolicy", "build_diffusion_policy"]


@dataclass(frozen=True)
class DiffusionPolicy:
    """A policy and what belongs to it. Only `model` is trained; the rest of the pipeline stays outside of modules.

    Attributes:
        model: The denoiser, or a ``PeftModel`` around it.
        pipe: The pipeline of diffusers, which holds the same denoiser.
        family: How its class is handled.
        noise: The times of training.
        base: ``name``, ``pipeline`` (class), ``component`` and ``fingerprint`` of the denoiser, for the ingredient;
            ``revision`` and ``variant`` as given.
        adapter: PEFT's adapter configuration; None without adapters.
    """

    model: nn.Module
    pipe: Any
    family: Family
    noise: NoiseLevels
    base: dict[str, str]
    adapter: dict[str, Any] | None

    @property
    def denoiser(self) -> Any:
        """The denoiser as the pipeline calls it."""
        return getattr(self.pipe, self.family.denoiser)

    @property
    def _scale(self) -> int:
        """Pixels per latent, to a side."""
        return 1 if self._vae is None else int(self.pipe.vae_scale_factor)

    @property
    def _vae(self) -> Any:
        """None in pixel space."""
        return getattr(self.pipe, "vae", None)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the model was trained on, in pixels."""
        side = int(self.denoiser.config.sample_size) * self._scale
        return side, side

    def to(self, device: torch.device) -> None:
        """Moves what Lightning does not know of."""
        for name, component in self.pipe.components.items():
            if not isinstance(component, nn.Module) or name == self.family.denoiser:
                continue
            # Moving what is there already would walk through all of its modules, at every step.
            if next(component.parameters()).device != device:
                component.to(device)

    # -- what is kept ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def read(self, prompts: Sequence[str]) -> Rows:
        """What the text encoders make of prompts; an empty one is what guidance calls none. In their own dtype."""
        # Long prompts are cut off, with a warning for each.
        given = [k for k, prompt in enumerate(prompts) if prompt]
        blank = [k for k, prompt in enumerate(prompts) if not prompt]
        with quiet():
            parts = [self.family.read(self.pipe, [prompts[k] for k in given])] if given else []
            if blank:
                one = self.family.blank(self.pipe)
                parts.append({name: value.expand(len(blank), *value.shape[1:]) for name, value in one.items()})
        order = torch.tensor([*given, *blank]).argsort()
        return {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of images.

        Args:
            pixels: uint8 (B, 3, H, W).

        Returns:
            Both float32 (B, C, h, w), scaled as the denoiser knows them; in pixel space in [-1, 1], and deviation 0.
        """
        images = pixels.float() / 127.5 - 1
        vae = self._vae
        if vae is None:
            return images, torch.zeros_like(images)
        found = vae.encode(images.to(vae.device, vae.dtype))
        if hasattr(found, "latent_dist"):
            mean, deviation = found.latent_dist.mean.float(), found.latent_dist.std.float()
        else:  # a small autoencoder without a distribution
            mean, deviation = found.latents.float(), torch.zeros_like(found.latents.float())
        scale = vae.config.scaling_factor
        return (mean - _shift(vae)) * scale, deviation * scale

    # -- training -------------------------------------------------------------------------------------------------

    def denoise(self, noisy: Tensor, times: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """What the policy predicts for noisy latents; the part that predicts a variance is left away.

        Args:
            noisy: x_t (B, C, h, w).
            times: (B,), of `noise.times`.
            rows: Of the prompts.
        """
        pixels = noisy.shape[-2] * self._scale, noisy.shape[-1] * self._scale
        given = {"return_dict": False, **self.family.ask(rows, pixels)}
        # UNets call it `timestep` too, and all take the noisy input first.
        found: Tensor = self.model(noisy, timestep=times.to(noisy.device), **given)[0]
        return found[:, : noisy.shape[1]]

    # -- drawing --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(
        self, rows: Mapping[str, Tensor], blank: Mapping[str, Tensor], seeds: Sequence[int], options: DrawingOptions
    ) -> Tensor:
        """Draws an image for each row, from noise that its seed alone decides.

        Args:
            rows: Of the prompts, as `read` gives them, float32.
            blank: Of the empty prompt, one row.
            seeds: One per row. Noise is drawn on the CPU, so that every device begins with the same.
            options: How.

        Returns:
            uint8 (B, 3, H, W) on the CPU.
        """
        was = self.model.training
        self.model.eval()  # no dropout
        try:
            parts = [
                self._draw(rows, blank, range(k, min(k + options.rows, len(seeds))), seeds, options)
                for k in range(0, len(seeds), options.rows)
            ]
        finally:
            self.model.train(was)
        return torch.cat(parts)

    def _draw(
        self,
        rows: Mapping[str, Tensor],
        blank: Mapping[str, Tensor],
        part: range,
        seeds: Sequence[int],
        options: DrawingOptions,
    ) -> Tensor:
        device = next(self.model.parameters()).device
        # Filled up to the same number of rows, so that each is computed alike.
        full = [*part, *[part[0]] * (options.rows - len(part))]
        given = self.family.draw(
            {name: value[full].to(device) for name, value in rows.items()},
            {name: value.to(device).expand(len(full), *value.shape[1:]) for name, value in blank.items()},
        )
        height, width = self.size
        before = self.pipe.scheduler
        self.pipe.scheduler = self._scheduler(options.scheduler)
        try:
            with quiet():
                found = self.pipe(
                    height=options.height or height,
                    width=options.width or width,
                    num_inference_steps=options.steps,
                    guidance_scale=options.guidance,
                    generator=[torch.Generator("cpu").manual_seed(seeds[k]) for k in full],
                    output_type="pt" if self._vae is None else "latent",
                    return_dict=False,
                    **given,
                )[0]
        finally:
            self.pipe.scheduler = before
        return self._images(found)[: len(part)]

    def _images(self, latents: Tensor) -> Tensor:
        """Latents as uint8 (B, 3, H, W) on the CPU.

        Raises:
            RslitError: They are not finite.
        """
        # In the VAE's dtype, whatever the Trainer's: some overflow in float16 (SDXL's does), and give black images.
        with torch.autocast(latents.device.type, enabled=False):
            vae = self._vae
            if vae is not None:
                latents = latents.to(vae.dtype) / vae.config.scaling_factor + _shift(vae)
                latents = vae.decode(latents, return_dict=False)[0]
            pixels = latents.float() / 2 + 0.5
        if not bool(pixels.isfinite().all()):
            raise RslitError(
                f"policy: {self.base['name']} drew an image that is not finite; set trainer.precision to 32-true or "
                "bf16-mixed, and policy.dtype to float32"
            )
        return (pixels.clamp(0, 1) * 255).round().to("cpu", torch.uint8).contiguous()

    def _scheduler(self, name: str | None) -> Any:
        """A fresh one: they carry state from step to step."""
        import diffusers

        own: Any = self.pipe.scheduler
        kind: Any = type(own) if name is None else getattr(diffusers, name, None)
        if not (isinstance(kind, type) and hasattr(kind, "set_timesteps")):
            raise RslitError(f"drawing.scheduler: diffusers has no scheduler '{name}'; give one such as DDIMScheduler")
        with quiet():
            made = kind.from_config(own.config)  # type: ignore[attr-defined]  # found by name
        # DeepFloyd IF's pipeline asks for it, and not all schedulers have it.
        if "variance_type" not in made.config:
            made.register_to_config(variance_type=None)
        return made


def _shift(vae: Any) -> float:
    """What is subtracted from its latents, of those that say so."""
    return getattr(vae.config, "shift_factor", None) or 0.0


def build_diffusion_policy(options: DiffusionOptions) -> DiffusionPolicy:
    """Loads a pipeline and chooses what is trained.

    Raises:
        RslitError: As `load_pipeline` and `choose_trained`; or its scheduler is not supported.
    """
    pipe, family = load_pipeline(options)
    inner = getattr(pipe, family.denoiser)
    base = {
        "name": options.base,
        "pipeline": type(pipe).__name__,
        "component": family.denoiser,
        "fingerprint": base_fingerprint(inner),
    }
    for key in ("revision", "variant"):
        if getattr(options, key) is not None:
            base[key] = getattr(options, key)
    if options.gradient_checkpointing:
        inner.enable_gradient_checkpointing()
    # Loading leaves models in evaluation mode, in which gradient checkpointing silently does nothing.
    model = choose_trained(inner, options).train()
    adapter = adapter_config(model) if hasattr(model, "peft_config") else None
    return DiffusionPolicy(model, pipe, family, noise_levels(pipe.scheduler, options.base), base, adapter)
