"""Loading images: always RGB, always upright, and one clear line where that cannot be."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rslit.errors import RslitError
from rslit.vision.rows import ImageRow, ImageSource, RegionRow, Size

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["image_size", "load_image", "load_images"]

_ORIENTATION = 0x0112


def load_image(image: ImageRow | ImageSource, item: str | None = None, size: Size | None = None) -> Image.Image:
    """Loads one image as RGB with 8 bits a channel, turned as its EXIF orientation says.

    Grey, palette and CMYK images are converted; what is transparent becomes white.

    Args:
        image: A row, or a row's `image`.
        item: The row's id, for messages; a row knows its own.
        size: Width and height that the data file states; a row of a region knows its own. Boxes are in these pixels, so
            an image of another size would make them wrong in silence.

    Raises:
        RslitError: The image is missing, no image, truncated, of an unusual kind of pixels, or not of `size`.
    """
    if isinstance(image, ImageRow):
        item, size = image.item, image.size if isinstance(image, RegionRow) else size
        image = image.image
    where = _name(image, item)
    with _opened(image, where) as opened:
        from PIL import ImageOps

        opened.load()
        loaded = _rgb(ImageOps.exif_transpose(opened), where)
    if size is not None and loaded.size != tuple(size):
        raise RslitError(
            f"{where} is {loaded.width} x {loaded.height}, but its data file says {size[0]} x {size[1]}, and boxes are "
            f"in those pixels; give the original images"
        )
    return loaded


def load_images(batch: Mapping[str, Sequence[Any]]) -> list[Image.Image]:
    """Loads the images of a batch of a vision datamodule, in order; one that several rows share is loaded once.

    Raises:
        RslitError: As :func:`load_image`.
    """
    sizes = batch.get("image_size") or [None] * len(batch["items"])
    loaded: dict[ImageSource, Image.Image] = {}
    for item, image, size in zip(batch["items"], batch["image"], sizes, strict=True):
        if image not in loaded:
            loaded[image] = load_image(image, item, size)
    return [loaded[image] for image in batch["image"]]


def image_size(image: ImageSource, item: str | None = None) -> Size:
    """Width and height of an image, upright, from its header alone.

    Raises:
        RslitError: The image is missing or none.
    """
    with _opened(image, _name(image, item)) as opened:
        width, height = opened.size
        turned = opened.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def _name(image: ImageSource, item: str | None) -> str:
    return f"image {image}" + ("" if item is None else f" of item {item}")


@contextmanager
def _opened(image: ImageSource, where: str) -> Iterator[Image.Image]:
    """An image that is not decoded yet. Whatever is wrong with it, here or in decoding, is one line."""
    try:  # here, since every datamodule imports this file
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise RslitError(f"{where} needs the package pillow: pip install 'rslit[vision]'") from None
    # What Pillow's decoders raise on broken files.
    broken = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
    try:
        with Image.open(image if isinstance(image, Path) else io.BytesIO(image.read())) as opened:
            yield opened
    except FileNotFoundError:
        raise RslitError(f"{where} does not exist; put the file there, or give the right folder of images") from None
    except broken as error:
        reason = "it is no image file" if isinstance(error, UnidentifiedImageError) else str(error)
        line = f"{where} cannot be read ({reason}); fetch it again, or take the item out of the data"
        raise RslitError(line) from error


def _rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I;16"):  # grey with 16 bits, which Pillow would cut off at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("I", "F"):
        raise RslitError(f"{where} has pixels of kind '{image.mode}' without a known range; save it with 8 bits")
    if image.has_transparency_data:
        from PIL import Image

        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image if image.mode == "RGB" else image.convert("RGB")
