"""The text-to-image models that the diffusion benchmark works with, and what their parts cost in arithmetic.

All have random weights of diffusers' and transformers' own classes: how long a step takes does not depend on what a
model has learnt.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

__all__ = ["FULL", "SHAPES", "TOKENS", "TRAINED", "Shape", "costs", "make_clip", "make_parts", "prompts", "shape_of"]

TRAINED = ("cross_attention", "all")
TOKENS = 77  # to which prompts are padded
VOCABULARY = 49408  # CLIP's; prompts here need few of them


@dataclass(frozen=True)
class Shape:
    """A pipeline and its work.

    Attributes:
        what: In words.
        pixels: Width and height of images.
        batch: Images of a training step.
        steps: Training steps of a round.
        vae: Channels of the VAE's blocks; none: a model in pixel space, that of rslit.scenes.
        text: Width, layers and heads of the text encoder; of a model in pixel space only its width counts.
        unet: Channels of the UNet's blocks.
        prompts: Images for each λ of the sweep.
    """

    what: str
    pixels: int
    batch: int
    steps: int
    vae: tuple[int, ...] = ()
    text: tuple[int, int, int] = (64, 2, 4)
    unet: tuple[int, ...] = ()
    prompts: int = 2


def _unet(width: int) -> tuple[int, ...]:
    return width, 2 * width, 4 * width, 4 * width


_VAE, _TEXT = (128, 256, 512, 512), (768, 12, 12)
# Stable Diffusion 1.5 at its own size: only counted, a machine without a GPU does not train it.
FULL = Shape("Stable Diffusion 1.5", 512, 1, 1, _VAE, _TEXT, _unet(320))
SHAPES = {
    "real": Shape("VAE and text encoder of Stable Diffusion 1.5, a narrow UNet", 128, 4, 1, _VAE, _TEXT, _unet(64)),
    "quarter": Shape(
        "Stable Diffusion 1.5 with a quarter of the width everywhere",
        256,
        4,
        1,
        tuple(width // 4 for width in _VAE),
        (192, 12, 12),
        _unet(80),
    ),
    "pixel": Shape("the pixel-space model of rslit.scenes", 32, 64, 5, prompts=16),
}


def shape_of(kind: str, width: int | None = None, pixels: int | None = None, tiny: bool = False) -> Shape:
    """A shape as the command line wants it.

    Args:
        kind: One of `SHAPES`.
        width: Channels of the first block of the UNet of `real`, a multiple of 32.
        pixels: Width and height of the images of `real`.
        tiny: A few thousand weights and a few images, to try the command out.
    """
    shape = SHAPES[kind]
    if kind == "real":
        shape = replace(shape, unet=_unet(width) if width else shape.unet, pixels=pixels or shape.pixels)
    if not tiny:
        return shape
    small = replace(shape, what=f"tiny: {shape.what}", batch=4, prompts=2)
    return replace(small, pixels=32, vae=(8, 16), text=(16, 2, 2), unet=(16, 32)) if shape.vae else small


def prompts() -> list[str]:
    """Prompts that all differ, always in the same order."""
    words = [
        ("small", "large", "tiny", "huge"),
        ("red", "orange", "yellow", "green", "blue", "purple"),
        ("circle", "square", "triangle", "star", "heart", "cross"),
        ("white", "grey", "black"),
    ]
    found = [f"a {a} {b} {c} on a {d} background" for a, b, c, d in product(*words)]
    random.Random(0).shuffle(found)
    return found


def make_clip(shape: Shape) -> tuple[Any, Any]:
    """A text encoder and its tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    from rslit.scenes.pipeline import clip_tokenizer, fresh_text_encoder

    tokenizer = clip_tokenizer(prompts())
    if not shape.vae:
        return fresh_text_encoder(tokenizer), tokenizer
    width, layers, heads = shape.text
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=TOKENS,
        **ends,
    )
    model: Any = CLIPTextModel(config)
    return model.eval(), tokenizer


def make_parts(shape: Shape) -> tuple[Any, Any]:
    """VAE (None in pixel space) and UNet. Depths, heads and attention are those of Stable Diffusion 1.5."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    if not shape.vae:
        from rslit.scenes.pipeline import fresh_unet

        return None, fresh_unet(shape.pixels, shape.text[0])
    vae = AutoencoderKL(
        block_out_channels=shape.vae,
        down_block_types=["DownEncoderBlock2D"] * len(shape.vae),
        up_block_types=["UpDecoderBlock2D"] * len(shape.vae),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=min(32, shape.vae[0] // 4),
        sample_size=shape.pixels,
        scaling_factor=0.18215,
    )
    deeper = len(shape.unet) - 1
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=shape.unet,
        down_block_types=["CrossAttnDownBlock2D"] * deeper + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * deeper,
        layers_per_block=2,
        attention_head_dim=8,  # the number of heads, whatever its name says
        norm_num_groups=16 if shape.unet[0] % 32 else 32,
        cross_attention_dim=shape.text[0],
        sample_size=shape.pixels // 2 ** (len(shape.vae) - 1),
    )
    return vae.eval(), unet


def costs(shape: Shape) -> dict[str, float]:
    """Operations of matrix products and convolutions in a training step, GFLOP an image.

    Counted by torch on tensors without memory: ``vae`` (encoding), ``text``, and the UNet's forward and backward pass
    under the name of what is trained.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from rslit.diffusion.options import DiffusionOptions
    from rslit.diffusion.trained import choose_trained

    found: dict[str, float] = {"vae": 0.0}

    def count(name: str, what: Any) -> None:
        with FlopCounterMode(display=False) as counter:
            what()
        found[name] = counter.get_total_flops() / 1e9

    with torch.device("meta"):
        vae, unet = make_parts(shape)
        clip, _ = make_clip(shape)
        with torch.no_grad():
            count("text", lambda: clip(torch.zeros(1, TOKENS, dtype=torch.long)))
            if vae is not None:
                count("vae", lambda: vae.encode(torch.zeros(1, 3, shape.pixels, shape.pixels)))
        side = unet.config.sample_size
        noisy, text = torch.zeros(1, unet.config.in_channels, side, side), torch.zeros(1, TOKENS, shape.text[0])
        for trained in TRAINED:
            choose_trained(unet, DiffusionOptions(shape.what, trained=trained))  # type: ignore[arg-type]
            count(trained, lambda: unet(noisy, torch.zeros(1), text).sample.mean().backward())
            unet.zero_grad()
    return found
