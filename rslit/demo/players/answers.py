"""Captioning, VQA and visual grounding: what is said about an image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from rslit.callbacks.drawing import CELL, Picture
from rslit.callbacks.image_rows import answer_row, given, number, said
from rslit.datamodules.vision import VisionDataModule
from rslit.demo.players.base import ITEMS, NOISE, ColumnPlayer, Tell, choose_item, plain
from rslit.modules.vision import VisionModule
from rslit.vision.images import load_image
from rslit.vision.rows import ImageRow, QuestionRow

__all__ = ["AnswerPlayer"]

_SCALE = 2  # pixels of a unit of the picture
_LONGEST = 300  # characters of a visitor's question


@dataclass(frozen=True)
class Asked:
    """A row, and whether the visitor asked something else about its image than the data do."""

    row: ImageRow
    own: bool = False


class AnswerPlayer(ColumnPlayer):
    """Says something about a held-out image: a caption, an answer to a question, or a box for an expression.

    Question and expression can be the visitor's own. Answers are decoded as in the sweep.
    """

    def __init__(self, module: VisionModule, data: VisionDataModule[Any]) -> None:
        self.module = module
        held_out = data.evaluation_batches()
        self.rows, self.collate = list(held_out.rows[:ITEMS]), held_out.collate

    def choose(self) -> Hashable | None:
        """A held-out image and, where the task asks something, the question or expression."""
        asks = self.module.asks
        label = "Image" if asks is None else f"Image and {asks}"
        row: Any = choose_item(label, self.rows, lambda row: str(getattr(row, asks or "item")), "row")
        if asks is None:
            st.caption("People: " + plain(" · ".join(given({"references": row.captions}))))
            return Asked(row)
        own = st.text_input(
            f"{asks.capitalize()} (write your own)", getattr(row, asks), _LONGEST, key=f"asked {row.item}"
        ).strip()
        if not own:
            st.info(f"Write the {asks}, and the policies answer it.")
            return None
        if own != getattr(row, asks):
            return Asked(replace(row, **{asks: own}), own=True)
        if isinstance(row, QuestionRow):
            st.caption("People: " + plain(" · ".join(given({"answers": row.answers}))))
        return Asked(row)

    def act(self, what: Asked, tell: Tell) -> Mapping[str, Any]:
        """What the policy says, as `rslit.callbacks.image_rows.answer_row` has it."""
        (samples,) = self.module.answer(self.collate([what.row]), NOISE, 1)
        return answer_row(samples, 0)

    def draw(self, what: Asked, made: Mapping[str, Any]) -> None:
        """The image, with the box on it, and what was said below."""
        image = load_image(what.row)
        if "target" in made:
            right = None if what.own else made["target"]
            image = Picture(image, right, [made["box"]] if made["box"] else []).image(CELL * _SCALE, _SCALE)
        st.image(image, width="stretch")
        if said(made):
            st.text(said(made))
        if "target" in made and not what.own:
            st.caption(f"dashed: the answer · line: the right box · IoU {number(made['iou'])}")
