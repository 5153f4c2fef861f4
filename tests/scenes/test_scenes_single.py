"""Scenes of one shape, what is said of them, and the prompts that ask for them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from itertools import product
from pathlib import Path
from random import Random

import pytest

from rslit.datamodules import CocoCaptions, KarpathyCaptions
from rslit.errors import RslitError
from rslit.scenes import World, write_world
from rslit.scenes.__main__ import main
from rslit.scenes.formats import make_single
from rslit.scenes.single import PARTS, Wish, captions_of, is_held_out, prompts, sample_anywhere, sample_single, wishes
from rslit.scenes.world import SPLITS, Scene, split_of

SCENES = [(split, sample_single(3, split, index)) for split in SPLITS for index in range(150)]
SMALL = ["--objects", "1", "--size", "32", "--train", "6", "--val", "3", "--test", "3"]

# Written anew on purpose: what the texts say is read without the code that writes them.
TEXT = re.compile(
    r"(?:a|an) (?:(?P<size>small|large) )?(?P<colour>red|orange|yellow|green|blue|purple) "
    r"(?P<shape>circle|square|triangle|star|heart|cross)"
    r"(?: (?:on the (?P<side>left|right)|at the (?P<end>top|bottom)|in the (?P<centre>middle)))?"
    r"(?: (?P<link>on|of) a (?P<background>white|gray|black) background)?"
)


def read(text: str) -> dict[str, str]:
    """What a text says, by name."""
    match = TEXT.fullmatch(text)
    assert match is not None, text
    said = {name: word for name, word in match.groupdict().items() if word is not None}
    place = said.pop("side", None) or said.pop("end", None) or said.pop("centre", None)
    assert said.pop("link", None) == (None if "background" not in said else "of" if place else "on")
    assert text.startswith("an ") == (text.split()[1] == "orange")
    return said if place is None else {**said, "place": place}


def is_true(text: str, scene: Scene) -> bool:
    (thing,) = scene.things
    x0, y0, x1, y1 = thing.box
    x, y = (x0 + x1) / 2 / scene.size, (y0 + y1) / 2 / scene.size
    large = (x1 - x0) * (y1 - y0) > 0.33 * scene.size**2
    truth = {
        "shape": lambda word: word == thing.shape,
        "colour": lambda word: word == thing.colour,
        "background": lambda word: word == scene.background,
        "size": lambda word: word == ("large" if large else "small"),
        "place": lambda word: {
            "left": x < 0.4,
            "right": x > 0.6,
            "top": y < 0.4,
            "bottom": y > 0.6,
            "middle": max(abs(x - 0.5), abs(y - 0.5)) < 0.15,
        }[word],
    }
    return all(truth[name](word) for name, word in read(text).items())


def test_scenes_are_functions_of_their_number_and_in_one_split() -> None:
    assert sample_single(3, "val", 5) == SCENES[155][1]
    assert sample_single(4, "val", 5) != SCENES[155][1]
    assert all(split_of(scene) == split for split, scene in SCENES)
    # 6 x 6 x 3 looks, large in the middle or small at one of five places.
    assert 200 < len({scene for _, scene in SCENES}) < 6 * 6 * 3 * (1 + 5)


def test_a_classifiers_scenes_stand_anywhere() -> None:
    scenes = [sample_anywhere(Random(k), 32) for k in range(300)]
    boxes = [scene.things[0].box for scene in scenes]
    assert len({box[2] - box[0] for box in boxes}) > 10
    assert {min(box[0] for box in boxes), min(box[1] for box in boxes)} == {0}
    assert {max(box[2] for box in boxes), max(box[3] for box in boxes)} == {32}
    for thing in (scene.things[0] for scene in scenes):
        assert thing.size == ("large" if thing.area >= 0.33 * 32**2 else "small")


def test_pictures_stay_what_they_are() -> None:
    """If this is meant to change, `_SINGLE_EDITION` in files.py counts up too."""
    pictures = [make_single(0, split, index) for split in SPLITS for index in range(20)]
    texts = [prompts(part) for part in PARTS]
    assert hashlib.sha256(repr((pictures, texts)).encode()).hexdigest() == (
        "9ac687d80bb4c107c303edcd8c82d1230dab9c34b3b41611eed5a884e42527d0"
    )


@pytest.mark.parametrize("size", [32, 48, 128])
def test_a_shape_lies_inside_the_image_and_its_size_is_told_by_its_area(size: int) -> None:
    for index in range(200):
        scene = sample_single(0, "train", index, size)
        (thing,) = scene.things
        x0, y0, x1, y1 = thing.box
        assert min(x0, y0) >= 1
        assert max(x1, y1) <= size - 1
        assert thing.size == ("large" if thing.area >= 0.33 * size**2 else "small")


def test_everything_is_about_as_frequent() -> None:
    things = [scene.things[0] for _, scene in SCENES]
    for counts in (
        Counter(thing.shape for thing in things),
        Counter(thing.colour for thing in things),
        Counter(thing.size for thing in things),
        Counter(scene.background for _, scene in SCENES),
    ):
        assert min(counts.values()) > 0.7 * counts.total() / len(counts)


def test_captions_are_true_and_name_shape_and_colour() -> None:
    places: Counter[str] = Counter()
    for split, scene in SCENES:
        for k in range(3):
            texts = captions_of(scene, split, Random(k))
            assert len(set(texts)) == len(texts) in (2, 3)
            assert all(is_true(text, scene) for text in texts)
            places.update(word for text in texts for name, word in read(text).items() if name == "place")
    assert set(places) == {"left", "right", "top", "bottom", "middle"}


def test_training_captions_tell_nothing_that_is_held_out() -> None:
    held_out = set(prompts("test"))
    told = {
        split: {
            text for s, scene in SCENES if s == split for k in range(3) for text in captions_of(scene, s, Random(k))
        }
        for split in SPLITS
    }
    assert not told["train"] & held_out
    assert told["val"] & held_out


def test_prompts_are_distinct_and_a_quarter_is_held_out() -> None:
    train, test = prompts("train"), prompts("test")
    assert (len(train), len(test)) == (1025, 343)
    assert len({*train, *test}) == len(train) + len(test)
    assert {*train, *test} == {wish.text for wish in wishes()}
    assert all(is_held_out(wish) == (wish.text in test) for wish in wishes())
    for texts in (train, test, test[:100]):
        said = [read(text) for text in texts]
        words = {name: Counter(each.get(name) for each in said) for name in ("shape", "colour", "background", "place")}
        assert [len(counts) for counts in words.values()] == [6, 6, 4, 6]
        assert min(words["shape"].values()) > 0.5 * len(texts) / 6
        assert min(words["colour"].values()) > 0.5 * len(texts) / 6
        assert all(len(each) <= 4 for each in said)


def test_every_prompt_can_be_drawn() -> None:
    """Some scene fulfils it; not always one to train on, as a wish of two extras may fit one scene alone."""
    left = {wish.text for wish in wishes() if wish.colour == "red" and wish.shape in ("circle", "triangle")}
    for split, index in product(SPLITS, range(2000)):
        scene = sample_single(0, split, index)
        left -= {text for text in left if is_true(text, scene)}
    assert not left


def test_a_wish_in_words() -> None:
    assert Wish("circle", "red").text == "a red circle"
    assert Wish("star", "orange", "black", None, "left").text == "an orange star on the left of a black background"
    assert Wish("cross", "blue", "gray", "large").text == "a large blue cross on a gray background"
    assert Wish("heart", "green", None, "small", "top").text == "a small green heart at the top"


def test_a_world_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    assert main([str(out), *SMALL]) == main([str(out), *SMALL]) == 0
    assert capsys.readouterr().out == f"{out}: 12 images\n{out}: there\n"
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert [name for name in files if not name.endswith(".jpg")] == [
        "annotations/captions_train2014.json",
        "annotations/captions_val2014.json",
        "annotations/instances_train2014.json",
        "annotations/instances_val2014.json",
        "dataset_coco.json",
        "prompts/test.txt",
        "prompts/train.txt",
        "world.json",
    ]
    for part in PARTS:
        assert (out / "prompts" / f"{part}.txt").read_text().splitlines() == prompts(part)
    rows = {part: KarpathyCaptions(str(out)).rows(part) for part in ("train", "eval")}
    for part, split, count in (("train", "train", 6), ("eval", "val", 3)):
        pictures = [make_single(0, split, index) for index in range(count)]
        assert [row.captions for row in rows[part]] == [picture.captions for picture in pictures]
    assert [row.captions for row in CocoCaptions(str(out)).rows("train")] == [row.captions for row in rows["train"]]
    instances = json.loads((out / "annotations" / "instances_train2014.json").read_text())
    (x0, y0, x1, y1) = make_single(0, "train", 0).scene.things[0].box
    assert instances["annotations"][0]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert json.loads((out / "world.json").read_text())["box_area"] == {"small_below": 337.92, "large_from": 337.92}


def test_worlds_of_several_shapes_do_not_name_objects(tmp_path: Path) -> None:
    """Their manifests are those of before, so worlds that are there stay good."""
    write_world(tmp_path / "world", World(2, 1, 1, 32))
    parameters = json.loads((tmp_path / "world" / "world.json").read_text())["parameters"]
    assert parameters == {"edition": 1, "train": 2, "val": 1, "test": 1, "size": 32, "seed": 0}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (SMALL[2:], "holds a world of other parameters (edition 2, objects 1); delete it"),
        (["--objects", "2"], "--objects 2: must be 1; leave it out for scenes of two to five"),
    ],
)
def test_one_line_for_other_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    main([str(tmp_path / "world"), *SMALL])
    capsys.readouterr()
    assert main([str(tmp_path / "world"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error


def test_prompts_that_were_changed_are_noticed(tmp_path: Path) -> None:
    world = World(2, 1, 1, 32, objects=1)
    write_world(tmp_path / "world", world)
    (tmp_path / "world" / "prompts" / "test.txt").write_text("a dog\n")
    with pytest.raises(RslitError, match=r"prompts/test\.txt is not as it was written; delete"):
        write_world(tmp_path / "world", world)
