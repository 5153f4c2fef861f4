"""Answers to a batch of prompts by transformers' ``generate``, from the model's own distribution and with our noise.

Two things ``generate`` does by default would be silently wrong here. It filters (top-k 50) and bends (forced tokens,
penalties of the hub's generation config) what is sampled, so that the log-probabilities of training were those of
another policy; everything of the kind is off. And it draws from the global generator, so that a sample depends on its
neighbours in the batch; here the noise is drawn per prompt and step and handed to every copy of a prompt, so that two
λ differ by their weights alone (common random numbers).

Notation: B prompts, M copies of each (λ or samples that share the noise), V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.language.padding import Prompts, answer_mask
from rslit.language.shared_prompts import prompt_cache, shares_prompts

__all__ = ["Answers", "evaluating", "generate", "generation_config"]


class Answers(NamedTuple):
    """What a policy answered.

    Attributes:
        tokens: int64 (B, R); padding behind the counted ones.
        mask: bool (B, R), true on the counted tokens, the end token included.
        finished: bool (B,), ended by itself.
    """

    tokens: Tensor
    mask: Tensor
    finished: Tensor


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: gradient checkpointing, which training mode switches on, allows no cache."""
    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def generation_config(pad_id: int, eos_ids: Sequence[int], **options: Any) -> Any:
    """Settings of ``generate`` that neither filter nor bend what is sampled."""
    import transformers

    make: Any = transformers.GenerationConfig  # untyped
    return make(pad_token_id=pad_id, eos_token_id=list(eos_ids) or None, **options)


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Prompts,
    lengths: Tensor,
    *,
    pad_id: int,
    eos_ids: Sequence[int] = (),
    suppressed: Sequence[int] = (),
    temperature: float = 1.0,
    noise: torch.Generator | None = None,
    copies: int = 1,
    group: int = 1,
    num_beams: int = 1,
    heard: Callable[[Tensor], None] | None = None,
) -> Answers:
    """Generates one answer per row.

    Args:
        model: A causal language model of transformers.
        prompts: M x B rows.
        lengths: int64 (M x B,), at most so many tokens per answer.
        pad_id: Fills what is behind an answer.
        eos_ids: Tokens that end an answer; none: every answer has its full length.
        suppressed: Tokens that are never generated.
        temperature: Of the sampling.
        noise: Generator of the sampling noise, on the model's device; None decodes greedily.
        copies: M; rows m * B + b share their noise for all m.
        group: So many rows side by side are the same prompt, under the same weights: it passes the model once.
        num_beams: Beams of a search, without noise.
        heard: Called after every step with all tokens so far, int64 (M x B, r); beams, which change their minds, are
            not told.

    Raises:
        RslitError: Noise together with beams.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    if noise is not None and num_beams > 1:
        raise RslitError("num_beams: beams are for decoding without sampling; give one of the two")
    processors = LogitsProcessorList()
    if suppressed:
        processors.append(_Suppress(suppressed, prompts.ids.device))
    if noise is not None:
        processors.append(_GumbelNoise(noise, temperature, copies))
    config = generation_config(
        pad_id, eos_ids, max_new_tokens=int(lengths.max()), do_sample=False, num_beams=num_beams, use_cache=True
    )
    criteria = StoppingCriteriaList([] if num_beams > 1 else [_Lengths(lengths, prompts.ids.shape[1], heard)])
    with evaluating(model), _only_config(model, config):
        caller: Any = model
        known: dict[str, Any] = {}
        if group > 1 and num_beams == 1 and prompts.ids.shape[1] > 1 and shares_prompts(model):
            # Their last tokens are left to `generate`, which needs something to begin with.
            cache, _ = prompt_cache(caller, Prompts(prompts.ids[::group, :-1], prompts.mask[::group, :-1]))
            cache.batch_repeat_interleave(group)
            known["past_key_values"] = cache
        out = caller.generate(
            input_ids=prompts.ids,
            attention_mask=prompts.mask.long(),
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=criteria,
            **known,
        )
    tokens = out[:, prompts.ids.shape[1] :].clone()
    mask, finished = answer_mask(tokens, eos_ids, lengths)
    return Answers(tokens.masked_fill(~mask, pad_id), mask, finished)


@contextmanager
def _only_config(model: Any, config: Any) -> Iterator[None]:
    """Leaves nothing for ``generate`` to fill in: it takes what a config does not set from the model's own.

    With the model's end token, rows would end although none was asked for, and count the padding as text.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    own, base.generation_config = base.generation_config, config
    try:
        yield
    finally:
        base.generation_config = own


class _Suppress:
    def __init__(self, ids: Sequence[int], device: torch.device) -> None:
        self.ids = torch.tensor(list(ids), device=device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.index_fill(1, self.ids, -torch.inf)


class _GumbelNoise:
    """Turns greedy decoding into sampling: argmax(logits / T + Gumbel noise) is a draw from softmax(logits / T).

    Gumbel noise is -log(-log u) of a uniform u (Gumbel 1954; Maddison et al. 2014). In float64: u next to 1 decides
    which tokens win, and float32 has few numbers there.
    """

    def __init__(self, noise: torch.Generator, temperature: float, copies: int) -> None:
        self.noise = noise
        self.temperature = temperature
        self.copies = copies

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        rows = scores.shape[0] // self.copies
        # Not `exponential_`, which goes number by number on a CPU and takes three times as long.
        drawn = torch.rand(rows, scores.shape[1], generator=self.noise, dtype=torch.float64, device=scores.device)
        gumbel = drawn.log_().neg_().log_().neg_().float()
        noisy = scores.float().view(self.copies, rows, -1) / self.temperature + gumbel
        return noisy.flatten(0, 1)


class _Lengths:
    """Ends each row at its own length, and tells whoever listens what there is so far."""

    def __init__(self, lengths: Tensor, prompt: int, heard: Callable[[Tensor], None] | None) -> None:
        self.lengths = lengths
        self.prompt = prompt
        self.heard = heard

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        if self.heard is not None:
            self.heard(input_ids[:, self.prompt :])
        done: Tensor = self.lengths.to(input_ids.device) <= input_ids.shape[1] - self.prompt
        return done
