"""Small fresh models of real classes for drawn scenes, in the hub's layout: `python -m rslit.scenes.models`.

| kind | class | for |
|---|---|---|
| captioner | VisionEncoderDecoderModel (ViT and GPT-2) | captioning |
| unified | PaliGemmaForConditionalGeneration, 32 location tokens | VQA and grounding |
| pixel_diffusion | IFPipeline of diffusers, of a world of one-shape scenes | text-to-image |
| classifier | ResNetForImageClassification, trained here, of such a world | to check what was drawn |

The others know the world's words and nothing else: the first stage of a recipe teaches them. Beside the unified one
stand grounded captions, `grounded_captions.json`, for it to begin with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rslit.errors import RslitError
from rslit.scenes.grounded import write_grounded_captions
from rslit.vision.box_codecs import PaliGemmaBoxCodec

__all__ = ["CODEC", "DRAWING", "GROUNDED", "KINDS", "easy_vqa_texts", "main", "save_model", "world_texts"]

#: How the unified model writes boxes: with half a bin, a pixel, to either side.
CODEC = PaliGemmaBoxCodec(32)
GROUNDED = "grounded_captions.json"
_SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
_HIDDEN = 96


def caption_texts(world: Path) -> list[str]:
    """The captions of a world's training images.

    Raises:
        RslitError: There is no world.
    """
    try:
        captions = json.loads((world / "annotations" / "captions_train2014.json").read_text())["annotations"]
    except (OSError, ValueError, KeyError) as error:
        raise RslitError(f"{world} is no world of scenes ({error}); run `python -m rslit.scenes {world}`") from None
    return [row["caption"] for row in captions]


def world_texts(world: Path) -> list[str]:
    """All texts of a world's training part: captions, questions, answers and expressions.

    Raises:
        RslitError: There is no world.
    """
    try:
        questions = json.loads((world / "vqa" / "v2_OpenEnded_mscoco_train2014_questions.json").read_text())[
            "questions"
        ]
        answered = json.loads((world / "vqa" / "v2_mscoco_train2014_annotations.json").read_text())["annotations"]
        refs = json.loads((world / "refcoco" / "refs(unc).json").read_text())
    except (OSError, ValueError, KeyError) as error:
        raise RslitError(f"{world} is no world of scenes ({error}); run `python -m rslit.scenes {world}`") from None
    texts = caption_texts(world) + [row["question"] for row in questions]
    texts += [answer["answer"] for row in answered for answer in row["answers"]]
    return texts + [sentence["sent"] for ref in refs if ref["split"] == "train" for sentence in ref["sentences"]]


def easy_vqa_texts() -> list[str]:
    """All training questions and answers of the package easy-vqa.

    Raises:
        RslitError: It is not installed.
    """
    from rslit.vision.files.easy import EasyVqa

    rows = EasyVqa().rows("train")
    return [row.question for row in rows] + [answer for row in rows for answer in row.answers]


def save_pipeline(world: Path, folder: Path, size: int, seed: int = 0) -> None:
    """Writes a text-to-image pipeline that knows the words of a world's captions, and whose UNet knows nothing yet."""
    from rslit.diffusion.load import quiet
    from rslit.scenes.pipeline import fresh_pipeline
    from rslit.scenes.text_tower import teach_words

    texts = caption_texts(world)
    with quiet():
        pipe = fresh_pipeline(texts, size, seed)
        share = teach_words(pipe.text_encoder, pipe.tokenizer, texts, seed)
        print(f"{folder}: its text tower tells all words of {share:.1%} of the captions")
        _save([pipe], folder)


def save_classifier(world: Path, folder: Path, size: int, seed: int = 0) -> None:
    """Trains a classifier of one-shape scenes, says how good it is, and writes it."""
    from rslit.scenes.classifier import accuracy, processor, train_classifier

    model = train_classifier(world, seed)
    print(f"{folder}: tells colour and shape of {accuracy(world, model):.1%} of the held-out images")
    _save([model, processor(size)], folder)


def _save(pieces: Sequence[Any], folder: Path) -> None:
    """Writes a model's folder, which appears once it is whole."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for piece in pieces:
        piece.save_pretrained(part)
    part.rename(folder)


def save_model(kind: str, texts: Iterable[str], folder: Path, size: int = 64, seed: int = 0) -> None:
    """Writes a model with random weights, its tokenizer and its image processor.

    Args:
        kind: One of `KINDS`.
        texts: What the tokenizer takes its words from.
        folder: Where to write; it appears once it is whole.
        size: Width and height of images, pixels.
        seed: Of the weights.
    """
    import torch
    from transformers import utils

    logging: Any = utils.logging  # untyped
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pieces = KINDS[kind](texts, size)
    _save(pieces, folder)


def _tokenizer(texts: Iterable[str], extra: Sequence[str] = ()) -> Any:
    """A token for each word and mark, in lower case."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text.lower()))
    words = [*_SPECIAL.values(), *sorted(counts)]
    core = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token=_SPECIAL["unk"]))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), split
    names = {f"{name}_token": token for name, token in _SPECIAL.items()}
    make: Any = PreTrainedTokenizerFast  # untyped
    tokenizer = make(tokenizer_object=core, **names)
    tokenizer.add_tokens(list(extra), special_tokens=True)
    return tokenizer


def _vision(size: int) -> dict[str, Any]:
    return {
        "hidden_size": _HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 2 * _HIDDEN,
        "image_size": size,
        "patch_size": 8,
    }


def _captioner(texts: Iterable[str], size: int) -> tuple[Any, Any, Any]:
    import transformers

    tokenizer = _tokenizer(texts)
    decoder = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=_HIDDEN,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    encoder = transformers.ViTConfig(**_vision(size))
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = tokenizer.bos_token_id
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    processor = transformers.ViTImageProcessorPil(size={"height": size, "width": size})
    return transformers.VisionEncoderDecoderModel(config), tokenizer, processor


def _unified(texts: Iterable[str], size: int) -> tuple[Any, Any, Any]:
    import transformers

    tokenizer = _tokenizer(texts, ["<image>", *CODEC.tokens])
    text = {
        "model_type": "gemma",
        "vocab_size": len(tokenizer),
        "hidden_size": _HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": _HIDDEN // 4,
        "intermediate_size": 2 * _HIDDEN,
        "max_position_embeddings": 128,
        # Gemma's 0.02 is for widths of thousands.
        "initializer_range": 0.05,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        **_vision(size),
        "model_type": "siglip_vision_model",
        "num_hidden_layers": 2,
        # Image tokens stand in the prompt: with patches of 8 a row would cost more than twice as much.
        "patch_size": 16,
        "projection_dim": _HIDDEN,
    }
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.PaliGemmaConfig(
        text_config=text, vision_config=vision, projection_dim=_HIDDEN, image_token_index=image_id
    )
    processor = transformers.SiglipImageProcessorPil(size={"height": size, "width": size})
    return transformers.PaliGemmaForConditionalGeneration(config), tokenizer, processor


KINDS: dict[str, Callable[[Iterable[str], int], tuple[Any, Any, Any]]] = {
    "captioner": _captioner,
    "unified": _unified,
}


#: What text-to-image needs, of worlds of one-shape scenes.
DRAWING: dict[str, Callable[[Path, Path, int], None]] = {
    "classifier": save_classifier,
    "pixel_diffusion": save_pipeline,
}


def main(args: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        The exit code: 0, or 2 after one line that says what was wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rslit.scenes.models",
        description="Writes small models with random weights and the words of a world of scenes.",
    )
    parser.add_argument("world", type=Path, help="folder that `python -m rslit.scenes` wrote")
    parser.add_argument("out", type=Path, help="folder that gets a folder for each model")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, *DRAWING], default=list(KINDS))
    parser.add_argument("--size", type=int, default=64, metavar="PIXELS", help="of images (%(default)s)")
    parser.add_argument("--easy-vqa", action="store_true", help="know the words of the package easy-vqa too")
    given = parser.parse_args(args)
    try:
        missing = [kind for kind in given.kinds if not (given.out / kind).exists()]
        texts = world_texts(given.world) if set(missing) & set(KINDS) else []
        if texts and given.easy_vqa:
            texts += easy_vqa_texts()
        for kind in missing:
            given.out.mkdir(parents=True, exist_ok=True)
            if kind in DRAWING:
                DRAWING[kind](given.world, given.out / kind, given.size)
                continue
            if kind == "unified":
                write_grounded_captions(given.world, given.out / GROUNDED, CODEC)
            save_model(kind, texts, given.out / kind, given.size)
    except RslitError as error:
        print(f"rslit: error: {error}", file=sys.stderr)
        return 2
    for kind in given.kinds:
        print(f"{given.out / kind}: {'new' if kind in missing else 'there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
