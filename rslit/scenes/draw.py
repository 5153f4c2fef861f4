"""Drawing scenes with smooth edges."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING

from rslit.scenes.shapes import outline
from rslit.scenes.world import BACKGROUNDS, COLOURS, Scene

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["draw_scene", "jpeg"]

_FINER = 8


@lru_cache(maxsize=512)
def _mask(shape: str, width: int, height: int) -> Image.Image:
    """What share of each pixel (0 to 255) the shape covers: drawn eight times as large, then averaged."""
    from PIL import Image, ImageDraw

    fine = Image.new("L", (width * _FINER, height * _FINER))
    ImageDraw.Draw(fine).polygon(outline(shape, (0, 0, *fine.size)), fill=255)
    return fine.resize((width, height), Image.Resampling.BOX)


def draw_scene(scene: Scene) -> Image.Image:
    """The image of a scene, RGB, `scene.size` pixels wide and high."""
    from PIL import Image

    image = Image.new("RGB", (scene.size, scene.size), BACKGROUNDS[scene.background])
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box
        image.paste(COLOURS[thing.colour], thing.box, _mask(thing.shape, x1 - x0, y1 - y0))
    return image


def jpeg(image: Image.Image) -> bytes:
    """The image as a file, so little compressed that edges stay where they are (4 percent of a colour at most)."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=98, subsampling=0)
    return file.getvalue()
