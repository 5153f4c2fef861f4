"""Images, a tiny CLIP, tiny image classifiers and aesthetic heads for the tests of image rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import pre_tokenizers
from torch import nn

from rslit.samples import Samples

__all__ = ["IMAGES", "PROMPTS", "SAMPLES", "laion_head", "pictures", "save_tiny_clip", "save_tiny_image_classifier"]

PROMPTS = ["a large red circle on the left", "A blue square", "a red triangle, small", "a green circle"]


def _images() -> torch.Tensor:
    """Four images 24 x 36: a colour, noise, a gradient, black and white."""
    rng = np.random.default_rng(0)
    images = np.zeros((4, 24, 36, 3), np.uint8)
    images[0] = (200, 40, 90)
    images[0, :, :10] = (10, 240, 30)
    images[1] = rng.integers(0, 256, images[1].shape)
    images[2] = np.linspace(0, 255, 36).astype(np.uint8)[None, :, None]
    images[2, ..., 2] //= 3
    images[3, ::2, ::2] = 255
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


IMAGES = _images()
SAMPLES = Samples(["a", "b", "c", "d"], {"image": IMAGES, "prompt": PROMPTS, "seed": [1, 2, 3, 4]})


def pictures(images: torch.Tensor = IMAGES) -> list[Image.Image]:
    return [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]


_TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def save_tiny_clip(folder: Path, size: int = 16, seed: int = 0, context: int = 77) -> Path:
    """A CLIP with its own tokenizer class (characters, no merges) and image processor, in the hub's layout."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=context
    )
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = transformers.CLIPConfig(
        text_config={**_TOWER, "vocab_size": len(tokens), "max_position_embeddings": context, **ends},
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=size,
        # Ten times the usual: with less, a tiny random tower gives nearly the same for everything it reads.
        initializer_factor=10.0,
    )
    _save(lambda: transformers.CLIPModel(config), folder, seed)
    tokenizer.save_pretrained(folder)
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


def save_tiny_image_classifier(
    folder: Path, labels: list[str], kind: str = "vit", seed: int = 0, **options: Any
) -> Path:
    """A ViT or a BEiT (as cafe_aesthetic is one) with these labels, and its image processor."""
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    entries = {**_TOWER, "image_size": 32, "patch_size": 8, "initializer_range": 0.2, **names, **options}
    config = transformers.ViTConfig(**entries) if kind == "vit" else transformers.BeitConfig(**entries)
    model = transformers.ViTForImageClassification if kind == "vit" else transformers.BeitForImageClassification
    processor = transformers.ViTImageProcessorPil if kind == "vit" else transformers.BeitImageProcessorPil
    _save(lambda: model(config), folder, seed)
    processor(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder)
    return folder


def laion_head(size: int, relu: bool = False, seed: int = 3) -> nn.Sequential:
    """The published head's layers, with dropout and all."""
    widths, drops = [size, 1024, 128, 64, 16, 1], [0.2, 0.2, 0.1]
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in range(5):
            layers.append(nn.Linear(widths[number], widths[number + 1]))
            layers += [nn.ReLU()] * (relu and number < 4)
            layers += [nn.Dropout(rate) for rate in drops[number : number + 1]]
    return nn.Sequential(*layers).eval()


def _save(build: Any, folder: Path, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        for parameter in model.parameters():
            # Biases that start as zero tell mistakes apart only when they differ.
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
