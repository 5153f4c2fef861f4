from __future__ import annotations

import hashlib
import io
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from rslit.scenes import Scene, Thing, area_limits, draw_scene, sample_scene
from rslit.scenes.draw import jpeg
from rslit.scenes.formats import make_picture
from rslit.scenes.shapes import SHAPES, area, contains, outline
from rslit.scenes.world import BACKGROUNDS, COLOURS, SPLITS

SCENES = [sample_scene(3, split, index) for split in SPLITS for index in range(60)]


def test_scenes_are_functions_of_their_number() -> None:
    assert sample_scene(3, "val", 5) == sample_scene(3, "val", 5) == SCENES[65]
    assert len(set(SCENES)) == len(SCENES)
    assert sample_scene(4, "val", 5) != SCENES[65]


def test_pictures_stay_what_they_are() -> None:
    """If this is meant to change, `_EDITION` in files.py counts up too."""
    pictures = [make_picture(0, split, index) for split in SPLITS for index in range(5)]
    assert (
        hashlib.sha256(repr(pictures).encode()).hexdigest()
        == "a7b5c0da87604aa6a4a937588adb39546f685686529e20579b00109f99eb2d83"
    )


def test_no_seed_puts_a_scene_into_two_splits() -> None:
    """Which split a scene is in follows from the scene: nothing else could keep different seeds apart."""
    from rslit.scenes.world import split_of

    for number, scene in enumerate(SCENES):
        assert split_of(scene) == SPLITS[number // 60]
        turned = Scene(scene.size, scene.background, scene.things[::-1])
        assert split_of(turned) == split_of(scene)  # the same picture


def test_scenes_have_what_tasks_need() -> None:
    numbers = Counter(len(scene.things) for scene in SCENES)
    assert set(numbers) == {2, 3, 4, 5}
    things = [thing for scene in SCENES for thing in scene.things]
    for values in (
        Counter(thing.shape for thing in things),
        Counter(thing.colour for thing in things),
        Counter(thing.size for thing in things),
        Counter(scene.background for scene in SCENES),
    ):
        assert min(values.values()) > 0.5 * values.total() / len(values)
    nested = sum(holds(a, b) for scene in SCENES for a in scene.things for b in scene.things)
    assert nested > 0.15 * len(SCENES)


def holds(a: Thing, b: Thing) -> bool:
    return a.box[0] < b.box[0] and a.box[1] < b.box[1] and a.box[2] > b.box[2] and a.box[3] > b.box[3]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_area_limits_tell_the_sizes(size: int) -> None:
    small_below, large_from = area_limits(size)
    for index in range(60):
        for thing in sample_scene(0, "train", index, size).things:
            told = "small" if thing.area < small_below else "large" if thing.area >= large_from else "medium"
            assert thing.size == told


def test_things_are_apart_or_one_inside_the_other() -> None:
    for scene in SCENES:
        for a, b in combinations(scene.things, 2):
            inner = b if holds(a, b) else a if holds(b, a) else None
            if inner is None:
                dx = max(a.box[0] - b.box[2], b.box[0] - a.box[2])
                dy = max(a.box[1] - b.box[3], b.box[1] - a.box[3])
                assert max(dx, dy) >= 2
            else:
                outer = a if inner is b else b
                around = outline(outer.shape, outer.box)
                assert all(contains(around, *point) for point in outline(inner.shape, inner.box))
                assert inner.colour != outer.colour


def cover(pixels: np.ndarray, under: tuple[int, int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """The share of each pixel that is `colour` instead of `under`."""
    step = np.subtract(colour, under, dtype=float)
    return (pixels - np.array(under, dtype=float)) @ step / (step @ step)


@pytest.mark.parametrize("encoded", [False, True])
def test_boxes_are_the_extent_of_what_is_drawn(encoded: bool) -> None:
    for scene in SCENES:
        image = draw_scene(scene)
        if encoded:
            image = Image.open(io.BytesIO(jpeg(image)))
        assert image.size == (scene.size, scene.size)
        assert image.mode == "RGB"
        pixels = np.asarray(image, dtype=float)
        ground = np.ones(pixels.shape[:2], dtype=bool)
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            ground[y0:y1, x0:x1] = False
            host = next((other for other in scene.things if holds(other, thing)), None)
            under = BACKGROUNDS[scene.background] if host is None else COLOURS[host.colour]
            # One pixel more on each side: nothing else is that near.
            window = pixels[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1]
            rows, columns = np.nonzero(cover(window, under, COLOURS[thing.colour]) > (0.09 if encoded else 0.02))
            assert (columns.min() + x0 - 1, rows.min() + y0 - 1) == (x0, y0), (thing, scene)
            assert (columns.max() + x0, rows.max() + y0) == (x1, y1), (thing, scene)
        beside = np.abs(pixels[ground] - np.array(BACKGROUNDS[scene.background]))
        assert beside.max() <= (40 if encoded else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_are_what_is_drawn(shape: str) -> None:
    box = (10, 12, 50, 48)
    polygon = outline(shape, box)
    xs, ys = zip(*polygon, strict=True)
    assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx(box)
    drawn = draw_scene(Scene(64, "white", (Thing(shape, "blue", "large", box),)))
    covered = cover(np.asarray(drawn, dtype=float), BACKGROUNDS["white"], COLOURS["blue"])
    assert covered.sum() == pytest.approx(area(polygon), rel=0.02)
    centres = [(x, y) for x in range(64) for y in range(64) if contains(polygon, x + 0.5, y + 0.5)]
    assert len(centres) == pytest.approx(area(polygon), rel=0.05)
    assert all(covered[y, x] > 0.3 for x, y in centres)


def test_areas_of_known_shapes() -> None:
    box = (0, 0, 30, 30)
    assert area(outline("square", box)) == 900
    assert area(outline("triangle", box)) == pytest.approx(450)
    assert area(outline("cross", box)) == pytest.approx(500)
    assert area(outline("circle", box)) == pytest.approx(np.pi * 225, rel=0.01)
