"""Small fresh models of real classes for drawn scenes, in the hub's layout: `python -m rslit.scenes.models`.

| kind | class | for |
|---|---|---|
| captioner | VisionEncoderDecoderModel (ViT and GPT-2) | captioning |
| answerer | BlipForQuestionAnswering | VQA |
| grounder | Florence2ForConditionalGeneration, 64 location tokens | grounding, and all else by its prompt |

They know the world's words and nothing else: the first stage of a recipe teaches them by cross-entropy.
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

__all__ = ["KINDS", "main", "save_model", "world_texts"]

LOCATIONS = 64
_SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
_HIDDEN = 96


def world_texts(world: Path) -> list[str]:
    """All texts of a world's training part: captions, questions, answers and expressions.

    Raises:
        RslitError: There is no world.
    """
    try:
        captions = json.loads((world / "annotations" / "captions_train2014.json").read_text())["annotations"]
        questions = json.loads((world / "vqa" / "v2_OpenEnded_mscoco_train2014_questions.json").read_text())[
            "questions"
        ]
        answered = json.loads((world / "vqa" / "v2_mscoco_train2014_annotations.json").read_text())["annotations"]
        refs = json.loads((world / "refcoco" / "refs(unc).json").read_text())
    except (OSError, ValueError, KeyError) as error:
        raise RslitError(f"{world} is no world of scenes ({error}); run `python -m rslit.scenes {world}`") from None
    texts = [row["caption"] for row in captions] + [row["question"] for row in questions]
    texts += [answer["answer"] for row in answered for answer in row["answers"]]
    return texts + [sentence["sent"] for ref in refs if ref["split"] == "train" for sentence in ref["sentences"]]


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

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer, processor = KINDS[kind](texts, size)
    for piece in (model, tokenizer, processor):
        piece.save_pretrained(part)
    part.rename(folder)


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


def _answerer(texts: Iterable[str], size: int) -> tuple[Any, Any, Any]:
    import transformers

    tokenizer = _tokenizer(texts)
    tokenizer.add_special_tokens({"cls_token": "<s>", "sep_token": "</s>"})
    text = {
        "hidden_size": _HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 2 * _HIDDEN,
        "encoder_hidden_size": _HIDDEN,
        "projection_dim": _HIDDEN,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    vision = {**_vision(size), "projection_dim": _HIDDEN}
    config = transformers.BlipConfig(
        text_config=text, vision_config=vision, projection_dim=_HIDDEN, image_text_hidden_size=_HIDDEN
    )
    processor = transformers.BlipImageProcessorPil(size={"height": size, "width": size})
    return transformers.BlipForQuestionAnswering(config), tokenizer, processor


def _grounder(texts: Iterable[str], size: int) -> tuple[Any, Any, Any]:
    import transformers

    tokenizer = _tokenizer(texts, ["<image>", *(f"<loc_{k}>" for k in range(LOCATIONS))])
    tokenizer.image_token = "<image>"
    vision = {
        "embed_dim": [48, _HIDDEN],
        "depths": [1, 2],
        "num_heads": [2, 4],
        "num_groups": [2, 4],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "window_size": 4,
        "projection_dim": _HIDDEN,
        "max_temporal_embeddings": 4,
        "max_position_embeddings": size // 8,
    }
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": _HIDDEN,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 2 * _HIDDEN,
        "decoder_ffn_dim": 2 * _HIDDEN,
        "max_position_embeddings": 128,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "dropout": 0.0,
    }
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.Florence2Config(text_config=text, vision_config=vision, image_token_id=image_id)
    processor = transformers.CLIPImageProcessorPil(size={"height": size, "width": size}, do_center_crop=False)
    return transformers.Florence2ForConditionalGeneration(config), tokenizer, processor


KINDS: dict[str, Callable[[Iterable[str], int], tuple[Any, Any, Any]]] = {
    "captioner": _captioner,
    "answerer": _answerer,
    "grounder": _grounder,
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
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--size", type=int, default=64, metavar="PIXELS", help="of images (%(default)s)")
    given = parser.parse_args(args)
    try:
        missing = [kind for kind in given.kinds if not (given.out / kind).exists()]
        texts = world_texts(given.world) if missing else []
        for kind in missing:
            given.out.mkdir(parents=True, exist_ok=True)
            save_model(kind, texts, given.out / kind, given.size)
    except RslitError as error:
        print(f"rslit: error: {error}", file=sys.stderr)
        return 2
    for kind in given.kinds:
        print(f"{given.out / kind}: {'new' if kind in missing else 'there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
