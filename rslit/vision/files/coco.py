"""COCO's captions: the official files of its splits, and Karpathy's split of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rslit.errors import RslitError
from rslit.vision.files.base import CaptionSource, Part, different
from rslit.vision.files.parsing import entries, get, image_root, locate, read_json, some
from rslit.vision.rows import CaptionRow

__all__ = ["CocoCaptions", "KarpathyCaptions", "coco_captions", "karpathy_captions"]


def coco_captions(path: Path, folder: Path) -> list[CaptionRow]:
    """Reads ``captions_<split>.json``: `images` with `id` and `file_name`, `annotations` with `image_id`, `caption`.

    Args:
        path: The file.
        folder: Where the split's images are.

    Returns:
        One row an image, in the file's order; `item` is the image's id.

    Raises:
        RslitError: The file is of another kind or split, or an image has no caption.
    """
    content = read_json(path)
    names = {str(get(e, "id", path, "an image")): e for e in entries(content, "images", path)}
    if isinstance(content, dict) and "annotations" not in content:
        raise RslitError(f"data.source: {path} has images without captions, as COCO's test sets; give another split")
    captions: dict[str, list[Any]] = {image: [] for image in names}
    for entry in entries(content, "annotations", path):
        image = str(get(entry, "image_id", path, "an annotation"))
        if image not in captions:
            raise RslitError(f"data.source: {path}: a caption is of image {image}, which is not in the file's 'images'")
        captions[image].append(get(entry, "caption", path, f"an annotation of image {image}"))
    files = {image: str(get(entry, "file_name", path, f"image {image}")) for image, entry in names.items()}
    found = locate(files, folder, path)
    return [CaptionRow(image, found[image], _some(captions[image], image, path)) for image in names]


def karpathy_captions(path: Path, root: Path, splits: Sequence[str]) -> list[CaptionRow]:
    """Reads some splits of ``dataset_coco.json``, or of Karpathy's files for Flickr, which have no `filepath`.

    Args:
        path: The file: `images` with `split`, `filepath`, `filename`, `cocoid` or `imgid`, `sentences` with `raw`.
        root: The folder with the folders of `filepath`.
        splits: Which of train, restval, val and test.

    Returns:
        One row an image, in the file's order; `item` is its `cocoid`, else its `imgid`.

    Raises:
        RslitError: The file is of another kind or has no such split, or an image is missing or has no caption.
    """
    files: dict[str, str] = {}
    captions: dict[str, tuple[str, ...]] = {}
    there: set[str] = set()
    for entry in entries(read_json(path), "images", path):
        split = str(get(entry, "split", path, "an image"))
        there.add(split)
        if split not in splits:
            continue
        image = str(entry["cocoid"] if "cocoid" in entry else get(entry, "imgid", path, "an image"))
        if image in files:
            raise RslitError(f"data.source: {path} has image {image} twice; fetch the file again")
        files[image] = f"{entry.get('filepath', '')}/{get(entry, 'filename', path, f'image {image}')}".lstrip("/")
        sentences = [get(s, "raw", path, f"a sentence of image {image}") for s in entry.get("sentences", [])]
        captions[image] = _some(sentences, image, path)
    if not files:
        has = ", ".join(sorted(there))
        raise RslitError(f"data.source: {path} has no image of split {' or '.join(splits)}; its splits: {has}")
    found = locate(files, root, path)
    return [CaptionRow(image, found[image], captions[image]) for image in files]


def _some(captions: Sequence[Any], image: str, path: Path) -> tuple[str, ...]:
    return some(captions, path, f"the caption of image {image}", "add the references of this image, or take it out")


class KarpathyCaptions(CaptionSource):
    """COCO in the split that captioning reports on: ``dataset_coco.json`` with train, restval, val and test."""

    def __init__(
        self,
        folder: str,
        file: str = "dataset_coco.json",
        images: str | None = None,
        train_splits: Sequence[str] = ("train", "restval"),
        eval_split: str = "val",
    ) -> None:
        """Takes the places; nothing is read yet.

        Args:
            folder: Where the file is.
            file: The file's path inside `folder`.
            images: Folder with ``train2014/`` and ``val2014/``; default ``<folder>/images``, or `folder` without one.
            train_splits: Splits to train on; by convention restval counts as train.
            eval_split: Split that is held out: val or test.
        """
        if eval_split in train_splits:
            different(eval_split, eval_split, "train_splits and eval_split")
        self.folder = Path(folder).expanduser()
        self.path = self.folder / file
        self.images = images
        self.splits: dict[Part, Sequence[str]] = {"train": tuple(train_splits), "eval": (eval_split,)}

    def place(self, part: Part) -> str:
        """See the base class."""
        return f"{self.path} (split {' and '.join(self.splits[part])})"

    def read(self, part: Part) -> list[CaptionRow]:
        """See :func:`karpathy_captions`."""
        return karpathy_captions(self.path, image_root(self.folder, self.images), self.splits[part])


class CocoCaptions(CaptionSource):
    """COCO in its official splits: ``annotations/captions_<split>.json`` and ``<images>/<split>/``."""

    def __init__(
        self,
        folder: str,
        images: str | None = None,
        train_split: str = "train2014",
        eval_split: str = "val2014",
    ) -> None:
        """Takes the places; nothing is read yet.

        Args:
            folder: Where ``annotations/`` is.
            images: Folder with a folder of each split; default ``<folder>/images``, or `folder` without one.
            train_split: Split to train on, e.g. train2017.
            eval_split: Split that is held out.
        """
        different(train_split, eval_split, "train_split and eval_split")
        self.folder = Path(folder).expanduser()
        self.images = images
        self.splits: dict[Part, str] = {"train": train_split, "eval": eval_split}

    def place(self, part: Part) -> str:
        """See the base class."""
        return str(self.folder / "annotations" / f"captions_{self.splits[part]}.json")

    def read(self, part: Part) -> list[CaptionRow]:
        """See :func:`coco_captions`."""
        return coco_captions(Path(self.place(part)), image_root(self.folder, self.images) / self.splits[part])
