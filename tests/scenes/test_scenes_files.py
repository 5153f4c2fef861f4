from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from rslit.scenes import World, area_limits, write_world
from rslit.scenes.formats import make_picture
from rslit.scenes.world import COLOURS

WORLD = World(train=60, val=20, test=24, seed=5)
VAL = [("val", index) for index in range(20)] + [("test", index) for index in range(24)]
PLACES = {"train2014": [("train", index) for index in range(60)], "val2014": VAL}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "world"
    assert write_world(folder, WORLD)
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_folder_holds_what_the_formats_have(out: Path) -> None:
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    images = [name for name in files if name.endswith(".jpg")]
    assert len(images) == 104
    assert images[0] == "images/train2014/COCO_train2014_000000000001.jpg"
    assert [name for name in files if name not in images] == [
        "annotations/captions_train2014.json",
        "annotations/captions_val2014.json",
        "annotations/instances_train2014.json",
        "annotations/instances_val2014.json",
        "dataset_coco.json",
        "refcoco/instances.json",
        "refcoco/refs(unc).json",
        "vqa/v2_OpenEnded_mscoco_train2014_questions.json",
        "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        "vqa/v2_mscoco_train2014_annotations.json",
        "vqa/v2_mscoco_val2014_annotations.json",
        "world.json",
    ]


@pytest.mark.parametrize("part", ["train2014", "val2014"])
def test_coco_reads_captions(out: Path, part: str) -> None:
    coco = COCO(out / "annotations" / f"captions_{part}.json")
    assert len(coco.getImgIds()) == len(PLACES[part])
    for (split, index), image in zip(PLACES[part], coco.dataset["images"], strict=True):
        picture = make_picture(5, split, index)
        assert [found["caption"] for found in coco.imgToAnns[image["id"]]] == list(picture.captions)
        with Image.open(out / "images" / part / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"]) == (64, 64)
            opened.load()
    assert len(coco.anns) == 5 * len(coco.imgs)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("part", ["train2014", "val2014"])
def test_coco_reads_instances(out: Path, part: str) -> None:
    coco = COCO(out / "annotations" / f"instances_{part}.json")
    assert {kind["name"] for kind in coco.loadCats(coco.getCatIds())} == {
        *("circle", "square", "triangle", "star", "heart", "cross")
    }
    for (split, index), image in zip(PLACES[part], coco.dataset["images"], strict=True):
        pixels = np.asarray(Image.open(out / "images" / part / image["file_name"]), dtype=float)
        things = make_picture(5, split, index).scene.things
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        for thing, annotation in zip(things, found, strict=True):
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == thing.box
            assert coco.cats[annotation["category_id"]]["name"] == thing.shape
            assert annotation["iscrowd"] == 0
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == pytest.approx(mask.sum(), rel=0.15, abs=6)
            # What the segmentation covers has the thing's colour, but for its edge and what lies on it.
            off = np.abs(pixels[mask] - COLOURS[thing.colour]).max(-1)
            assert np.mean(off < 30) > 0.5
    assert {len(coco.imgToAnns[image]) for image in coco.imgs} == {2, 3, 4, 5}


def test_ids_are_their_own(out: Path) -> None:
    parts = [read(out / "annotations" / f"{kind}_{p}.json") for kind in ("captions", "instances") for p in PLACES]
    images = [image["id"] for part in parts[:2] for image in part["images"]]
    assert len(set(images)) == 104
    for two in (parts[:2], parts[2:]):
        ids = [annotation["id"] for part in two for annotation in part["annotations"]]
        assert len(set(ids)) == len(ids)
    assert [part["images"] for part in parts[:2]] == [part["images"] for part in parts[2:]]


def test_karpathy_splits(out: Path) -> None:
    split = read(out / "dataset_coco.json")
    assert split["dataset"] == "coco"
    assert Counter(image["split"] for image in split["images"]) == {"train": 60, "val": 20, "test": 24}
    assert [image["imgid"] for image in split["images"]] == list(range(104))
    sentences = [sentence for image in split["images"] for sentence in image["sentences"]]
    assert [sentence["sentid"] for sentence in sentences] == list(range(5 * 104))
    captions = {part: COCO(out / "annotations" / f"captions_{part}.json") for part in PLACES}
    for image in split["images"]:
        assert image["filepath"] == ("train2014" if image["split"] == "train" else "val2014")
        coco = captions[image["filepath"]]
        assert coco.imgs[image["cocoid"]]["file_name"] == image["filename"]
        assert (out / "images" / image["filepath"] / image["filename"]).is_file()
        raw = [sentence["raw"] for sentence in image["sentences"]]
        assert raw == [found["caption"] for found in coco.imgToAnns[image["cocoid"]]]
        assert image["sentids"] == [sentence["sentid"] for sentence in image["sentences"]]
        for sentence in image["sentences"]:
            assert sentence["imgid"] == image["imgid"]
            words = sentence["raw"].lower().replace(".", "").replace(",", "").split()
            assert sentence["tokens"] == words


def test_vqa_questions_and_annotations(out: Path) -> None:
    seen: set[int] = set()
    for part, places in PLACES.items():
        questions = read(out / "vqa" / f"v2_OpenEnded_mscoco_{part}_questions.json")
        annotations = read(out / "vqa" / f"v2_mscoco_{part}_annotations.json")
        assert (questions["task_type"], questions["data_type"]) == ("Open-Ended", "mscoco")
        assert questions["data_subtype"] == annotations["data_subtype"] == part
        assert set(questions) - set(annotations) == {"questions", "task_type"}
        assert len(questions["questions"]) == 6 * len(places)
        wanted = [question for place in places for question in make_picture(5, *place).questions]
        for question, annotation, made in zip(questions["questions"], annotations["annotations"], wanted, strict=True):
            assert set(question) == {"image_id", "question_id", "question"}
            for key in ("image_id", "question_id"):
                assert question[key] == annotation[key]
            assert question["question_id"] // 1000 == question["image_id"]
            assert question["question_id"] < 2**31
            assert question["question"] == made.text
            assert question["question_id"] not in seen
            seen.add(question["question_id"])
            assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
            given = [(answer["answer"], answer["answer_confidence"]) for answer in annotation["answers"]]
            assert given == list(made.answers)
            most = Counter(answer for answer, _ in given).most_common(1)[0][0]
            assert annotation["multiple_choice_answer"] == most == made.truth
            assert annotation["answer_type"] in ("yes/no", "number", "other")
            assert question["question"].lower().startswith(annotation["question_type"])


def test_references_point_to_their_things(out: Path) -> None:
    refs = read(out / "refcoco" / "refs(unc).json")
    coco = COCO(out / "refcoco" / "instances.json")
    assert len({ref["ref_id"] for ref in refs}) == len(refs) == len(coco.anns)
    sentences = [sentence for ref in refs for sentence in ref["sentences"]]
    assert len({sentence["sent_id"] for sentence in sentences}) == len(sentences)
    small_below, large_from = area_limits(64)
    sizes: Counter[tuple[str, str]] = Counter()
    images: dict[str, set[int]] = {}
    for ref in refs:
        annotation = coco.anns[ref["ann_id"]]
        assert annotation["image_id"] == ref["image_id"]
        assert annotation["category_id"] == ref["category_id"]
        name = coco.imgs[ref["image_id"]]["file_name"]
        assert ref["file_name"].startswith(name.removesuffix(".jpg") + "_")
        assert (out / "images" / name.split("_")[1] / name).is_file()
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        assert 1 <= len(ref["sentences"]) <= 3
        for sentence in ref["sentences"]:
            assert sentence["raw"] == sentence["sent"] == " ".join(sentence["tokens"])
        area = annotation["bbox"][2] * annotation["bbox"][3]
        sizes[ref["split"], "small" if area < small_below else "large" if area >= large_from else "medium"] += 1
        images.setdefault(ref["split"], set()).add(ref["image_id"])
    assert {split for split, _ in sizes} == {"train", "val", "testA", "testB"}
    assert len(sizes) == 12
    assert len(set.union(*images.values())) == sum(map(len, images.values())) == 104
    for image in images["testA"] | images["testB"]:
        kinds = [annotation["category_id"] for annotation in coco.imgToAnns[image]]
        assert (len(set(kinds)) < len(kinds)) == (image in images["testA"])
