"""Grounded captions: every object of an image, by one of its expressions and its box."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rslit.datamodules import KarpathyCaptions, RefCoco
from rslit.scenes import World, write_world
from rslit.scenes.grounded import write_grounded_captions
from rslit.vision import PaliGemmaBoxCodec

CODEC = PaliGemmaBoxCodec(32)


def test_captions_name_every_object_with_its_box(tmp_path: Path) -> None:
    write_world(tmp_path / "world", World(6, 3, 1, 64))
    write_grounded_captions(tmp_path / "world", tmp_path / "grounded.json", CODEC)
    source = KarpathyCaptions(str(tmp_path), "grounded.json", str(tmp_path / "world/images"))
    boxes = re.compile(r"([^<]+)((?:<loc\d{4}>){4}) ?")
    for part, count in (("train", 6), ("eval", 3)):
        rows = {row.image: row for row in source.rows(part)}
        assert len(rows) == count
        regions = RefCoco(str(tmp_path / "world")).rows(part)
        assert set(rows) == {region.image for region in regions}
        for image, row in rows.items():
            objects: dict[str, set[str]] = {}
            for region in regions:
                if region.image == image:
                    objects.setdefault(CODEC.encode(region.box, region.size), set()).add(region.expression)
            assert len(row.captions) == 5
            for caption in row.captions:
                found = [(box, expression.strip()) for expression, box in boxes.findall(caption)]
                assert {box for box, _ in found} == set(objects)
                assert all(expression in objects[box] for box, expression in found)
                assert boxes.sub("", caption) == ""


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    write_world(tmp_path / "world", World(4, 2, 1, 32))
    files = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        write_grounded_captions(tmp_path / "world", file, CODEC, seed)
    one, two, other = (file.read_text() for file in files)
    assert one == two != other
    assert {image["split"] for image in json.loads(one)["images"]} == {"train", "val"}
