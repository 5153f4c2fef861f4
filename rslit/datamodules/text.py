"""Prompts: the data of text-to-text tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from rslit.datamodules.base import RewardedDataModule
from rslit.datamodules.text_prompts import Part, Prompt, PromptSource, Tally
from rslit.datamodules.text_templates import Template, encode, prefix_ids, render
from rslit.datamodules.walk import Batch, EvaluationBatches, TrainingBatches
from rslit.errors import RslitError

__all__ = ["TextDataModule"]


@dataclass(frozen=True)
class _Ready:
    """A prompt with everything a batch holds of it."""

    prompt: Prompt
    text: str
    ids: list[int]
    prefix_ids: list[int]
    prefix: str


def _collate(chosen: Sequence[_Ready]) -> Batch:
    return {
        "items": [ready.prompt.item for ready in chosen],
        "prompt_ids": [ready.ids for ready in chosen],
        "question": [ready.prompt.question for ready in chosen],
        "prompt": [ready.text for ready in chosen],
        "prefix_ids": [ready.prefix_ids for ready in chosen],
        "prefix": [ready.prefix for ready in chosen],
        "reference": [ready.prompt.reference for ready in chosen],
    }


class TextDataModule(RewardedDataModule):
    """Prompts to train on and held-out prompts to evaluate on.

    A batch, in training and evaluation, is a dict of equally long lists: ``items`` (ids), ``prompt_ids`` (token ids of
    the whole prompt, with the reference's prefix), ``question``, ``prompt`` (the text, without prefix), ``prefix_ids``
    and ``prefix`` (the beginning of the reference that the answer goes on from, if any), ``reference``.

    The tokenizer is that of the module under the trainer.
    """

    def __init__(
        self,
        source: PromptSource,
        template: Template = "chat",
        system: str | None = None,
        prefix_tokens: tuple[int, int] | None = None,
        batch_size: int = 128,
        rollouts_per_epoch: int | None = None,
        eval_prompts: int = 200,
        eval_batch_size: int | None = None,
        max_prompt_tokens: int | None = None,
    ) -> None:
        """Takes a source and sizes.

        Args:
            source: Where prompts come from: one of the paper's tasks, or a table of one's own.
            template: ``alpaca`` (one line, as in the paper's code), ``chat`` (the tokenizer's) or ``plain``.
            system: The system's turn of ``chat``; default what the template has itself.
            prefix_tokens: Bounds, both included, of how many tokens of the reference each prompt carries; the paper's
                code has (2, 7). The number is drawn once per item, independently of the seed.
            batch_size: Prompts of a rollout, on each device.
            rollouts_per_epoch: Rollouts in one Lightning epoch; default one pass over the data. Shorter epochs go on
                where the one before stopped.
            eval_prompts: Prompts of an evaluation, over all devices: the first of the held-out part.
            eval_batch_size: Held-out prompts answered side by side for each λ; default `batch_size`.
            max_prompt_tokens: Longer prompts (with prefix) are left out.
        """
        super().__init__()
        sizes = {"batch_size": batch_size, "rollouts_per_epoch": rollouts_per_epoch, "eval_prompts": eval_prompts}
        sizes |= {"eval_batch_size": eval_batch_size, "max_prompt_tokens": max_prompt_tokens}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise RslitError(f"data.{name} must be at least 1, got {value}")
        if prefix_tokens is not None and not 0 <= prefix_tokens[0] <= prefix_tokens[1]:
            raise RslitError(f"data.prefix_tokens must be two bounds, the smaller first, got {list(prefix_tokens)}")
        if system is not None and template != "chat":
            raise RslitError(f"data.system is the system's turn of template 'chat'; template '{template}' has none")
        self.source = source
        self.template: Template = template
        self.system = system
        self.prefix_tokens = prefix_tokens
        self.batch_size = batch_size
        self.rollouts_per_epoch = rollouts_per_epoch
        self.eval_prompts = eval_prompts
        self.eval_batch_size = eval_batch_size or batch_size
        self.max_prompt_tokens = max_prompt_tokens
        self._ready: dict[Part, list[_Ready]] = {}

    # -- loaders --------------------------------------------------------------------------------------------------

    def batches(self) -> TrainingBatches[_Ready]:
        """Prompts to answer in training.

        Raises:
            RslitError: No data, or too few for one batch on each device.
        """
        prompts = self._prepared("train")
        if len(prompts) < self.batch_size * self.world_size:
            raise RslitError(
                f"data.batch_size: {self.batch_size} prompts on each of {self.world_size} devices are more than the "
                f"{len(prompts)} of {self.source.place('train')}"
            )
        return TrainingBatches(self, prompts, "prompts", lambda chosen, number: _collate(chosen))

    def evaluation_batches(self) -> EvaluationBatches[_Ready]:
        """See the base class."""
        prompts = self._prepared("eval")[: self.eval_prompts]
        return EvaluationBatches(prompts[self.rank :: self.world_size], self.eval_batch_size, _collate)

    # -- prompts --------------------------------------------------------------------------------------------------

    def batch_of(self, tokenizer: Any, prompts: Sequence[Prompt]) -> Batch:
        """A batch of any prompts, without a trainer. One without a reference has no prefix."""
        return _collate(list(self._encode(tokenizer, prompts)))

    def _module(self) -> Any:
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        for candidate in (module, getattr(module, "module", None)):
            if getattr(candidate, "tokenizer", None) is not None:
                return candidate
        raise RslitError(f"data: {type(module).__name__} has no tokenizer; TextDataModule goes with a TextModule")

    def _prepared(self, part: Part) -> list[_Ready]:
        """All prompts of a part, ready for batches; read and split into tokens once."""
        if part not in self._ready:
            module = self._module()
            prompts, tally = self.source.prompts(part)
            if self.prefix_tokens is not None and not any(prompt.reference for prompt in prompts):
                raise RslitError("data.prefix_tokens: the prompts have no references to begin with; set it to null")
            if part == "eval" and self.max_prompt_tokens is None:
                prompts = prompts[: self.eval_prompts]  # splitting the rest into tokens would be for nothing
            ready = [p for p in self._encode(module.tokenizer, prompts) if self._fits(p, tally)]
            if not ready:
                raise RslitError(f"data.source: no prompt is left of {self.source.place(part)}: {tally}")
            self._check_context(module, ready)
            self._ready[part] = ready
            rank_zero_info(f"data: {self._report(part, len(ready), tally)}")
        return self._ready[part]

    def _encode(self, tokenizer: Any, prompts: Sequence[Prompt]) -> Iterator[_Ready]:
        texts = [render(tokenizer, prompt, self.template, self.system) for prompt in prompts]
        prefixes: list[list[int]] = [[] for _ in prompts]
        if self.prefix_tokens is not None:
            prefixes = prefix_ids(tokenizer, prompts, self.prefix_tokens)
        starts = [tokenizer.decode(prefix) if prefix else "" for prefix in prefixes]
        for prompt, text, ids, prefix, start in zip(
            prompts, texts, encode(tokenizer, texts, self.template), prefixes, starts, strict=True
        ):
            yield _Ready(prompt, text, ids + prefix, prefix, start)

    def _fits(self, ready: _Ready, tally: Tally) -> bool:
        if self.max_prompt_tokens is None or len(ready.ids) <= self.max_prompt_tokens:
            return True
        tally.take(f"more than {self.max_prompt_tokens} tokens")
        return False

    def _check_context(self, module: Any, prompts: Sequence[_Ready]) -> None:
        context = getattr(module, "context_length", None)
        if context is None:
            return
        new = int(getattr(module, "max_new_tokens", None) or 0)
        longest = max(prompts, key=lambda ready: len(ready.ids))
        if len(longest.ids) + new > context:
            raise RslitError(
                f"data: the prompt of item {longest.prompt.item} has {len(longest.ids)} tokens, with {new} new ones "
                f"more than the model's context of {context}; set data.max_prompt_tokens to {context - new} or less"
            )

    def _report(self, part: Part, count: int, tally: Tally) -> str:
        if part == "eval":
            count = min(count, self.eval_prompts)
            fewer = f" (eval_prompts asks for {self.eval_prompts:,})" if count < self.eval_prompts else ""
            return f"{count:,} prompts to evaluate on{fewer} from {self.source.place(part)}: {tally}"
        return f"{count:,} prompts to train on from {self.source.place(part)}: {tally}"
