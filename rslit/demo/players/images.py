"""Text-to-image: the image of a prompt."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import streamlit as st
from PIL import Image

from rslit.callbacks.drawing import CELL, fitted
from rslit.demo.players.base import ITEMS, NOISE, ColumnPlayer, Tell, choose_item
from rslit.diffusion.prompts import ImagePrompt
from rslit.modules import TextToImageModule

__all__ = ["ImagePlayer"]

_LONGEST = 500  # characters of a visitor's prompt


class ImagePlayer(ColumnPlayer):
    """Draws a held-out prompt or the visitor's, from a seed that can be changed.

    Images are drawn one by one and not in the sweep's batches, so their last bits may differ from the sweep's.
    """

    def __init__(self, module: TextToImageModule, data: Any) -> None:
        self.module = module
        module.drawing = replace(module.drawing, rows=1)
        held_out = data.evaluation_batches()
        self.prompts: list[ImagePrompt] = list(held_out.rows[:ITEMS])
        self.collate = held_out.collate

    def choose(self) -> Hashable | None:
        """A held-out prompt, whose text can be changed, and the seed of the noise."""
        chosen = choose_item("Prompt", self.prompts, lambda prompt: prompt.prompt, "prompt")
        text = st.text_input("Prompt (write your own)", chosen.prompt, _LONGEST, key=f"prompt {chosen.item}").strip()
        other = st.number_input("Another seed (0: the prompt's own)", 0, 2**31 - 1, 0, key="seed")
        if not text:
            st.info("Write a prompt, and the policies draw it.")
            return None
        return replace(chosen, prompt=text, seed=other or chosen.seed)

    def act(self, what: ImagePrompt, tell: Tell) -> Image.Image:
        """The image."""
        (samples,) = self.module.answer(self.collate([what]), NOISE, 1)
        return Image.fromarray(samples["image"][0].permute(1, 2, 0).numpy())

    def draw(self, what: ImagePrompt, made: Image.Image) -> None:
        """The image; the pixels of a small one stay sharp squares."""
        st.image(fitted(made, max(2 * CELL, *made.size)), width="stretch")
