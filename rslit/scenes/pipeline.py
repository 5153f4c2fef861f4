"""A small fresh text-to-image pipeline in pixel space, the kind `pixel_diffusion` of `rslit.scenes.models`.

It is of the class of DeepFloyd IF's first stage, with a UNet that knows nothing yet. As in Stable Diffusion, prompts
are read by a CLIP's text tower, which the pipeline's training leaves as it is; `rslit.scenes.text_tower` teaches it the
few words of this world beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["clip_tokenizer", "fresh_pipeline", "fresh_text_encoder", "fresh_unet"]

_BOS, _EOS, _END = "<|startoftext|>", "<|endoftext|>", "</w>"
_LENGTH = 77  # what CLIP's text towers read, and DeepFloyd IF's pipeline pads to


def clip_tokenizer(texts: Iterable[str]) -> Any:
    """A `CLIPTokenizer` that has each word of `texts` as one token; others become several.

    Byte-pair encoding (Sennrich et al. 2016): the most frequent pair is merged until no word has a pair left.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    counts = Counter(word for text in texts for word in text.lower().split())
    words = {word: [*word[:-1], word[-1] + _END] for word in counts}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            break
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        words = {word: _merge(pieces, merges[-1]) for word, pieces in words.items()}
    letters = sorted(ByteLevel.alphabet())
    joined = dict.fromkeys("".join(pair) for pair in merges)
    tokens = [*letters, *(letter + _END for letter in letters), *joined, _BOS, _EOS]
    make: Any = CLIPTokenizer  # untyped
    vocabulary = {token: k for k, token in enumerate(tokens)}
    return make(vocab=vocabulary, merges=merges, model_max_length=_LENGTH)


def _merge(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def fresh_unet(size: int, text: int, seed: int = 0) -> Any:
    """A `UNet2DConditionModel` with random weights.

    Args:
        size: Width and height of images in pixels.
        text: Numbers per token of the text encoder.
        seed: Of the weights.
    """
    import torch
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=size,
            in_channels=3,
            # Noise and, as in DeepFloyd IF, a variance; its pipeline splits the two, the variance is left away.
            out_channels=6,
            # Few channels where there are most pixels, where a step spends most of its time.
            block_out_channels=(16, 32, 64),
            layers_per_block=1,
            # Attention costs most where there are most pixels, and there it is needed least.
            down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            attention_head_dim=4,  # the number of heads, whatever its name says
            norm_num_groups=8,
            cross_attention_dim=text,
            # The whole prompt beside its tokens, as in DeepFloyd IF.
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
            # As there too, time and prompt scale features: after 600 steps the loss was .1655, by only adding .1835.
            resnet_time_scale_shift="scale_shift",
        )


def fresh_text_encoder(tokenizer: Any, seed: int = 0) -> Any:
    """A `CLIPTextModel` with random weights for a CLIP's tokenizer."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    make: Any = CLIPTextConfig  # untyped
    config = make(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = CLIPTextModel(config)
        return model.eval().requires_grad_(False)


def fresh_pipeline(texts: Iterable[str], size: int = 32, seed: int = 0) -> Any:
    """An `IFPipeline` with random weights.

    Args:
        texts: What the tokenizer takes its words from.
        size: Width and height of images in pixels.
        seed: Of the weights.
    """
    from diffusers import DPMSolverMultistepScheduler, IFPipeline

    tokenizer = clip_tokenizer(texts)
    text = fresh_text_encoder(tokenizer, seed)
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        # These scenes are flat and redundant: their shape can be told where a tenth of the variance is image, and is
        # decided there. Half of this schedule's times are that noisy; of the cosine schedule, a fifth.
        beta_schedule="linear",
        # There, an error in predicted noise is many times as large in the image.
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        # In pixel space, what guidance drives beyond white and black is brought back (Saharia et al. 2022).
        thresholding=True,
        sample_max_value=1.0,
        variance_type="fixed_small",
    )
    make: Any = IFPipeline  # untyped
    return make(
        tokenizer=tokenizer,
        text_encoder=text,
        unet=fresh_unet(size, text.config.hidden_size, seed),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
