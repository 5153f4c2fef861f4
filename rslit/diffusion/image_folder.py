"""A folder of generated images, which says itself what it holds, and the rewards of those images.

    FOLDER/images/<item>.png   the image; text chunks say item, prompt, seed and what drew it
    FOLDER/images.jsonl        item, file, prompt, seed of each image, in the order of the prompts, once all are there
    FOLDER/rewards.parquet     column `item` and a float32 column per reward, in the same order, once they are scored

Every file appears whole or not at all, so a run that is killed goes on with the first image that is missing.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import torch
from torch import Tensor

from rslit.diffusion.prompts import ImagePrompt, read_prompts
from rslit.errors import RslitError
from rslit.front.files import write_bytes

__all__ = [
    "INDEX",
    "REWARDS",
    "GeneratedImage",
    "check_image",
    "image_path",
    "image_text",
    "png_bytes",
    "read_index",
    "read_rewards",
    "reward_columns",
    "write_image",
    "write_index",
    "write_rewards",
]

INDEX = "images.jsonl"
REWARDS = "rewards.parquet"

# Longest name that file systems take is 255 bytes; the temporary file's is longer by a few.
_LONGEST = 200


@dataclass(frozen=True)
class GeneratedImage(ImagePrompt):
    """A prompt and the file of the image that was drawn from it."""

    path: Path


# -- one image ------------------------------------------------------------------------------------------------------


def image_path(folder: Path, item: str) -> Path:
    """The file of an item's image. What may not stand in a file's name is escaped as in web addresses."""
    name = quote(item, safe=" ,=+@")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 17]}-{hashlib.sha256(item.encode()).hexdigest()[:16]}"
    return folder / "images" / f"{name}.png"


def png_bytes(image: Tensor, text: Mapping[str, str]) -> bytes:
    """An image as PNG with text chunks, which image viewers show as its properties.

    Args:
        image: uint8 (3, H, W), RGB.
        text: What the chunks say, by keyword (1 to 79 characters of Latin-1).
    """
    from PIL import Image, PngImagePlugin

    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
        raise RslitError(f"an image must be uint8 (3, H, W), got {image.dtype} {tuple(image.shape)}")
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)  # Latin-1 where that will do, else UTF-8
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def image_text(path: Path, decode: bool = False) -> dict[str, str]:
    """What the text chunks before an image's pixels say, by keyword.

    Args:
        path: The file.
        decode: Read the pixels too, to be sure that they are whole.

    Raises:
        RslitError: The file is missing or broken.
    """
    from PIL import Image

    # What Pillow raises on broken files.
    broken = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            if decode:
                opened.load()
            return {str(key): str(value) for key, value in opened.info.items() if isinstance(value, str)}
    except FileNotFoundError:
        raise RslitError(f"{path} does not exist; run `rslit predict` again, which draws what is missing") from None
    except (*broken, Image.DecompressionBombError) as error:
        raise RslitError(
            f"{path} is no image that can be read ({str(error).splitlines()[0]:.80}); delete it and run "
            "`rslit predict` again, which draws what is missing"
        ) from error


def write_image(folder: Path, item: str, image: Tensor, text: Mapping[str, str]) -> None:
    """Writes an item's image.

    Args:
        folder: See the module.
        item: Its id.
        image: uint8 (3, H, W), RGB.
        text: What its text chunks say.
    """
    write_bytes(image_path(folder, item), png_bytes(image, text))


def check_image(path: Path, text: Mapping[str, str], decode: bool = True) -> None:
    """Makes sure that an image is whole and is the one that is meant.

    Args:
        path: The file.
        text: What its text chunks should say; they may say more.
        decode: See `image_text`.

    Raises:
        RslitError: It is missing or broken, or was drawn from something else.
    """
    found = image_text(path, decode)
    for key, wanted in text.items():
        if found.get(key) != wanted:
            was = f"says {key} '{found[key]:.60}'" if key in found else f"does not say its {key}"
            raise RslitError(
                f"{path} is another image: it {was}, not '{wanted:.60}'; delete it, delete {path.parent.parent}, or "
                "give another folder"
            )


# -- all of them ----------------------------------------------------------------------------------------------------


def write_index(folder: Path, prompts: Iterable[ImagePrompt]) -> None:
    """Writes ``images.jsonl``, once the image of every prompt is there."""
    lines = [
        {"item": p.item, "file": str(image_path(Path(), p.item)), "prompt": p.prompt, "seed": p.seed} for p in prompts
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_bytes(folder / INDEX, text.encode())


def read_index(folder: Path, key: str = "data.folder") -> list[GeneratedImage]:
    """The images of a folder, in the order of the prompts.

    Args:
        folder: See the module.
        key: The option that names it, for messages.

    Raises:
        RslitError: There is no such folder, its images are not all drawn, or its list of them is broken.
    """
    if not folder.is_dir():
        raise RslitError(
            f"{key}: there is no folder {folder}; draw images into it with `rslit predict` and the callback "
            "rslit.callbacks.ImageWriter"
        )
    if not (folder / INDEX).is_file():
        raise RslitError(
            f"{key}: {folder} has no {INDEX}, so its images are not all drawn; run the `rslit predict` that draws them "
            "again"
        )
    prompts = read_prompts(str(folder / INDEX), key=key)
    return [GeneratedImage(p.item, p.prompt, p.seed, image_path(folder, p.item)) for p in prompts]


# -- rewards --------------------------------------------------------------------------------------------------------


def write_rewards(folder: Path, items: Sequence[str], columns: Mapping[str, Mapping[str, float]]) -> None:
    """Writes rewards beside those that are there; a column of the same name is replaced.

    Args:
        folder: See the module.
        items: Ids of all images, in their order.
        columns: Rewards by name, each by item; NaN where one does not apply or is missing.

    Raises:
        RslitError: The table that is there is broken.
    """
    kept = read_rewards(folder).reindex(list(items)) if (folder / REWARDS).exists() else pd.DataFrame(index=list(items))
    for name, values in columns.items():
        kept[name] = [values.get(item, math.nan) for item in items]
    kept = kept.astype("float32").rename_axis("item").reset_index()
    file = io.BytesIO()
    kept.to_parquet(file, index=False)
    write_bytes(folder / REWARDS, file.getvalue())


def read_rewards(folder: Path) -> pd.DataFrame:
    """The rewards of a folder's images: a float column per reward, the index is the item.

    Raises:
        RslitError: The images are not scored, or the table is broken.
    """
    path = folder / REWARDS
    if not path.is_file():
        raise RslitError(
            f"{path} does not exist: the images are not scored; run `rslit predict` with the model "
            "rslit.modules.ImageScorer on this folder"
        )
    import pyarrow

    again = "delete it and score the images again"
    try:
        frame = pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RslitError(f"{path} is no parquet that can be read ({error}); {again}") from error
    if "item" not in frame or frame["item"].duplicated().any():
        raise RslitError(f"{path} has no column 'item' with one row per image; {again}")
    frame = frame.set_index("item")
    other = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    if other:
        raise RslitError(f"{path}: column '{other[0]}' has no numbers; {again}")
    return frame


def reward_columns(folder: Path, items: Sequence[str], names: Iterable[str]) -> dict[str, Tensor]:
    """Rewards of images by name.

    Args:
        folder: See the module.
        items: Ids of M images.
        names: The rewards.

    Returns:
        float64 (M,) each, without NaN.

    Raises:
        RslitError: As `read_rewards`; or a reward has no column, or does not have every image.
    """
    frame = read_rewards(folder).reindex(list(items))
    columns: dict[str, Tensor] = {}
    for name in names:
        if name not in frame:
            there: list[Any] = list(frame)
            raise RslitError(
                f"{folder / REWARDS} has no reward '{name}'; it has: {', '.join(map(str, there)) or 'none'}; name one "
                "of these in the model's reward, or score the images with it too"
            )
        values = frame[name].to_numpy("float64")
        missing = pd.isna(values)
        if missing.any():
            raise RslitError(
                f"{folder / REWARDS}: {int(missing.sum())} of {len(items)} images have no reward '{name}', the first "
                f"of item {items[int(missing.argmax())]}; score the images again, or leave out those it does not "
                "apply to"
            )
        columns[name] = torch.tensor(values)
    return columns
