"""Tiny vision-language models with tokenizers and image processors of their own, saved in the hub's layout.

Everything is random with fixed seeds: the same call writes the same files. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

__all__ = ["VISION_KINDS", "random_images", "save_tiny_vision"]

VISION_KINDS = (
    "vit-gpt2",
    "swin-gpt2",
    "blip-caption",
    "blip-vqa",
    "git",
    "florence2",
    "kosmos2",
    "paligemma",
)

# Ten times the usual: with less, a tiny random model is nearly uniform whatever it reads.
WIDE = 0.2
IMAGE_SIZE, PATCH = 32, 16


def save_tiny_vision(kind: str, folder: Path, seed: int = 0, locations: int | None = None, **options: Any) -> Path:
    """A model of one of the supported classes, with its tokenizer and image processor.

    Args:
        kind: One of `VISION_KINDS`.
        folder: Where to write; made if missing.
        seed: Of the weights.
        locations: Location tokens of florence2 (1000 by default), paligemma (1024) or kosmos2 (1024), in the hub's
            spelling.
        options: More entries of the text part's configuration.
    """
    config, tokenizer, processor = _PARTS[kind](locations, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, _CLASSES[kind])(config)
        _widen(model)
    # What the hub's configurations ask for, and sampling must not do.
    model.generation_config.update(**_HUB)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def random_images(count: int, seed: int = 0, size: tuple[int, int] = (40, 30)) -> list[Image.Image]:
    """RGB images of noise and a colour."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (count, size[1], size[0], 3)) + rng.integers(0, 120, (count, 1, 1, 3))
    return [Image.fromarray(image.astype(np.uint8)) for image in pixels]


_CLASSES = {
    "vit-gpt2": "VisionEncoderDecoderModel",
    "swin-gpt2": "VisionEncoderDecoderModel",
    "blip-caption": "BlipForConditionalGeneration",
    "blip-vqa": "BlipForQuestionAnswering",
    "git": "GitForCausalLM",
    "florence2": "Florence2ForConditionalGeneration",
    "kosmos2": "Kosmos2ForConditionalGeneration",
    "paligemma": "PaliGemmaForConditionalGeneration",
}

_HUB: dict[str, Any] = {"num_beams": 3, "no_repeat_ngram_size": 3, "max_length": 20, "early_stopping": True}

_VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH,
    "initializer_range": WIDE,
}
_TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


def _widen(model: Any) -> None:
    """Parameters that start as constants (biases, latent queries) tell mistakes apart only when they differ."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)


def _bert_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer("bert")
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def _with_locations(kind: str, names: list[str], extra: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(kind)
    tokenizer.add_tokens(extra, special_tokens=True)
    tokenizer.add_tokens(names)
    return tokenizer


def _encoder_decoder(encoder: Any, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    tokenizer = tiny_tokenizer("gpt2")
    decoder = transformers.GPT2Config(
        **{
            "vocab_size": len(tokenizer),
            "n_embd": 24,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 64,
            "initializer_range": WIDE,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **options,
        }
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = tokenizer.bos_token_id
    config.pad_token_id = config.eos_token_id = tokenizer.eos_token_id
    return config, tokenizer, transformers.ViTImageProcessorPil(size=_SQUARE)


def _vit_gpt2(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    return _encoder_decoder(transformers.ViTConfig(**_VISION), options)


def _swin_gpt2(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    entries = {"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "patch_size": 4}
    encoder = transformers.SwinConfig(**entries, image_size=IMAGE_SIZE, initializer_range=WIDE)
    return _encoder_decoder(encoder, options)


def _blip(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    tokenizer = _bert_tokenizer()
    text = {
        **_TEXT,
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": 16,
        "projection_dim": 16,
        "max_position_embeddings": 64,
        "initializer_range": WIDE,
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **options,
    }
    config = transformers.BlipConfig(
        text_config=text, vision_config={**_VISION, "projection_dim": 16}, projection_dim=16, image_text_hidden_size=16
    )
    return config, tokenizer, transformers.BlipImageProcessorPil(size=_SQUARE)


def _git(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    tokenizer = tiny_tokenizer("bert")
    config = transformers.GitConfig(
        vision_config=_VISION,
        **{
            **_TEXT,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "initializer_range": WIDE,
            "bos_token_id": tokenizer.cls_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **options,
        },
    )
    return config, tokenizer, _clip_processor()


def _florence2(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    count = 1000 if locations is None else locations
    tokenizer = _with_locations("bart", [f"<loc_{k}>" for k in range(count)], ["<image>"])
    tokenizer.image_token = "<image>"
    vision = {
        "embed_dim": [8, 16],
        "depths": [1, 1],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "window_size": 4,
        "projection_dim": 16,
        "max_temporal_embeddings": 4,
        "max_position_embeddings": 8,
        "initializer_range": WIDE,
    }
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 96,
        "init_std": WIDE,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": tokenizer.eos_token_id,
        "forced_bos_token_id": tokenizer.bos_token_id,
        **options,
    }
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.Florence2Config(text_config=text, vision_config=vision, image_token_id=image_id)
    return config, tokenizer, _clip_processor()


def _kosmos2(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    count = 1024 if locations is None else locations
    tags = ["<image>", "</image>", "<phrase>", "</phrase>", "<object>", "</object>", "<grounding>"]
    tags.append("</delimiter_of_multi_objects/>")
    tokenizer = _with_locations("llama", [f"<patch_index_{k:04}>" for k in range(count)], tags)
    text = {
        "vocab_size": len(tokenizer),
        "embed_dim": 16,
        "layers": 2,
        "ffn_dim": 32,
        "attention_heads": 2,
        "max_position_embeddings": 96,
        "init_std": WIDE,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **options,
    }
    config = transformers.Kosmos2Config(text_config=text, vision_config=_VISION, latent_query_num=3)
    return config, tokenizer, _clip_processor()


def _paligemma(locations: int | None, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    count = 1024 if locations is None else locations
    tokenizer = _with_locations("llama", [f"<loc{k:04}>" for k in range(count)], ["<image>"])
    text = {
        **_TEXT,
        "model_type": "gemma",
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 96,
        "initializer_range": WIDE,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **options,
    }
    vision = {**_VISION, "model_type": "siglip_vision_model", "projection_dim": 16}
    config = transformers.PaliGemmaConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=16,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return config, tokenizer, transformers.SiglipImageProcessorPil(size=_SQUARE)


def _clip_processor() -> Any:
    return transformers.CLIPImageProcessorPil(size=_SQUARE, do_center_crop=False)


_PARTS = {
    "vit-gpt2": _vit_gpt2,
    "swin-gpt2": _swin_gpt2,
    "blip-caption": _blip,
    "blip-vqa": _blip,
    "git": _git,
    "florence2": _florence2,
    "kosmos2": _kosmos2,
    "paligemma": _paligemma,
}
