"""A GGUF file turned, once, into the folder that `from_pretrained` reads without help."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from rslit.errors import RslitError

__all__ = ["convert_gguf", "mend_tokenizer"]

# llama.cpp's names of pre-tokenizers that split off each digit and then do as GPT-2's; transformers forgets the digits.
_DIGITS_APART = {"smollm", "starcoder", "refact", "command-r"}


def convert_gguf(file: Path, out: Path) -> None:
    """Writes weights, configuration, generation defaults and tokenizer of a GGUF language model.

    The weights are float32: a quantised value is a scale times an integer plus an offset, which float32 holds exactly
    (to rounding of one product) and bfloat16 does not: on SmolLM2-135M (Q4_1) rounding to bfloat16 moves logits by up
    to 0.29, to float16 by 0.04. Who loads with ``dtype=bfloat16`` rounds once, then.

    The padding token must not be the end of an answer, or a loss would mask the end away: where they are one, another
    control token of the vocabulary is taken, ``<|endoftext|>`` if there is one.

    Args:
        file: The GGUF file.
        out: Folder to write into; made if it is not there.

    Raises:
        RslitError: The file is missing or no GGUF model, ``gguf`` is not installed, or no token is left for padding.
    """
    try:
        import gguf  # noqa: F401  # transformers' reader needs it and says so in twenty lines
    except ImportError:
        raise RslitError(f"{file}: reading GGUF needs the package gguf: pip install 'rslit[text]'") from None
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if not file.is_file():
        raise RslitError(f"{file}: there is no such GGUF file")
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(
            **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        mend_tokenizer(tokenizer, file, model.config)
        # The file's title, put there under the name of the folder that was loaded, is of no use to a reader.
        model.config.__dict__.pop("_model_name_or_path", None)
        for config in (model.config, model.generation_config):
            config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    except (ValueError, KeyError, OSError, struct.error) as error:
        raise RslitError(f"{file}: not a GGUF language model that transformers reads ({error})") from error
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone


def mend_tokenizer(tokenizer: Any, file: Path, config: Any) -> None:
    """Puts right what transformers' conversion of a GGUF file's tokenizer leaves out, in place.

    Args:
        tokenizer: What transformers made of the file.
        file: The GGUF file.
        config: The model's configuration.

    Raises:
        RslitError: No token is left for padding.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    fields = GGUFReader(str(file)).fields
    kind = fields.get("tokenizer.ggml.pre")
    if kind is not None and kind.contents() in _DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    tokenizer.model_max_length = int(config.max_position_embeddings)
    # transformers adds a token of its own where it misses one: without a row in the embedding, it is no choice.
    special = {t.content for k, t in tokenizer.added_tokens_decoder.items() if t.special and k < config.vocab_size}
    if tokenizer.pad_token not in special - {tokenizer.eos_token}:
        free = sorted(special - {tokenizer.eos_token, tokenizer.bos_token}, key=tokenizer.convert_tokens_to_ids)
        if not free:
            raise RslitError(f"{file}: its vocabulary has no control token left for padding")
        tokenizer.pad_token = "<|endoftext|>" if "<|endoftext|>" in free else free[0]
