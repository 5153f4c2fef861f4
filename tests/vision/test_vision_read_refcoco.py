from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vision_files_kit import name, refcoco, write_json

from rslit.errors import RslitError
from rslit.vision.files import RefCoco
from rslit.vision.files.plain_pickle import read_plain_pickle
from rslit.vision.images import load_image


def refused(source: Any, part: Any = "train") -> str:
    with pytest.raises(RslitError) as caught:
        source.rows(part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(folder: Path, refs: Any, protocol: int | None = None) -> Path:
    """Refs as JSON, or as pickle of a protocol."""
    if protocol is None:
        return write_json(folder / "refcoco" / "refs(unc).json", refs)
    path = folder / "refcoco" / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs, protocol))
    return path


@pytest.mark.parametrize("protocol", [None, 0, 1, 2, 3, 4, 5])
def test_pickles_and_json_give_the_same_rows(tmp_path: Path, protocol: int | None) -> None:
    put(tmp_path, refcoco(tmp_path)[0], protocol)
    source = RefCoco(str(tmp_path))
    rows = source.rows("train")
    image = tmp_path / "images" / "train2014" / name(42)
    assert [(row.item, row.expression) for row in rows] == [
        ("107-0", "man 7"),
        ("107-1", "him"),
        ("108-0", "man 8"),
        ("108-1", "him"),
    ]
    assert {row.image for row in rows} == {image}
    assert rows[0].box == rows[1].box == (10.0, 20.0, 40.5, 45.25)
    assert rows[2].box == (0.0, 0.0, 80.0, 60.0)  # 80.005: COCO's rounding
    assert {row.size for row in rows} == {(80, 60)}
    assert load_image(rows[0]).size == (80, 60)
    assert [row.item for row in source.rows("eval")] == ["109-0", "109-1"]


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    # What Python 2 wrote: `str` as SHORT_BINSTRING, `unicode` as BINUNICODE, a long as LONG1.
    content = b"\x80\x02]q\x00}q\x01(U\x05splitX\x05\x00\x00\x00trainU\x04nameU\x03a\xe9bU\x02id\x8a\x03@\xe2\x01ua."
    path = tmp_path / "refs(unc).p"
    path.write_bytes(content)
    assert read_plain_pickle(path) == [{"split": "train", "name": "a\xe9b", "id": 123456}]


def test_plain_values_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.p"
    for value in ([1, 2.5, None, True, "é", b"x", (1,), {"a": {2}}, frozenset({3}), -(10**30), bytearray(b"y")],):
        path.write_bytes(pickle.dumps(value, 5))
        assert read_plain_pickle(path) == value


class Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Runs(), f"{os.system.__module__}.system"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (np.float32(1), "numpy"),
        (len, "len"),
        (Path("x"), "pathlib"),
    ],
)
def test_a_global_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, value: Any, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refs, _ = refcoco(tmp_path)
    refs[0]["category_id"] = value
    path = put(tmp_path, refs, protocol)
    message = refused(RefCoco(str(tmp_path)))
    assert message.startswith(f"data.source: {path} names ")
    assert named in message
    assert message.endswith(
        "and a pickle that names anything could run code: only plain lists, dicts, texts and numbers are read; fetch "
        "the official file, or save it as JSON"
    )
    assert not (tmp_path / "ran").exists()


def test_globals_by_hand_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.p"
    for content in (
        b"cposix\nsystem\n(S'touch ran'\ntR.",  # GLOBAL and REDUCE
        b"(S'touch ran'\niposix\nsystem\n.",  # INST
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.",  # STACK_GLOBAL
        b"\x80\x02cbuiltins\neval\n.",
        b"c__builtin__\nset\n.",
    ):
        path.write_bytes(content)
        with pytest.raises(RslitError, match="a pickle that names anything could run code"):
            read_plain_pickle(path)


def test_broken_pickles(tmp_path: Path) -> None:
    path = tmp_path / "x.p"
    whole = pickle.dumps([{"a": 1, "b": [2.0, "three"]}], 2)
    for content in (
        b"",
        *(whole[:k] for k in range(1, len(whole))),
        b"}(K\x01K\x02R.",
        b"]}b.",
        b"Pid\n.",
        b"\x82\x01.",
        b"<html>",
    ):
        path.write_bytes(content)
        with pytest.raises(RslitError, match=r"x.p is no pickle that can be read \(") as caught:
            read_plain_pickle(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(RslitError, match=r"none.p does not exist"):
        read_plain_pickle(tmp_path / "none.p")


def test_folders_of_images(tmp_path: Path) -> None:
    put(tmp_path, refcoco(tmp_path)[0])
    images = tmp_path / "images" / "train2014"
    (tmp_path / "images" / "mscoco" / "images").mkdir(parents=True)
    images.rename(tmp_path / "images" / "mscoco" / "images" / "train2014")
    assert len(RefCoco(str(tmp_path)).rows("train")) == 4
    (tmp_path / "images" / "mscoco" / "images" / "train2014").rename(tmp_path / "flat")
    assert len(RefCoco(str(tmp_path), images=str(tmp_path / "flat")).rows("train")) == 4
    assert len(RefCoco(str(tmp_path / "refcoco"), dataset=".", images=str(tmp_path / "flat")).rows("eval")) == 2


def test_what_is_not_there(tmp_path: Path) -> None:
    refs, _ = refcoco(tmp_path)
    source = RefCoco(str(tmp_path))
    assert f"{tmp_path}/refcoco/refs(unc).p does not exist" in refused(source)
    path = put(tmp_path, refs)
    assert refused(RefCoco(str(tmp_path), eval_split="testA"), "eval") == (
        f"data.source: {path} has no ref of split 'testA'; its splits: train, val"
    )
    (tmp_path / "images" / "train2014" / name(42)).unlink()
    assert f"{path}: none of its 1 images is in {tmp_path}/images (the first, of item 42, would be" in refused(source)
    (tmp_path / "refcoco" / "instances.json").unlink()
    assert f"{tmp_path}/refcoco/instances.json does not exist" in refused(source)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        (lambda r, i: i["images"].pop(0), "does not fit .*: it has no image 42; give its own"),
        (lambda r, i: i["annotations"].pop(0), "has no annotation 7 of image 42, which ref 107 is about"),
        (
            lambda r, i: i["annotations"][0].update(image_id=43),
            "has no annotation 7 of image 42, which ref 107 is about",
        ),
        (
            lambda r, i: i["annotations"][0].update(bbox=[1, 2, 3]),
            "the bbox of annotation 7 must be x, y, width, height",
        ),
        (
            lambda r, i: i["annotations"][0].update(bbox=None),
            "the bbox of annotation 7 must be x, y, width, height, got N",
        ),
        (lambda r, i: i["annotations"][0].pop("bbox"), "annotation 7 has no 'bbox'"),
        (lambda r, i: i["images"][0].pop("width"), "image 42 has no 'width'"),
        (lambda r, i: i["images"][0].update(width="80"), "'width' of image 42 must be a whole number, got '80'"),
        (lambda r, i: r[0].update(sentences=[]), "ref 107 has no sentence"),
        (lambda r, i: r[0].update(sentences=[{"sent_id": 1}]), "a sentence of ref 107 is no text"),
        (lambda r, i: r[0].pop("ann_id"), "ref 107 has no 'ann_id'"),
        (lambda r, i: r[0].pop("split"), "ref 107 has no 'split'"),
        (lambda r, i: r[1].update(ref_id=107), "has ref 107 twice"),
        (lambda r, i: r.insert(0, 5), "entry 0 of 'refs' is no record"),
    ]
    for edit, message in cases:
        refs, instances = refcoco(tmp_path)
        edit(refs, instances)
        put(tmp_path, refs)
        write_json(tmp_path / "refcoco" / "instances.json", instances)
        with pytest.raises(RslitError, match=message):
            RefCoco(str(tmp_path)).rows("train")
    write_json(tmp_path / "refcoco" / "refs(unc).json", {"refs": []})
    assert "has no list 'refs'" in refused(RefCoco(str(tmp_path)))


def test_a_box_outside_its_image(tmp_path: Path) -> None:
    refs, instances = refcoco(tmp_path)
    instances["annotations"][0]["bbox"] = [60, 20, 30, 25]
    path = put(tmp_path, refs)
    write_json(tmp_path / "refcoco" / "instances.json", instances)
    assert refused(RefCoco(str(tmp_path))) == (
        f"data.source: {path}: item 107-0: the box 60, 20, 90, 45 (x0, y0, x1, y1) is outside its image of 80 x 60; "
        "give the boxes of this image, as the file's format has them, or take the item out"
    )


def test_raw_where_there_is_no_sent(tmp_path: Path) -> None:
    refs, _ = refcoco(tmp_path)
    for ref in refs:
        for sentence in ref["sentences"]:
            del sentence["sent"]
    put(tmp_path, refs)
    assert [row.expression for row in RefCoco(str(tmp_path)).rows("eval")] == ["Man 9!", "Him."]


def test_training_and_evaluation_differ() -> None:
    with pytest.raises(RslitError, match="training and evaluation are both 'val'"):
        RefCoco("x", train_split="val")
