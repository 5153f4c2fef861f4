"""The captioners that the captioning benchmark trains: fresh models, drawn scenes in COCO's files, first lessons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from lightning.pytorch import Trainer

from rslit.datamodules import CaptioningDataModule
from rslit.modules import CaptioningModule
from rslit.rewards import CiderReward
from rslit.scenes.models import KINDS, save_model
from rslit.vision.options import VisionOptions

__all__ = ["CAPTIONERS", "Captioner", "fit", "save_fresh", "teach"]

SYLLABLES = [c + v for c, v in product("bdfgklmnrt", "ai")]


@dataclass(frozen=True)
class Captioner:
    """A captioner and its training.

    Attributes:
        what: In words.
        pixels: Width and height of its images.
        tokens: Longest caption, tokens.
        rate: Learning rate of self-critical training.
        rounds: Steps of each contender.
        lessons: Supervised steps before.
        pupils: Images of a supervised step, each with one caption.
        lesson_rate: Learning rate of the lessons.
        taught: What they train; None: everything.
    """

    what: str
    pixels: int
    tokens: int
    rate: float
    rounds: int
    lessons: int
    pupils: int
    lesson_rate: float
    taught: list[str] | None


CAPTIONERS = {
    # As in configs/captioning/small, but fewer lessons.
    "small": Captioner("ViT and GPT-2 of rslit.scenes.models", 64, 32, 3e-4, 15, 150, 50, 1e-3, None),
    # Lengths and rate of configs/captioning/paper. It learns which words there are and how long captions become.
    "real": Captioner("Swin-tiny and GPT-2 small", 224, 20, 1e-5, 2, 30, 18, 3e-4, ["decoder.*"]),
}


def save_fresh(kind: str, texts: Sequence[str], folder: Path) -> None:
    """Writes a captioner with random weights, its tokenizer and its image processor.

    Args:
        kind: One of `CAPTIONERS`.
        texts: What the tokenizer takes its words from.
        folder: Where to write.
    """
    pixels = CAPTIONERS[kind].pixels
    if kind == "small":
        save_model("captioner", texts, folder, pixels)
        return
    # Scenes have some hundred words, COCO some thousand: the others are soon unlikely, but they have their rows.
    others = " ".join(map("".join, product(SYLLABLES, repeat=3)))
    _, tokenizer, processor = KINDS["captioner"]([*texts, others], pixels)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    decoder = transformers.GPT2Config(vocab_size=len(tokenizer), **ends)
    encoder = transformers.SwinConfig(image_size=pixels)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = tokenizer.bos_token_id
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    torch.manual_seed(0)
    for piece in (transformers.VisionEncoderDecoderModel(config), tokenizer, processor):
        piece.save_pretrained(folder)


def fit(module: CaptioningModule, data: CaptioningDataModule, root: Path, **options: Any) -> None:
    """Trains for one Lightning epoch; `options` are the Trainer's."""
    off: dict[str, Any] = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    given: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 1, "gradient_clip_val": 1.0, "limit_val_batches": 0}
    Trainer(**given, **off, log_every_n_steps=1, default_root_dir=root, **options).fit(module, data)


def teach(captioner: Captioner, base: Path, data: CaptioningDataModule, root: Path) -> Path:
    """Teaches a fresh captioner by cross-entropy.

    Args:
        captioner: Which one it is.
        base: Where it is.
        data: What it is taught.
        root: Folder for what this writes.

    Returns:
        The folder of the taught one.
    """
    module = CaptioningModule(
        VisionOptions(str(base), trained=captioner.taught),
        CiderReward(),  # not asked
        reinforce=0.0,
        cross_entropy=1.0,
        max_target_tokens=captioner.tokens,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=captioner.lesson_rate),
    )
    fit(module, data, root, logger=False)
    module.parts.save(root / "taught")
    return root / "taught"
