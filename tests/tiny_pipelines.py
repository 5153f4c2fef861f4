"""Tiny pipelines of real classes of diffusers, saved in the hub's layout; a few thousand random weights each."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_tokenizer

KINDS = ("sd", "sd_v", "sdxl", "sd3", "pixart", "pixel")
SIZE = 16


def _clip(tokenizer: Any, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _t5(tokenizer: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), pad_token_id=0, **sizes)).eval()


def _vae(**extra: Any) -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    return AutoencoderKL(
        block_out_channels=[8, 8], layers_per_block=1, latent_channels=4, norm_num_groups=4, **blocks, **extra
    )


def _unet(channels: int, out: int, **extra: Any) -> Any:
    from diffusers import UNet2DConditionModel

    blocks = {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": 16,
        "sample_size": 8,
    }
    return UNet2DConditionModel(in_channels=channels, out_channels=out, **{**blocks, **extra})


def make_pipeline(kind: str, seed: int = 0) -> Any:
    """A pipeline of one of KINDS, for images of 16 x 16 pixels."""
    import diffusers

    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 77
    plain = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        if kind in ("sd", "sd_v"):
            how = "epsilon" if kind == "sd" else "v_prediction"
            scheduler = diffusers.DDIMScheduler(
                prediction_type=how, clip_sample=False, set_alpha_to_one=False, steps_offset=1
            )
            parts = {"vae": _vae(), "text_encoder": _clip(tokenizer), "tokenizer": tokenizer, "unet": _unet(4, 4)}
            return diffusers.StableDiffusionPipeline(**parts, scheduler=scheduler, **plain)
        if kind == "sdxl":
            return diffusers.StableDiffusionXLPipeline(
                vae=_vae(),
                text_encoder=_clip(tokenizer),
                text_encoder_2=_clip(tokenizer, projection=True),
                tokenizer=tokenizer,
                tokenizer_2=tokenizer,
                unet=_unet(
                    4,
                    4,
                    cross_attention_dim=32,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=8,
                    projection_class_embeddings_input_dim=6 * 8 + 16,
                ),
                scheduler=diffusers.EulerDiscreteScheduler(),
            )
        if kind == "sd3":
            transformer = diffusers.SD3Transformer2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                caption_projection_dim=16,
                joint_attention_dim=32,
                pooled_projection_dim=32,
                out_channels=4,
                pos_embed_max_size=16,
            )
            return diffusers.StableDiffusion3Pipeline(
                vae=_vae(shift_factor=0.06),
                text_encoder=_clip(tokenizer, projection=True),
                text_encoder_2=_clip(tokenizer, projection=True),
                text_encoder_3=None,
                tokenizer=tokenizer,
                tokenizer_2=tokenizer,
                tokenizer_3=None,
                transformer=transformer,
                scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            )
        if kind == "pixart":
            transformer = diffusers.PixArtTransformer2DModel(
                sample_size=8,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                out_channels=8,
                cross_attention_dim=16,
                caption_channels=16,
                norm_num_groups=4,
            )
            return diffusers.PixArtAlphaPipeline(
                vae=_vae(),
                text_encoder=_t5(tokenizer),
                tokenizer=tokenizer,
                transformer=transformer,
                scheduler=diffusers.DPMSolverMultistepScheduler(),
            )
        if kind == "pixel":
            return diffusers.IFPipeline(
                tokenizer=tokenizer,
                text_encoder=_clip(tokenizer),
                unet=_unet(3, 6, sample_size=SIZE),
                scheduler=diffusers.DDPMScheduler(),
                watermarker=None,
                **plain,
            )
    raise ValueError(kind)


def save_pipeline(kind: str, folder: Path, seed: int = 0) -> Path:
    """Saves `make_pipeline(kind, seed)`."""
    make_pipeline(kind, seed).save_pretrained(folder)
    return folder
