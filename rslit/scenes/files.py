"""A world on disk: whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rslit.errors import RslitError
from rslit.scenes.draw import draw_scene, jpeg
from rslit.scenes.formats import MOST_PICTURES, Files, make_picture, make_single
from rslit.scenes.single import LARGE_FROM, PARTS, prompts
from rslit.scenes.world import SPLITS, area_limits

__all__ = ["World", "write_world"]

_MANIFEST = "world.json"
# Count up when a world of the same parameters comes out differently; that of one-shape scenes has its own.
_EDITION, _SINGLE_EDITION = 1, 2


@dataclass(frozen=True)
class World:
    """What makes a world.

    Attributes:
        train: How many images to train on.
        val: How many to validate on.
        test: How many to test on.
        size: Their width and height in pixels.
        seed: Other seeds, other scenes.
        objects: 1 for scenes of one shape and prompts to draw; None for scenes of two to five.
    """

    train: int = 3000
    val: int = 500
    test: int = 500
    size: int = 64
    seed: int = 0
    objects: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            RslitError: One is out of range.
        """
        for split in SPLITS:
            if not 1 <= getattr(self, split) <= MOST_PICTURES:
                raise RslitError(f"--{split} {getattr(self, split)}: must be from 1 to {MOST_PICTURES}")
        if not 32 <= self.size <= 1024:
            raise RslitError(f"--size {self.size}: must be from 32 to 1024 pixels")
        if self.objects not in (None, 1):
            raise RslitError(f"--objects {self.objects}: must be 1; leave it out for scenes of two to five")


def write_world(out: Path, world: World) -> bool:
    """Makes sure that `out` holds a world.

    Written aside and renamed: whoever sees the folder sees all of it. Several processes may ask for one world.

    ```
    images/{train2014,val2014}/COCO_train2014_000000000001.jpg ...
    annotations/{captions,instances}_{train2014,val2014}.json    COCO
    dataset_coco.json                                            Karpathy's split
    vqa/v2_OpenEnded_mscoco_{train2014,val2014}_questions.json   VQA v2
    vqa/v2_mscoco_{train2014,val2014}_annotations.json
    refcoco/{refs(unc),instances}.json                           RefCOCO, the references as JSON
    world.json                                                   the parameters, the files' sizes
    ```

    A world of single shapes has nothing of VQA and RefCOCO, but ``prompts/{train,test}.txt``, one prompt a line.

    Args:
        out: The folder.
        world: What to write.

    Returns:
        Whether it was written; False if it was there.

    Raises:
        RslitError: `out` holds a world of other parameters, a damaged one, or something else, or cannot be written.
    """
    out = out.resolve()
    try:
        if _taken(out):  # a world that is there may be on a disk that only can be read
            _check(out, world)
            return False
        out.parent.mkdir(parents=True, exist_ok=True)
        with _alone(out) as new:
            if _taken(out):  # by who had the lock before
                _check(out, world)
                return False
            _fill(new, world)
            new.rename(out)
    except OSError as error:
        raise RslitError(f"{out}: cannot write: {error.strerror}; make room or choose another folder") from error
    return True


def _taken(out: Path) -> bool:
    return out.is_file() or (out.is_dir() and any(out.iterdir()))


@contextmanager
def _alone(out: Path) -> Iterator[Path]:
    """A name for the unfinished folder, which nobody else uses now and which is gone at the end."""
    import fcntl

    new = out.with_name(f".{out.name}.part")
    with out.with_name(f".{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if new.exists():  # of a run that was killed
                shutil.rmtree(new)
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _parameters(world: World) -> dict[str, int]:
    # What is left out is not named: worlds of several things are older than `objects`.
    edition = _SINGLE_EDITION if world.objects == 1 else _EDITION
    return {"edition": edition, **{key: value for key, value in asdict(world).items() if value is not None}}


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix in (".json", ".txt")]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in texts}


def _images(folder: Path) -> int:
    return sum(1 for _ in folder.glob("images/*/*.jpg"))


def _check(out: Path, world: World) -> None:
    """That a folder holds this world."""
    try:
        manifest = json.loads((out / _MANIFEST).read_text())
        there, files, images = dict(manifest["parameters"]), dict(manifest["files"]), int(manifest["images"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RslitError(f"{out}: holds something else than a world (no {_MANIFEST}); choose another folder") from None
    wanted = _parameters(world)
    if there != wanted:
        other = ", ".join(f"{key} {value}" for key, value in there.items() if wanted.get(key) != value)
        raise RslitError(f"{out}: holds a world of other parameters ({other}); delete it or choose another folder")
    sizes = _sizes(out)
    changed = [name for name, size in files.items() if sizes.get(name) != size]
    if changed or _images(out) != images:
        what = f"{changed[0]} is not as it was written" if changed else "there are images missing or added"
        raise RslitError(f"{out}: {what}; delete the folder and run again")


def _fill(folder: Path, world: World) -> None:
    single = world.objects == 1
    make = make_single if single else make_picture
    for name in (
        "images/train2014",
        "images/val2014",
        "annotations",
        *(("prompts",) if single else ("vqa", "refcoco")),
    ):
        (folder / name).mkdir(parents=True)
    files = Files(single)
    for split in SPLITS:
        for index in range(getattr(world, split)):
            picture = make(world.seed, split, index, world.size)
            image = folder / "images" / picture.folder / f"{picture.stem}.jpg"
            image.write_bytes(jpeg(draw_scene(picture.scene)))
            files.add(picture)
    for name, chunks in files.texts():
        with (folder / name).open("w", encoding="utf-8") as file:
            file.writelines(chunks)
    small_below, large_from = area_limits(world.size)
    if single:
        small_below = large_from = LARGE_FROM * world.size**2
        for part in PARTS:
            (folder / "prompts" / f"{part}.txt").write_text("".join(f"{text}\n" for text in prompts(part)))
    manifest = {
        "parameters": _parameters(world),
        "box_area": {"small_below": small_below, "large_from": large_from},
        "images": _images(folder),
        "files": _sizes(folder),
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
