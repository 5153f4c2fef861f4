"""Players: what each task shows of a policy. A task's libraries are imported when its player is made."""

from __future__ import annotations

from rslit.demo.players.base import Player
from rslit.demo.run_folder import SweepRun
from rslit.errors import RslitError

__all__ = ["Player", "player_of"]


def player_of(run: SweepRun) -> Player:
    """The player of a sweep's task.

    Raises:
        RslitError: The demo does not play the task, or the task's data or simulator cannot be used.
    """
    from rslit.modules import LocomotionModule, TextModule, TextToImageModule
    from rslit.modules.vision import VisionModule

    module, data = run.evaluator.module, run.data
    if isinstance(module, LocomotionModule):
        from rslit.demo.players.episodes import EpisodePlayer

        return EpisodePlayer(module)
    if isinstance(module, TextModule):
        from rslit.datamodules import TextDataModule
        from rslit.demo.players.text import TextPlayer

        if isinstance(data, TextDataModule):
            return TextPlayer(module, data)
    if isinstance(module, VisionModule):
        from rslit.datamodules.vision import VisionDataModule
        from rslit.demo.players.answers import AnswerPlayer

        if isinstance(data, VisionDataModule):
            return AnswerPlayer(module, data)
    if isinstance(module, TextToImageModule):
        from rslit.demo.players.images import ImagePlayer

        return ImagePlayer(module, data)
    raise RslitError(f"the demo does not play {type(module).__name__} on {type(data).__name__} yet")
