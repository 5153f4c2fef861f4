"""From a prompt to the token ids that the policy continues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from rslit.datamodules.text_prompts import Prompt
from rslit.errors import RslitError
from rslit.seeds import stream_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Template", "encode", "prefix_ids", "prefix_length", "render"]

Template = Literal["alpaca", "chat", "plain"]


def render(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, template: Template, system: str | None = None) -> str:
    """The whole text that the policy is given, but for the beginning of the answer.

    * ``alpaca``: the one-line form of the paper's code, with a blank at the end:
      ``### Instruction: ... ### Input: ... ### Response: ``; a question without instruction is the instruction.
    * ``chat``: the tokenizer's own template up to where the assistant speaks; instruction, blank line and question are
      the user's turn.
    * ``plain``: the question.

    Args:
        tokenizer: Used by ``chat``.
        prompt: What to ask.
        template: Which form.
        system: The system's turn, for ``chat``; None leaves it to the template, which may have one of its own.

    Raises:
        RslitError: ``chat`` without a template in the tokenizer, or one that refuses these turns.
    """
    if template == "plain":
        return prompt.question
    if template == "alpaca":
        if not prompt.instruction:
            return f"### Instruction: {prompt.question} ### Response: "
        return f"### Instruction: {prompt.instruction} ### Input: {prompt.question} ### Response: "
    if tokenizer.chat_template is None:
        raise RslitError("data.template: this tokenizer has no chat template; use template: alpaca or plain")
    user = f"{prompt.instruction}\n\n{prompt.question}" if prompt.instruction else prompt.question
    turns = [{"role": "user", "content": user}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    except TemplateError as error:  # some templates know no system's turn
        raise RslitError(f"data.template: the tokenizer's chat template refuses these turns ({error})") from error


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], template: Template) -> list[list[int]]:
    """Token ids of rendered texts: with one BOS where the tokenizer puts one, without EOS, whatever it adds itself.

    A chat template writes its special tokens out, so nothing is added to it.

    Args:
        tokenizer: The policy's.
        texts: What :func:`render` gave.
        template: How it gave it.
    """
    if not texts:
        return []
    # As a plain dict: a BatchEncoding has no public type for lists.
    ids: list[list[int]] = dict(tokenizer(list(texts), add_special_tokens=False))["input_ids"]
    if template == "chat":
        return ids
    bos = _bos(tokenizer)
    return [bos + row if row[: len(bos)] != bos else row for row in ids]


def _bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The BOS, in a list, if the tokenizer begins each text with one by itself; else an empty list."""
    if tokenizer.bos_token_id is None:
        return []
    bare: Any = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed: Any = tokenizer("a")["input_ids"]
    before = framed[: framed.index(bare[0])] if bare and bare[0] in framed else []
    return [tokenizer.bos_token_id] if tokenizer.bos_token_id in before else []


def prefix_length(item: str, bounds: tuple[int, int]) -> int:
    """How many tokens of an item's reference its prompt carries: uniform within the bounds, both included.

    Drawn from a stream named by the item alone, not by the run's seed: an item is the same prompt for every expert, λ,
    seed and epoch, so that scores can be paired.
    """
    low, high = bounds
    return low + stream_seed(0, "prefix", item) % (high - low + 1)


def prefix_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], bounds: tuple[int, int]
) -> list[list[int]]:
    """The first tokens of each prompt's reference, as many as :func:`prefix_length` says (or as there are)."""
    # 64 characters a token are plenty, and whole reviews take long to split.
    heads = [prompt.reference[: 64 * bounds[1]] for prompt in prompts]
    ids: list[list[int]] = dict(tokenizer(heads, add_special_tokens=False))["input_ids"] if heads else []
    return [row[: prefix_length(prompt.item, bounds)] for row, prompt in zip(ids, prompts, strict=True)]
