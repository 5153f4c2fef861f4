"""What a language policy answered, as the samples that rewards look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rslit.language import Answers, EvaluationOptions, Prompts, SamplingOptions, Speaker
from rslit.samples import Samples
from rslit.seeds import generator

__all__ = ["evaluation_samples", "text_samples", "training_answers"]

_COLUMNS = ("question", "prompt", "prefix", "reference")


def text_samples(
    tokenizer: Any, batch: Mapping[str, Sequence[Any]], answers: Answers, rows: Sequence[int] | None = None
) -> Samples:
    """Decodes answers and sets them beside what was asked.

    Args:
        tokenizer: The policy's.
        batch: A batch of :class:`rslit.datamodules.TextDataModule`.
        answers: B answers.
        rows: The batch's row of each answer; None: one answer per row, in order.

    Returns:
        Samples with the fields ``question``, ``prompt``, ``prefix``, ``reference``, ``response`` (the prefix of the
        reference answer, if the prompt ended with one, and what the policy wrote), ``length`` int64 (B,) and
        ``finished`` bool (B,).
    """
    picked = range(len(batch["items"])) if rows is None else rows
    written = [tokens[mask].tolist() for tokens, mask in zip(answers.tokens.cpu(), answers.mask.cpu(), strict=True)]
    # Decoded together: apart from what stands before it, many tokenizers drop a word's leading space.
    whole = [list(batch["prefix_ids"][row]) + tokens for row, tokens in zip(picked, written, strict=True)]
    texts = tokenizer.batch_decode(whole, skip_special_tokens=True)
    fields: dict[str, Tensor | Sequence[Any]] = {name: [batch[name][row] for row in picked] for name in _COLUMNS}
    fields["response"] = [text.strip() for text in texts]
    fields["length"] = answers.mask.sum(1)
    fields["finished"] = answers.finished
    return Samples([batch["items"][row] for row in picked], fields)


def training_answers(
    speaker: Speaker,
    policy: nn.Module,
    batch: Mapping[str, Sequence[Any]],
    options: SamplingOptions,
    seed: int,
    stream: tuple[int, int],
    device: torch.device,
) -> tuple[list[int], Prompts, Answers]:
    """Samples answers to learn from.

    Args:
        speaker: Samples answers.
        policy: The policy.
        batch: A batch of :class:`rslit.datamodules.TextDataModule`.
        options: How many answers, and how long.
        seed: The run's seed.
        stream: Rank and rollout, each of which has lengths and noise of its own.
        device: The policy's.

    Returns:
        The batch's row of each answer, its prompt, and the answers; those to one prompt side by side.
    """
    picked = [row for row in range(len(batch["items"])) for _ in range(options.samples_per_prompt)]
    prompts = speaker.prompts([batch["prompt_ids"][row] for row in picked], device)
    bounds = options.min_new_tokens, options.max_new_tokens + 1
    lengths = torch.randint(*bounds, (len(picked),), generator=generator(seed, "lengths", *stream))
    noise = generator(seed, "rollout", *stream, device=device)
    size, how = options.rows or len(picked), (noise, options.stop_at_eos, options.samples_per_prompt)
    return picked, prompts, speaker.answer_in_parts(policy, prompts, lengths.to(device), size, *how)


def evaluation_samples(
    speaker: Speaker,
    policy: nn.Module,
    tokenizer: Any,
    batch: Mapping[str, Sequence[Any]],
    options: EvaluationOptions,
    noise: torch.Generator | None,
    copies: int,
    device: torch.device,
    heard: Callable[[Tensor], None] | None = None,
) -> list[Samples]:
    """Answers a batch of prompts as often as asked, all in one batch.

    Args:
        speaker: Samples answers.
        policy: The policy, whose weights may differ from copy to copy.
        tokenizer: The policy's.
        batch: A batch of :class:`rslit.datamodules.TextDataModule`.
        options: How answers are decoded.
        noise: Generator of the sampling noise, the same for all copies; None decodes greedily.
        copies: Copies of the batch, one after the other.
        device: The policy's.
        heard: See :func:`rslit.language.generate`.

    Returns:
        The samples of each copy, without scores.
    """
    count = len(batch["items"])
    prompts = speaker.prompts(batch["prompt_ids"], device).repeat(copies)
    lengths = torch.full((copies * count,), options.max_new_tokens, device=device)
    answers = speaker.answer(
        policy, prompts, lengths, noise, copies, options.num_beams, options.stop_at_eos, heard=heard
    )
    parts = zip(*(torch.split(column, count) for column in answers), strict=True)
    return [text_samples(tokenizer, batch, Answers(*part)) for part in parts]
