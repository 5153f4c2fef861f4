"""Tiny language models, classifiers and sentence encoders with tokenizers of their own, saved in the hub's layout.

Everything is random with fixed seeds: the same call writes the same files. Nothing is downloaded.
"""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    BertModel,
    DebertaV2Config,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

__all__ = [
    "CLASSIFIERS",
    "save_tiny_classifier",
    "save_tiny_encoder",
    "save_tiny_gpt2",
    "save_tiny_llama",
    "tiny_tokenizer",
]

CLASSIFIERS = ("gpt2", "bart", "deberta-v2", "electra")

VOCABULARY = 400

# What the tokenizers learn their merges and words from.
TEXT = [
    "The government said on Monday that it would cut taxes for small firms next year.",
    "Shares rose after the company reported better sales than analysts had expected.",
    "This film is a wonderful story with great actors and a terrible ending.",
    "I loved every minute of the movie, but the plot was boring and far too long.",
    "How do I boil an egg? Put it into hot water and wait for about seven minutes.",
    "What is the best way to learn a new language? Read a little of it every day.",
    "My friend and I had a fight last week and now she does not answer my messages.",
    "Below is an instruction that describes a task. Write a response that completes it.",
    "Generate a movie review. Summarise the article. Answer the question of the user.",
    "### Instruction: ### Input: ### Response: user assistant system 0 1 2 3 4 5 6 7 8 9",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Special tokens of each family, as its tokenizers on the hub have them; "" names the frame put around a text.
SPECIAL: dict[str, dict[str, str]] = {
    "llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
    "bart": {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    },
    "deberta-v2": {
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
    },
    "electra": {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
}
SPECIAL["bert"] = SPECIAL["electra"]
FRAMES = {kind: ("[CLS]", "[SEP]") for kind in ("deberta-v2", "electra", "bert")} | {"bart": ("<s>", "</s>")}


def tiny_tokenizer(kind: str = "llama", max_length: int = 128) -> PreTrainedTokenizerFast:
    """A tokenizer with the special tokens of a family.

    Byte-level BPE for llama, gpt2, bart and deberta-v2: decoding gives any text back. Lower-case WordPiece for electra
    and bert. llama has `<s>`, `</s>`, a `<pad>` of its own and a chat template, and adds no token by itself (as
    SmolLM2's); gpt2 has one special token and no pad; the rest put their frame around each text. All pad on the right,
    transformers' default: who needs the left side must ask for it.

    Args:
        kind: "llama", "gpt2", "bart", "deberta-v2", "electra" or "bert".
        max_length: `model_max_length`.
    """
    special = SPECIAL[kind]
    extra = ["<|im_start|>", "<|im_end|>"] if kind == "llama" else []
    names = list(dict.fromkeys([*special.values(), *extra]))
    words = kind in ("electra", "bert")
    tokenizer = _word_pieces(names) if words else _byte_pairs(names)
    if kind in FRAMES:
        first, last = FRAMES[kind]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} $B:1 {last}:1",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
        )
    result = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        **special,
        **({"additional_special_tokens": extra} if extra else {}),
    )
    if kind == "llama":
        result.chat_template = CHAT_TEMPLATE
    return result


def save_tiny_llama(folder: Path, seed: int = 0, **options: Any) -> Path:
    """A LLaMA with hidden size 32, 2 layers, 4 heads, 2 key-value heads, context 128, and its tokenizer.

    Args:
        folder: Where to write; made if missing.
        seed: Of the weights.
        options: More entries of `LlamaConfig`.
    """
    tokenizer = tiny_tokenizer("llama", options.get("max_position_embeddings", 128))
    entries = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        # Ten times the usual: with less, a tiny random model is nearly uniform whatever it reads.
        "initializer_range": 0.2,
        **_token_ids(tokenizer),
    } | options
    return _save(AutoModelForCausalLM, LlamaConfig(**entries), tokenizer, folder, seed)


def save_tiny_gpt2(folder: Path, seed: int = 0, **options: Any) -> Path:
    """A GPT-2 with hidden size 32, 2 layers, 4 heads, context 128, and its tokenizer, which has no pad token.

    Args:
        folder: Where to write; made if missing.
        seed: Of the weights.
        options: More entries of `GPT2Config`.
    """
    tokenizer = tiny_tokenizer("gpt2", options.get("n_positions", 128))
    entries = _gpt2_entries(tokenizer) | options
    return _save(AutoModelForCausalLM, GPT2Config(**entries), tokenizer, folder, seed)


def save_tiny_classifier(kind: str, folder: Path, labels: int = 1, seed: int = 0, **options: Any) -> Path:
    """A sequence classifier of one of the families that the paper's reward models come from, and its tokenizer.

    Args:
        kind: "gpt2" (no pad token, as `Tristan/gpt2_reward_summarization`), "bart", "deberta-v2" or "electra".
        folder: Where to write; made if missing.
        labels: Number of classes.
        seed: Of the weights.
        options: More entries of the family's config.
    """
    tokenizer = tiny_tokenizer(kind)
    # Named, since transformers leaves LABEL_0 and LABEL_1 out of a saved config, and BART then reads three classes.
    classes = {"id2label": {index: f"CLASS_{index}" for index in range(labels)}}
    size, wide = len(tokenizer), {"initializer_range": 0.2, **classes, **_token_ids(tokenizer)}
    config: PreTrainedConfig
    if kind == "gpt2":
        config = GPT2Config(**_gpt2_entries(tokenizer) | classes | options)
    elif kind == "bart":
        entries = {
            "vocab_size": size,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
            "init_std": 0.2,
            "decoder_start_token_id": tokenizer.eos_token_id,
            "forced_eos_token_id": None,
        }
        config = BartConfig(**wide | entries | options)
    else:
        entries = {
            "vocab_size": size,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 128,
        }
        if kind == "deberta-v2":
            # Disentangled attention, as the published DeBERTa-v3 models have it.
            entries |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
            config = DebertaV2Config(**wide | entries | options)
        else:
            config = ElectraConfig(**wide | entries | {"embedding_size": 32} | options)
    return _save(AutoModelForSequenceClassification, config, tokenizer, folder, seed)


def save_tiny_encoder(folder: Path, max_seq_length: int | None = 16, seed: int = 0) -> Path:
    """A sentence encoder in the layout of sentence-transformers: BERT, mean pooling, normalisation.

    Args:
        folder: Where to write; made if missing.
        max_seq_length: Entry of `sentence_bert_config.json`; None leaves the file out.
        seed: Of the weights.
    """
    tokenizer = tiny_tokenizer("bert", max_length=64)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
        **_token_ids(tokenizer),
    )
    _save(BertModel, config, tokenizer, folder, seed)
    if max_seq_length is not None:
        entry = {"max_seq_length": max_seq_length, "do_lower_case": False}
        (folder / "sentence_bert_config.json").write_text(json.dumps(entry))
    return folder


def _save(kind: Any, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _gpt2_entries(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "initializer_range": 0.2,
        **_token_ids(tokenizer),
    }


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


def _byte_pairs(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _word_pieces(special: list[str]) -> Tokenizer:
    # By hand: the library's trainer orders its vocabulary differently from run to run.
    words = sorted({word for text in TEXT for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    letters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    pieces = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *words])
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
