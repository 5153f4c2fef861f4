"""Building a policy: the base by name, folder or GGUF file, its tokenizer, its adapter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from rslit.errors import RslitError
from rslit.gguf import mend_tokenizer
from rslit.language.adapter import adapter_config, continued_adapter, fresh_adapter
from rslit.language.generation import generation_config
from rslit.language.options import PolicyOptions
from rslit.soup import base_fingerprint

__all__ = [
    "LanguagePolicy",
    "build_policy",
    "find_eos_ids",
    "find_pad_id",
    "load_errors",
    "load_tokenizer",
    "load_weights",
    "switch_dropout_off",
]


@dataclass(frozen=True)
class LanguagePolicy:
    """A policy and what belongs to it.

    Attributes:
        model: A ``PeftModel`` (LoRA) or the bare causal language model (full fine-tuning).
        tokenizer: Its tokenizer.
        pad_id: Token that fills batches; never sampled.
        eos_ids: Tokens that end an answer; may be empty.
        base: ``name`` and ``fingerprint`` of the base and how it was loaded, for the ingredient.
        adapter: PEFT's adapter configuration; None when all weights are trained.
    """

    model: nn.Module
    tokenizer: Any
    pad_id: int
    eos_ids: tuple[int, ...]
    base: dict[str, str]
    adapter: dict[str, Any] | None


def build_policy(options: PolicyOptions) -> LanguagePolicy:
    """Loads base and tokenizer and puts the adapter on.

    Raises:
        RslitError: Something is missing, damaged or does not belong together; in one line.
    """
    if options.lora is not None and options.adapter is not None:
        raise RslitError("policy: give either lora (a fresh adapter) or adapter (one to continue), not both")
    with load_errors(options.base):
        tokenizer = load_tokenizer(options)
        model = _base(options)
        if options.gguf_file:
            mend_tokenizer(tokenizer, Path(options.base) / options.gguf_file, model.config)
    eos_ids = find_eos_ids(options, tokenizer, model)
    pad_id = find_pad_id(options, tokenizer, eos_ids, model.get_input_embeddings().weight.shape[0])
    # What the hub's generation config asks for (penalties, forced tokens, top-k) would bend the sampling distribution.
    model.generation_config = generation_config(pad_id, eos_ids)
    base = {"name": options.base, "fingerprint": base_fingerprint(model)}
    for key in ("revision", "gguf_file", "quantization"):
        if getattr(options, key) is not None:
            base[key] = getattr(options, key)
    if options.lora is not None:
        model = fresh_adapter(model, options.lora, options.base)
    elif options.adapter is not None:
        model = continued_adapter(model, options)
    elif options.quantization is not None:
        raise RslitError("policy: a quantised base cannot be fine-tuned itself; add lora, or leave quantization out")
    switch_dropout_off(model)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    adapter = adapter_config(model) if hasattr(model, "peft_config") else None
    return LanguagePolicy(model, tokenizer, pad_id, eos_ids, base, adapter)


@contextmanager
def load_errors(name: str) -> Iterator[None]:
    """The many errors of transformers for a model that cannot be loaded, as one line."""
    try:
        yield
    except RslitError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        text = str(error).strip().splitlines()
        hint = "give a hub name or a folder with config.json, *.safetensors and the tokenizer's files"
        raise RslitError(f"policy.base: '{name}' cannot be loaded ({text[0] if text else error}); {hint}") from error


def load_tokenizer(options: PolicyOptions) -> Any:
    """The base's tokenizer.

    Raises:
        RslitError: The base has none.
    """
    from transformers import AutoTokenizer

    extra = {"gguf_file": options.gguf_file} if options.gguf_file else {}
    tokenizer = AutoTokenizer.from_pretrained(
        options.base, revision=options.revision or "main", trust_remote_code=options.trust_remote_code, **extra
    )
    # Where there are no files, transformers makes up a tokenizer of a few special tokens for some kinds of model.
    if len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)) < 2:
        raise RslitError(
            f"policy.base: {options.base} has no tokenizer; put the tokenizer.json and tokenizer_config.json of the "
            "base there"
        )
    return tokenizer


def _base(options: PolicyOptions) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

    common: dict[str, Any] = {
        "revision": options.revision or "main",
        "trust_remote_code": options.trust_remote_code,
    }
    if options.gguf_file:
        common["gguf_file"] = options.gguf_file
    config = AutoConfig.from_pretrained(options.base, **common)
    if options.gguf_file:
        common["quantization_config"] = GgufConfig(dequantize=True)
    else:
        common["use_safetensors"] = True
    if options.quantization is not None:
        common["quantization_config"] = _bits(options)
        # The policy is built before Lightning chooses this process's GPU.
        common["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    if options.attention is not None:
        common["attn_implementation"] = options.attention
    return load_weights(
        AutoModelForCausalLM, options.base, config=config, dtype=getattr(torch, options.dtype), **common
    )


def load_weights(loader: Any, base: str, **arguments: Any) -> Any:
    """A model with all of its weights.

    Args:
        loader: Class of transformers.
        base: Hub name or folder.
        arguments: Of its ``from_pretrained``.

    Raises:
        RslitError: Weights are pickled, or one is missing: transformers would make it up.
    """
    folder = Path(base)
    if arguments.get("use_safetensors") and folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise RslitError(f"policy.base: {base} has no *.safetensors; pickled weights are not read, save the model anew")
    model, report = loader.from_pretrained(base, output_loading_info=True, **arguments)
    missing = sorted(report["missing_keys"])
    if missing:
        raise RslitError(f"policy.base: {base} lacks the weight '{missing[0]}' ({len(missing)} in all)")
    return model


def _bits(options: PolicyOptions) -> Any:
    from importlib.util import find_spec

    import transformers

    if find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise RslitError(f"policy.quantization: {options.quantization} needs a CUDA GPU and `pip install bitsandbytes`")
    config: Any = transformers.BitsAndBytesConfig
    if options.quantization == "8bit":
        return config(load_in_8bit=True)
    compute = getattr(torch, options.dtype)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def find_eos_ids(options: PolicyOptions, tokenizer: Any, model: Any) -> tuple[int, ...]:
    """Tokens that end an answer: the one asked for, or those of tokenizer and generation config."""
    if options.eos_token is not None:
        return (_token_id(tokenizer, options.eos_token, "eos_token"),)
    given = model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])]
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def find_pad_id(options: PolicyOptions, tokenizer: Any, eos_ids: tuple[int, ...], rows: int) -> int:
    """A token for padding that is not the end token: padding that looks like an end hides real ends.

    Only a token among the `rows` of the model's embedding: some tokenizers have a pad token beyond them.
    """
    if options.pad_token is not None:
        given = _token_id(tokenizer, options.pad_token, "pad_token")
        if given < rows:
            return given
        raise RslitError(f"policy.pad_token: '{options.pad_token}' is token {given}, the model has {rows} tokens")
    special = [tokenizer.pad_token_id, tokenizer.unk_token_id, *sorted(tokenizer.all_special_ids)]
    known = [int(token) for token in special if token is not None and token < rows and token not in eos_ids]
    # The token that texts begin with only if there is no other, and then an end token: masks tell what is padding.
    known = [token for token in known if token != tokenizer.bos_token_id] + known
    known += [token for token in eos_ids if token < rows]
    if known:
        return known[0]
    raise RslitError(
        f"policy.base: the tokenizer of {options.base} has neither a padding nor an end token; set policy.pad_token "
        "(and policy.eos_token, if answers should end by themselves)"
    )


def _token_id(tokenizer: Any, token: str, key: str) -> int:
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        raise RslitError(f"policy.{key}: '{token}' is not a token of the tokenizer")
    return int(vocabulary[token])


def switch_dropout_off(model: nn.Module) -> None:
    """All passes over the same tokens must give the same probabilities (checklist of PPO, item 13).

    In training mode too: a loaded model is in evaluation mode, in which gradient checkpointing silently does nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # Plain numbers under many names (hidden_dropout, attn_dropout_p, ...); Falcon reads its configuration.
        for holder in (module, getattr(module, "config", None)):
            for name, value in list(vars(holder).items()) if holder is not None else ():
                if isinstance(value, float) and ("drop" in name or name == "jitter_noise"):
                    setattr(holder, name, 0.0)
    model.train()
