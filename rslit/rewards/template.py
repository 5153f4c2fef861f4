"""The text a classifier reads: question, response and special tokens in the order it was trained with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from rslit.errors import RslitError

__all__ = ["SPECIAL", "Filled", "Template"]

SPECIAL = ("bos", "eos", "sep", "cls")


@dataclass(frozen=True)
class Filled:
    """A filled template.

    Attributes:
        text: What the tokenizer reads.
        question: First and one past the last character of the question in it; both 0 where there is none.
    """

    text: str
    question: tuple[int, int]


class Template:
    """A template such as `{question}{sep}{response}`.

    The paper's reward models and their templates:

        Tristan/gpt2_reward_summarization           {response} {bos} {question}
        CogComp/bart-faithful-summary-detector      {response}{sep}{sep}{question}
        OpenAssistant/reward-model-*                {question}{sep}{response}
        the same, scoring movie reviews             {cls}Generate a movie review.{sep}{response}

    Special tokens that are written out in a question or a response become spaces: a policy must not learn to write its
    judge's control tokens, and BART counts them.

    Args:
        text: The template. `{response}` once; `{question}` once unless `question_free`; any of `{bos}`, `{eos}`,
            `{sep}`, `{cls}`; a literal brace is doubled.
        special: The tokenizer's text of each of these tokens, None where it has none.
        control: All special tokens of the tokenizer.
        owner: The reward, for messages.
        model: The model, for messages.
        question_free: The template has no question on purpose.

    Raises:
        RslitError: `{response}` or `{question}` is missing, named twice or unexpected, another placeholder is unknown,
            or the tokenizer lacks a special token.
    """

    def __init__(
        self,
        text: str,
        special: Mapping[str, str | None],
        control: Sequence[str],
        owner: str,
        model: str,
        question_free: bool = False,
    ) -> None:
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise RslitError(f"{owner}: template {text!r}: {error}; double a literal brace") from None
        # Runs of the template: a literal text, or the name of a placeholder.
        self._parts: list[tuple[str, bool]] = []
        for literal, name, form, conversion in parts:
            if literal:
                self._parts.append((literal, False))
            if name is None:
                continue
            if name in SPECIAL and not (form or conversion):
                self._parts.append((_special(name, special, owner, model), False))
            elif name in ("question", "response") and not (form or conversion):
                self._parts.append((name, True))
            else:
                known = ", ".join(f"{{{each}}}" for each in ("question", "response", *SPECIAL))
                raise RslitError(f"{owner}: template {text!r}: unknown placeholder {{{name}}}; there are {known}")
        names = [part for part, placeholder in self._parts if placeholder]
        if names.count("response") != 1:
            raise RslitError(f"{owner}: template {text!r} must hold {{response}} once")
        if names.count("question") > 1:
            raise RslitError(f"{owner}: template {text!r} holds {{question}} twice; keep one")
        self.asks = "question" in names
        if self.asks == question_free:
            problem = (
                "holds {question} although question_free is true; remove one of them"
                if question_free
                else "has no {question}: the model would judge answers without knowing what was asked; put {question} "
                "in, or set question_free: true if that is meant"
            )
            raise RslitError(f"{owner}: template {text!r} {problem}")
        self._control = re.compile("|".join(map(re.escape, sorted(set(control), key=len, reverse=True))) or r"(?!)")

    def fill(self, question: str, response: str) -> Filled:
        """The text for one sample.

        Args:
            question: Unused if the template has none.
            response: May be empty.
        """
        values = {"question": self._control.sub(" ", question), "response": self._control.sub(" ", response)}
        text, span = "", (0, 0)
        for part, placeholder in self._parts:
            start = len(text)
            text += values[part] if placeholder else part
            if placeholder and part == "question":
                span = (start, len(text))
        return Filled(text, span)


def _special(name: str, special: Mapping[str, str | None], owner: str, model: str) -> str:
    token = special.get(name)
    if not token:
        has = ", ".join(f"{{{each}}}" for each in SPECIAL if special.get(each)) or "none of them"
        raise RslitError(f"{owner}: the tokenizer of {model} has no {name} token for {{{name}}}; it has {has}")
    return token
