from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vision_files_kit import coco, karpathy, name, picture, write_json

from rslit.errors import RslitError
from rslit.vision.files import CocoCaptions, KarpathyCaptions
from rslit.vision.images import load_image
from rslit.vision.rows import CaptionRow


def change(path: Path, edit: Any) -> None:
    content = json.loads(path.read_text())
    edit(content)
    write_json(path, content)


def refused(source: Any, part: Any = "train") -> str:
    with pytest.raises(RslitError) as caught:
        source.rows(part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_official_splits(tmp_path: Path) -> None:
    coco(tmp_path, "train2014", [42, 9])
    coco(tmp_path, "val2014", [77])
    source = CocoCaptions(str(tmp_path))
    assert source.rows("train") == [
        CaptionRow(str(n), tmp_path / "images/train2014" / name(n), (f"Caption 0 of {n}.", f"Caption 1 of {n}."))
        for n in (42, 9)
    ]
    assert [row.item for row in source.rows("eval")] == ["77"]
    assert load_image(source.rows("eval")[0]).size == (8, 6)


def test_images_beside_the_annotations_or_elsewhere(tmp_path: Path) -> None:
    coco(tmp_path / "coco", "train2014", [42])
    (tmp_path / "coco" / "images" / "train2014").rename(tmp_path / "coco" / "train2014")
    (tmp_path / "coco" / "images").rmdir()
    beside = CocoCaptions(str(tmp_path / "coco")).rows("train")
    assert beside[0].image == tmp_path / "coco" / "train2014" / name(42)
    (tmp_path / "coco" / "train2014").rename(tmp_path / "train2014")
    elsewhere = CocoCaptions(str(tmp_path / "coco"), images=str(tmp_path)).rows("train")
    assert elsewhere[0].image == tmp_path / "train2014" / name(42)


def test_a_caption_file_of_another_split(tmp_path: Path) -> None:
    coco(tmp_path, "train2014", [42])
    other = coco(tmp_path, "val2014", [77, 78])
    mixed = tmp_path / "annotations" / "captions_train2014.json"
    mixed.write_bytes(other.read_bytes())
    assert refused(CocoCaptions(str(tmp_path))) == (
        f"data.source: {mixed}: none of its 2 images is in {tmp_path}/images/train2014 (the first, of item 77, would "
        f"be {tmp_path}/images/train2014/{name(77, 'val2014')}); give the folder of images as 'images', or the file of "
        "the right split"
    )


def test_a_missing_image(tmp_path: Path) -> None:
    path = coco(tmp_path, "train2014", [42, 43, 44])
    gone = tmp_path / "images" / "train2014" / name(43)
    gone.unlink()
    assert refused(CocoCaptions(str(tmp_path))) == (
        f"data.source: {path}: 1 of its 3 images are missing, the first of item 43: {gone}; put them there, or take "
        "the items out of the file"
    )


def test_an_image_without_references(tmp_path: Path) -> None:
    path = coco(tmp_path, "train2014", [42, 43])
    change(path, lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != 43]))
    expected = (
        f"data.source: {path}: the caption of image 43 is missing; add the references of this image, or take it out"
    )
    assert refused(CocoCaptions(str(tmp_path))) == expected
    coco(tmp_path, "train2014", [42, 43])
    change(path, lambda c: [a.update(caption=" \n") for a in c["annotations"] if a["image_id"] == 43])
    assert refused(CocoCaptions(str(tmp_path))) == expected
    # One empty caption of several does no harm.
    coco(tmp_path, "train2014", [42])
    change(path, lambda c: c["annotations"][0].update(caption=""))
    assert CocoCaptions(str(tmp_path)).rows("train")[0].captions == ("Caption 1 of 42.",)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    source = CocoCaptions(str(tmp_path))
    path = tmp_path / "annotations" / "captions_train2014.json"
    assert refused(source) == f"data.source: {path} does not exist; put it there or give its place"
    coco(tmp_path, "train2014", [42])
    text = path.read_text()
    path.write_text(text[:-20])
    assert refused(source).startswith(f"data.source: {path} is no JSON that can be read (")
    cases: list[tuple[Any, str]] = [
        (lambda c: c.pop("annotations"), "has images without captions, as COCO's test sets; give another split"),
        (lambda c: c.pop("images"), "has no list 'images' (it has: info, licenses, annotations)"),
        (lambda c: c["images"].append(3), "entry 1 of 'images' is no record"),
        (lambda c: c["annotations"][0].pop("caption"), "an annotation of image 42 has no 'caption'"),
        (lambda c: c["annotations"][0].pop("image_id"), "an annotation has no 'image_id'"),
        (lambda c: c["annotations"][0].update(caption=5), "the caption of image 42 is no text (5)"),
        (
            lambda c: c["annotations"][0].update(image_id=5),
            "a caption is of image 5, which is not in the file's 'images'",
        ),
        (lambda c: c.update(images=[], annotations=[]), "has no rows"),
    ]
    for edit, message in cases:
        path.write_text(text)
        change(path, edit)
        assert message in refused(source)
        assert str(path) in refused(source)
    path.write_text("[]")
    assert "has no list 'images' (it has: list)" in refused(source)


def test_karpathys_splits(tmp_path: Path) -> None:
    karpathy(tmp_path, {5: "train", 3: "restval", 8: "val", 9: "test", 4: "train"})
    source = KarpathyCaptions(str(tmp_path))
    assert source.rows("train") == [
        CaptionRow(str(n), tmp_path / "images" / place / name(n, place), (f"Raw {n}.", f"Other raw {n}."))
        for n, place in ((5, "train2014"), (3, "val2014"), (4, "train2014"))
    ]
    assert [row.item for row in source.rows("eval")] == ["8"]
    assert [row.item for row in KarpathyCaptions(str(tmp_path), eval_split="test").rows("eval")] == ["9"]
    bare = KarpathyCaptions(str(tmp_path), train_splits=["train"])
    assert [row.item for row in bare.rows("train")] == ["5", "4"]


def test_karpathys_files_for_flickr(tmp_path: Path) -> None:
    content = karpathy(tmp_path, {5: "train", 8: "val"})
    for entry in content["images"]:
        del entry["filepath"], entry["cocoid"]
    write_json(tmp_path / "dataset_flickr8k.json", content)
    picture(tmp_path / "images" / name(5))
    rows = KarpathyCaptions(str(tmp_path), "dataset_flickr8k.json").rows("train")
    assert rows == [CaptionRow("0", tmp_path / "images" / name(5), ("Raw 5.", "Other raw 5."))]


def test_what_karpathys_file_can_lack(tmp_path: Path) -> None:
    karpathy(tmp_path, {5: "train", 3: "restval"})
    path = tmp_path / "dataset_coco.json"
    source = KarpathyCaptions(str(tmp_path))
    assert refused(source, "eval") == (f"data.source: {path} has no image of split val; its splits: restval, train")
    change(path, lambda c: c["images"][1].update(sentences=[]))
    assert refused(source) == (
        f"data.source: {path}: the caption of image 3 is missing; add the references of this image, or take it out"
    )
    karpathy(tmp_path, {5: "train", 3: "restval"})
    change(path, lambda c: c["images"].append(c["images"][0]))
    assert refused(source) == f"data.source: {path} has image 5 twice; fetch the file again"
    coco(tmp_path, "train2014", [42])
    official = KarpathyCaptions(str(tmp_path), "annotations/captions_train2014.json")
    assert "an image has no 'split'; is it a file of another kind?" in refused(official)


def test_training_and_evaluation_differ(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match="training and evaluation are both 'val2014'; give two in train_split and"):
        CocoCaptions("x", train_split="val2014")
    with pytest.raises(RslitError, match="training and evaluation are both 'val'"):
        KarpathyCaptions("x", train_splits=["train", "val"])
