"""Text-to-text: the answer to a prompt, token by token."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import streamlit as st

from rslit.datamodules import TextDataModule
from rslit.datamodules.text_prompts import Prompt
from rslit.demo.players.base import ITEMS, NOISE, ColumnPlayer, Tell, choose_item
from rslit.modules import TextModule
from rslit.modules.text_samples import evaluation_samples
from rslit.seeds import generator

__all__ = ["TextPlayer"]

_LONGEST = 2000  # characters of a visitor's prompt


class TextPlayer(ColumnPlayer):
    """Answers a held-out prompt or the visitor's, decoded as in the sweep, with the sweep's template.

    A held-out prompt carries the beginning of its reference answer where the sweep's did; the visitor's has none.
    """

    def __init__(self, module: TextModule, data: TextDataModule) -> None:
        self.module, self.data = module, data
        self.prompts = data.source.prompts("eval")[0][: min(ITEMS, data.eval_prompts)]

    def choose(self) -> Hashable | None:
        """A held-out prompt, whose question can be changed."""
        chosen = choose_item("Prompt", self.prompts, lambda prompt: _short(prompt.question), "prompt")
        key = f"question {chosen.item}"
        text = st.text_area("Question (write your own)", chosen.question, 100, _LONGEST, key=key).strip()
        if not text:
            st.info("Write a question, and the policies answer it.")
            return None
        return chosen if text == chosen.question else Prompt("a visitor's", text, "", chosen.instruction)

    def act(self, what: Prompt, tell: Tell) -> str:
        """The answer; `tell` gets it token by token."""
        module, tokenizer = self.module, self.module.tokenizer
        batch = self.data.batch_of(tokenizer, [what])
        begun = list(batch["prefix_ids"][0])

        def heard(tokens: Any) -> None:
            tell(tokenizer.decode(begun + tokens[0].tolist(), skip_special_tokens=True).strip() + " ▌")

        noise = generator(NOISE, "answers", device=module.device) if module.evaluation.sample else None
        parts = module.speaker, module.policy, tokenizer, batch, module.evaluation, noise, 1, module.device
        (samples,) = evaluation_samples(*parts, heard=heard)
        return str(samples["response"][0])

    def draw(self, what: Prompt, made: str) -> None:
        """As plain text: an answer may hold anything that looks like Markdown."""
        st.text(made or "(nothing)")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
