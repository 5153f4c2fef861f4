"""RefCOCO, RefCOCO+ and RefCOCOg: `refs(<split_by>)` as pickle or JSON, and `instances.json` for the boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rslit.errors import RslitError
from rslit.vision.files.base import Part, RegionSource, different
from rslit.vision.files.parsing import Entry, entries, get, locate, read_json, text, whole
from rslit.vision.files.plain_pickle import read_plain_pickle
from rslit.vision.rows import RegionRow, region

__all__ = ["RefCoco", "refcoco_rows"]


def refcoco_rows(refs: Path, instances: Path, root: Path, split: str) -> list[RegionRow]:
    """Reads one split, one row a sentence.

    Args:
        refs: A list of `ref_id`, `ann_id`, `image_id`, `split` and `sentences` with `sent` (or `raw`); ``.p`` or JSON.
        instances: COCO's `images` with `id`, `file_name`, `width`, `height`, `annotations` with `id`, `image_id` and
            `bbox` (x, y, width, height).
        root: The folder of images: ``COCO_train2014_…`` are there or in its ``train2014/``.
        split: train, val, test, testA or testB.

    Returns:
        Rows in the file's order; `item` is the ref's id and the number of the sentence, ``<ref_id>-<k>``.

    Raises:
        RslitError: A file is missing or of another kind, the two do not fit, there is no such split, an image is
            missing, a box is outside its image.
    """
    content = read_plain_pickle(refs) if refs.suffix == ".p" else read_json(refs)
    every = list(entries({"refs": content}, "refs", refs))
    chosen = [ref for ref in every if get(ref, "split", refs, f"ref {ref.get('ref_id')}") == split]
    if not chosen:
        has = ", ".join(sorted({str(ref["split"]) for ref in every})) or "none"
        raise RslitError(f"data.source: {refs} has no ref of split '{split}'; its splits: {has}")
    boxes = _Boxes(instances)
    names = _ids(chosen, refs)
    numbers = [str(get(ref, "image_id", refs, f"ref {name}")) for name, ref in zip(names, chosen, strict=True)]
    wanted = {image: _inside(str(boxes.image(image, refs)["file_name"]), root) for image in numbers}
    files = locate(wanted, root, refs)
    rows = []
    for ref, name, image in zip(chosen, names, numbers, strict=True):
        box = boxes.box(str(get(ref, "ann_id", refs, f"ref {name}")), image, name, refs)
        size = boxes.size(image, refs)
        for k, expression in enumerate(_sentences(ref, name, refs)):
            rows.append(region(f"{name}-{k}", files[image], expression, box, size, refs))
    return rows


class _Boxes:
    """``instances.json``, by id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path)
        self.images = {str(get(e, "id", path, "an image")): e for e in entries(content, "images", path)}
        found = entries(content, "annotations", path)
        self.annotations = {str(get(e, "id", path, "an annotation")): e for e in found}

    def image(self, image: str, refs: Path) -> Entry:
        if image not in self.images:
            raise RslitError(f"data.source: {self.path} does not fit {refs}: it has no image {image}; give its own")
        get(self.images[image], "file_name", self.path, f"image {image}")
        return self.images[image]

    def size(self, image: str, refs: Path) -> tuple[int, int]:
        entry = self.image(image, refs)
        return whole(entry, "width", self.path, f"image {image}"), whole(entry, "height", self.path, f"image {image}")

    def box(self, annotation: str, image: str, ref: str, refs: Path) -> tuple[float, float, float, float]:
        entry = self.annotations.get(annotation)
        if entry is None or str(get(entry, "image_id", self.path, f"annotation {annotation}")) != image:
            raise RslitError(
                f"data.source: {self.path} does not fit {refs}: it has no annotation {annotation} of image {image}, "
                f"which ref {ref} is about; give the file that came with the refs"
            )
        corner = get(entry, "bbox", self.path, f"annotation {annotation}")
        try:
            x, y, width, height = map(float, corner)
        except (TypeError, ValueError):
            raise RslitError(
                f"data.source: {self.path}: the bbox of annotation {annotation} must be x, y, width, height, "
                f"got {corner!r:.60}; fetch the file again"
            ) from None
        return x, y, x + width, y + height


def _ids(refs: list[Entry], path: Path) -> list[str]:
    ids = [str(get(ref, "ref_id", path, f"ref number {k}")) for k, ref in enumerate(refs)]
    if len(set(ids)) < len(ids):
        twice = next(ref for ref in ids if ids.count(ref) > 1)
        raise RslitError(f"data.source: {path} has ref {twice} twice; keep one of the two")
    return ids


def _sentences(ref: Entry, name: str, path: Path) -> list[str]:
    found: Any = get(ref, "sentences", path, f"ref {name}")
    given = [s.get("sent", s.get("raw")) if isinstance(s, Mapping) else s for s in found]
    if not given:
        raise RslitError(f"data.source: {path}: ref {name} has no sentence; add one or take the ref out")
    return [text(s, path, f"a sentence of ref {name}") for s in given]


def _inside(name: str, root: Path) -> str:
    """Where COCO keeps an image: in the folder that the middle of its name says, if there is one."""
    parts = name.split("_")
    return f"{parts[1]}/{name}" if len(parts) > 2 and (root / parts[1]).is_dir() else name


class RefCoco(RegionSource):
    """RefCOCO's files: ``<folder>/<dataset>/refs(<split_by>).p`` (or ``.json``) and ``instances.json`` beside it.

    The official refs are pickles. They are read without running anything: see ``plain_pickle``.
    """

    def __init__(
        self,
        folder: str,
        dataset: str = "refcoco",
        split_by: str = "unc",
        images: str | None = None,
        train_split: str = "train",
        eval_split: str = "val",
    ) -> None:
        """Takes the places; nothing is read yet.

        Args:
            folder: Where the folder `dataset` is.
            dataset: refcoco, refcoco+ or refcocog; "." if the files are in `folder` itself.
            split_by: Who made the split, as the file's name says: unc, google or umd.
            images: Folder of COCO's images, with ``train2014/`` or without; default what is there of
                ``<folder>/images/mscoco/images``, ``<folder>/images``, `folder`.
            train_split: Split to train on.
            eval_split: Split that is held out: val, test, testA or testB.
        """
        different(train_split, eval_split, "train_split and eval_split")
        self.folder = Path(folder).expanduser()
        self.directory = self.folder / dataset
        self.split_by = split_by
        self.images = images
        self.splits: dict[Part, str] = {"train": train_split, "eval": eval_split}

    def place(self, part: Part) -> str:
        """See the base class."""
        return f"{self._refs()} (split {self.splits[part]})"

    def read(self, part: Part) -> list[RegionRow]:
        """See :func:`refcoco_rows`."""
        usual = [self.folder / "images" / "mscoco" / "images", self.folder / "images", self.folder]
        root = next(p for p in usual if p.is_dir() or p is usual[-1])
        if self.images is not None:
            root = Path(self.images).expanduser()
        return refcoco_rows(self._refs(), self.directory / "instances.json", root, self.splits[part])

    def _refs(self) -> Path:
        pickled = self.directory / f"refs({self.split_by}).p"
        written = pickled.with_suffix(".json")
        return pickled if pickled.exists() or not written.exists() else written
