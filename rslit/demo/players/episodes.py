"""Locomotion: an episode of each policy, side by side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import streamlit as st

from rslit.callbacks.episode_page import Episode, episode_page
from rslit.callbacks.episodes import play_episode, start_episode
from rslit.demo.players.base import Play, Player, Tell
from rslit.envs import PosedEpisodes
from rslit.errors import RslitError
from rslit.modules import LocomotionModule

__all__ = ["EpisodePlayer"]

_LENGTH = 200


class EpisodePlayer(Player):
    """Plays the first steps of an episode by the mode of each policy, all from the same first state.

    Args:
        module: The task's module.

    Raises:
        RslitError: The simulator does not say where its bodies are.
    """

    def __init__(self, module: LocomotionModule) -> None:
        self.module = module
        first = start_episode(module, 0)
        if not isinstance(first, PosedEpisodes):
            raise RslitError(
                f"{type(module.env).__name__} does not say where its bodies are, so the demo has no episode to show; "
                "use an environment of Brax or of MuJoCo"
            )
        self.model, self.seconds = first.model, first.seconds

    def choose(self) -> Hashable | None:
        """The seed of the first state."""
        return int(st.number_input("First state (seed)", 0, 2**31 - 1, 0, key="seed"))

    def act(self, what: int, tell: Tell) -> Episode:
        """The episode."""
        return play_episode(self.module, {}, what, _LENGTH)

    def show(self, what: int, plays: Mapping[str, Play]) -> None:
        """Plays all policies and shows them in one page, where they run in step."""
        slot = st.empty()
        slot.caption("the policies act …")
        episodes = [replace(play(slot.caption), heading=heading) for heading, play in plays.items()]
        shown = min(_LENGTH, self.module.env.episode_length)
        lead = f"The first {shown} of {self.module.env.episode_length} steps, by the mode of each policy."
        page = episode_page("Episodes", lead, self.model, self.seconds, episodes)
        with slot.container():
            st.iframe(page, height=700)
