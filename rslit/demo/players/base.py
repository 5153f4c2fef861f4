"""What a task shows of a policy: an input that the visitor chooses, and what the policy makes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from rslit.seeds import stream_seed

__all__ = ["ITEMS", "NOISE", "ColumnPlayer", "Play", "Player", "Tell", "choose_item", "in_columns", "plain"]

Tell = Callable[[str], object]
"""Takes what has been said so far."""

Play = Callable[[Tell], Any]
"""Pours a policy, lets it act and gives what came out."""

ITEMS = 50
"""Held-out items that a visitor chooses from."""

NOISE = stream_seed(0, "demo")
"""Seed of the sampling noise, the same for every policy: what differs between two is their weights' doing."""

_COLUMNS = 4

T = TypeVar("T")


class Player(ABC):
    """Plays one task. It is made once, for all visitors; what a visitor chose is in the visitor's session."""

    @abstractmethod
    def choose(self) -> Hashable | None:
        """Draws the widgets and gives what to act on; None if there is nothing to act on yet."""

    @abstractmethod
    def act(self, what: Any, tell: Tell) -> Any:
        """What the policy, with the weights it holds, makes of it; `tell` may be given what is there so far."""

    @abstractmethod
    def show(self, what: Any, plays: Mapping[str, Play]) -> None:
        """Plays all policies, by their headings, and shows what came out."""


class ColumnPlayer(Player):
    """Plays a task whose policies are shown in a column each."""

    @abstractmethod
    def draw(self, what: Any, made: Any) -> None:
        """Shows what came out, in the column of its policy."""

    def show(self, what: Any, plays: Mapping[str, Play]) -> None:
        """Shows each policy as soon as it has acted."""
        for (heading, play), column in zip(plays.items(), in_columns(len(plays)), strict=True):
            with column:
                st.markdown(f"**{plain(heading)}**")
                slot = st.empty()
                slot.caption("waiting for the model …")
                made = play(slot.text)
                with slot.container():
                    self.draw(what, made)


def in_columns(count: int) -> Iterator[Any]:
    """Places for so many policies, side by side as long as there is room; one below the other on a phone."""
    for start in range(0, count, _COLUMNS):
        width = min(_COLUMNS, count)
        # Each its own frame: places of the last row that stay empty have none.
        yield from (column.container(border=True) for column in st.columns(width)[: count - start])


def plain(text: str) -> str:
    """Markdown that shows the text as it is."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#$|~:" else letter for letter in text)


def choose_item(label: str, items: Sequence[T], name: Callable[[T], str], key: str) -> T:
    """Lets the visitor choose one of the held-out items."""
    return items[st.selectbox(label, range(len(items)), format_func=lambda k: f"{k + 1}. {name(items[k])}", key=key)]
