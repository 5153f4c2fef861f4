"""Text-to-text runs on tiny models: configurations for the command line, modules and batches built by hand, rewards."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_models import save_tiny_llama
from torch import Tensor
from toy_runs import fit_config, run_config
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from rslit.language import EvaluationOptions, KLOptions, LoraOptions, PolicyOptions, SamplingOptions
from rslit.modules import TextModule
from rslit.rewards import FunctionReward
from rslit.samples import Samples

QUESTIONS = [
    "How do I boil an egg?",
    "What is the best way to learn a new language?",
    "Film?",
    "The government said on Monday that it would cut taxes for small firms.",
    "I loved it.",
    "Shares rose after the company reported better sales than expected.",
    "My friend and I had a fight.",
    "a",
]


# -- rewards --------------------------------------------------------------------------------------------------------


def share(samples: Samples, letter: str) -> Tensor:
    return torch.tensor([text.count(letter) / max(len(text), 1) for text in samples["response"]])


def letter_e(samples: Samples) -> Tensor:
    """Share of the letter e in the response."""
    return share(samples, "e")


def letter_a(samples: Samples) -> Tensor:
    return share(samples, "a")


def brevity(samples: Samples) -> Tensor:
    return -samples["length"].float()


def letters(samples: Samples) -> Tensor:
    """Share of ASCII letters in the response."""
    return torch.tensor([sum(c.isascii() and c.isalpha() for c in t) / max(len(t), 1) for t in samples["response"]])


_calls = itertools.count(1)


def mortal(samples: Samples) -> Tensor:
    """letter_e, but the process dies as in a power cut at the call whose number is in $MORTAL."""
    if next(_calls) == int(os.environ.get("MORTAL", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return letter_e(samples)


def out_of_memory(samples: Samples) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def reward(name: str) -> dict[str, Any]:
    return {"class_path": "rslit.rewards.FunctionReward", "init_args": {"function": f"toy_text.{name}"}}


# -- models and modules ---------------------------------------------------------------------------------------------


def bare_llama(vocabulary: int = 12, seed: int = 0, **options: Any) -> Any:
    """A LLaMA of a few tokens, without tokenizer or file. Token 0 is padding, token 1 the end."""
    entries = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return _bare(LlamaConfig(**entries | options), seed)


def bare_gpt2(vocabulary: int = 12, seed: int = 0, **options: Any) -> Any:
    """The same as a GPT-2."""
    entries = {
        "vocab_size": vocabulary,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 64,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return _bare(GPT2Config(**entries | options), seed)


BARE: dict[str, Callable[..., Any]] = {"llama": bare_llama, "gpt2": bare_gpt2}


def _bare(config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config)


def text_module(
    folder: Path, policy: Mapping[str, Any] | None = None, function: Any = letter_e, **options: Any
) -> TextModule:
    """A module on the tiny model in `folder`, with a LoRA of rank 4 unless `policy` says otherwise."""
    given: dict[str, Any] = {"lora": LoraOptions(r=4, alpha=8)} if policy is None else dict(policy)
    groups = {"sampling": SamplingOptions, "kl": KLOptions, "evaluation": EvaluationOptions}
    small: dict[str, dict[str, Any]] = {
        "sampling": {"min_new_tokens": 4, "max_new_tokens": 8},
        "evaluation": {"max_new_tokens": 8},
        "kl": {},
    }
    parts = {name: kind(**small[name] | options.pop(name, {})) for name, kind in groups.items()}
    return TextModule(
        PolicyOptions(str(folder), **given), FunctionReward(function, "toy"), **parts, **{"epochs": 2} | options
    )


def prompt_batch(module: TextModule, questions: Sequence[str] = QUESTIONS) -> dict[str, list[Any]]:
    """A batch as the datamodule makes them; the prompts are of very different lengths."""
    return {
        "items": [f"q{k}" for k in range(len(questions))],
        "prompt_ids": [module.tokenizer(text)["input_ids"] for text in questions],
        "question": list(questions),
        "prompt": list(questions),
        "prefix_ids": [[] for _ in questions],
        "prefix": ["" for _ in questions],
        "reference": ["" for _ in questions],
    }


def move_adapter(module: TextModule, scale: float = 0.3, seed: int = 5) -> None:
    """Puts noise on what is trained, as an update would."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.policy.parameters():
            if p.requires_grad:
                p += scale * torch.randn(p.shape, generator=stream)


# -- runs through the command line ----------------------------------------------------------------------------------


def write_prompts(folder: Path, questions: Sequence[str] = QUESTIONS, held_out: int = 4) -> Path:
    """A folder with train.jsonl and test.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("train", questions), ("test", questions[:held_out])):
        lines = [json.dumps({"id": f"{name}{k}", "question": text}) for k, text in enumerate(chosen)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def text_config(root: Path, function: str = "letter_e", **extra: Any) -> dict[str, Any]:
    """A run on the tiny LLaMA in `root`/base (made if missing) that trains in about a second.

    `extra` is merged in, dotted keys by `__`.
    """
    base, data = root / "base", root / "data"
    if not base.exists():
        save_tiny_llama(base)
    if not data.exists():
        write_prompts(data)
    model = {
        "class_path": "rslit.modules.TextModule",
        "init_args": {
            "policy": {"base": str(base), "lora": {"r": 4, "alpha": 8}},
            "reward": reward(function),
            "evaluation_rewards": [reward("letter_e"), reward("letter_a")],
            "sampling": {"min_new_tokens": 3, "max_new_tokens": 6},
            "evaluation": {"max_new_tokens": 6},
            "epochs": 2,
            "minibatches": 2,
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        },
    }
    source = {
        "class_path": "rslit.datamodules.PromptTable",
        "init_args": {"path": str(data), "question": "question", "id": "id"},
    }
    prompts = {
        "class_path": "rslit.datamodules.TextDataModule",
        "init_args": {"source": source, "template": "plain", "batch_size": 4, "eval_prompts": 4},
    }
    return run_config(model, prompts, extra)


def fit_text(write: Callable[..., Path], root: Path, name: str, *extra: str, **config: Any) -> Path:
    """Trains through the command line and returns the ingredients' folder."""
    return fit_config(write, text_config(root, **config), root, name, *extra)
