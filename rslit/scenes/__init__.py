"""A world of drawn scenes with captions, questions and referring expressions, in the file formats of COCO and its kin.

    python -m rslit.scenes OUT

Everything about a scene is a pure function of the seed, the split and the scene's number. Pillow is imported when a
scene is drawn; nothing else here leaves the standard library.
"""

from __future__ import annotations

from rslit.scenes.captions import caption_scene
from rslit.scenes.draw import draw_scene
from rslit.scenes.expressions import refer_to
from rslit.scenes.files import World, write_world
from rslit.scenes.questions import Question, ask_about
from rslit.scenes.world import Scene, Thing, area_limits, sample_scene

__all__ = [
    "Question",
    "Scene",
    "Thing",
    "World",
    "area_limits",
    "ask_about",
    "caption_scene",
    "draw_scene",
    "refer_to",
    "sample_scene",
    "write_world",
]
