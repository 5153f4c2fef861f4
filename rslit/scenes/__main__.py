"""The command `python -m rslit.scenes`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rslit.errors import RslitError
from rslit.scenes.files import World, write_world

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        The exit code: 0, or 2 after one line that says what was wrong.
    """
    default = World()
    parser = argparse.ArgumentParser(
        prog="python -m rslit.scenes",
        description="Draws scenes of coloured shapes and writes them as COCO, Karpathy's split, VQA v2 and RefCOCO.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; it appears once it is whole")
    for split, what in (("train", "to train on"), ("val", "to validate on"), ("test", "to test on")):
        parser.add_argument(
            f"--{split}", type=int, default=getattr(default, split), metavar="N", help=f"images {what} (%(default)s)"
        )
    parser.add_argument(
        "--size", type=int, default=default.size, metavar="PIXELS", help="width and height (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="other seeds, other scenes (%(default)s)")
    parser.add_argument(
        "--objects", type=int, metavar="N", help="1: scenes of one shape, with prompts for text-to-image"
    )
    given = parser.parse_args(args)
    try:
        world = World(given.train, given.val, given.test, given.size, given.seed, given.objects)
        written = write_world(given.out, world)
    except RslitError as error:
        print(f"rslit: error: {error}", file=sys.stderr)
        return 2
    images = world.train + world.val + world.test
    print(f"{given.out}: {f'{images} images' if written else 'there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
