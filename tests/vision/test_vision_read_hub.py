from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from table_files import own_cache
from vision_files_kit import encoded, picture

from rslit.errors import RslitError
from rslit.vision.files import HubCaptions, HubQuestions, HubRegions
from rslit.vision.images import load_image

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache(tmp_path_factory.mktemp("datasets"), monkeypatch)


def red(colour: int) -> bytes:
    return encoded((80, 60), (colour, 0, 0))


def table(path: Path, columns: dict[str, list[Any]], **features: Any) -> Path:
    """A parquet file as `datasets` writes it."""
    data = datasets.Dataset.from_dict(columns)
    for name, feature in features.items():
        data = data.cast_column(name, feature)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.to_parquet(path)
    return path


def refused(source: Any, part: Any = "train") -> str:
    with pytest.raises(RslitError) as caught:
        source.rows(part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reds(rows: Any) -> list[int]:
    return [load_image(row).getpixel((0, 0))[0] for row in rows]  # type: ignore[index]


CAPTIONS = [["One.", "First."], ["Two."], ["Three."]]
IMAGES = [{"bytes": red(k), "path": None} for k in (11, 22, 33)]


def test_a_copy_of_a_hubs_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        file = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        table(file, {"image": IMAGES, "captions": CAPTIONS}, image=datasets.Image())
    source = HubCaptions(str(tmp_path))
    rows = source.rows("train")
    assert [(row.item, row.captions) for row in rows] == [
        ("0", ("One.", "First.")),
        ("1", ("Two.",)),
        ("2", ("Three.",)),
    ]
    assert reds(rows) == [11, 22, 33]
    assert str(rows[1].image) == f"{tmp_path} (split 'train'), row 1"
    assert len({row.image for row in rows + source.rows("eval")}) == 6
    sliced = HubCaptions(str(tmp_path), train_split="train[:1]", eval_split="train[1:]")
    assert reds(sliced.rows("train")) == [11]
    assert reds(sliced.rows("eval")) == [22, 33]


def test_images_are_not_decoded_before_they_are_loaded(tmp_path: Path) -> None:
    broken = [*IMAGES[:2], {"bytes": b"no image", "path": None}]
    file = table(tmp_path / "train.parquet", {"image": broken, "captions": CAPTIONS}, image=datasets.Image())
    rows = HubCaptions(str(tmp_path)).rows("train")
    assert reds(rows[:2]) == [11, 22]
    with pytest.raises(RslitError, match=r"row 2 of item 2 cannot be read \(it is no image file\)"):
        load_image(rows[2])
    assert file.exists()


def test_images_as_bytes_as_pandas_writes_them(tmp_path: Path) -> None:
    frame = pd.DataFrame({"picture": [red(11), red(22)], "text": ["One.", "Two."], "key": ["a", "b"]})
    frame.to_parquet(tmp_path / "mine.parquet")
    frame.assign(picture=[{"bytes": red(33)}, {"bytes": red(44)}]).to_parquet(tmp_path / "other.parquet")
    source = HubCaptions(
        str(tmp_path / "mine.parquet"), "text", image="picture", id="key", eval_path=str(tmp_path / "other.parquet")
    )
    assert [(row.item, row.captions) for row in source.rows("train")] == [("a", ("One.",)), ("b", ("Two.",))]
    assert reds(source.rows("train")) == [11, 22]
    assert reds(source.rows("eval")) == [33, 44]


def test_images_as_paths_beside_a_file(tmp_path: Path) -> None:
    for k in (11, 22):
        picture(tmp_path / "pictures" / f"{k}.png", (80, 60), (k, 0, 0))
    lines = [{"image": f"pictures/{k}.png", "a": f"A {k}.", "b": f"B {k}."} for k in (11, 22)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (file, tmp_path):
        source = HubCaptions(str(path), ["b", "a"], eval_path=str(file) if path == file else None)
        rows = source.rows("train")
        assert [row.image for row in rows] == [tmp_path / "pictures" / f"{k}.png" for k in (11, 22)]
        assert [row.captions for row in rows] == [("B 11.", "A 11."), ("B 22.", "A 22.")]
    (tmp_path / "pictures" / "22.png").unlink()
    assert f"{tmp_path}: 1 of its 2 images are missing, the first of item 1" in refused(HubCaptions(str(tmp_path), "a"))


def test_questions(tmp_path: Path) -> None:
    answers = [
        [{"answer": a, "answer_id": k} for k, a in enumerate(("yes", "no"))],
        [{"answer": "red", "answer_id": 0}],
    ]
    columns = {"image": IMAGES[:2], "question": ["Is it?", "What?"], "answers": answers, "question_id": [7, 9]}
    table(tmp_path / "train.parquet", columns, image=datasets.Image())
    rows = HubQuestions(str(tmp_path), id="question_id").rows("train")
    assert [(row.item, row.question, row.answers) for row in rows] == [
        ("7", "Is it?", ("yes", "no")),
        ("9", "What?", ("red",)),
    ]
    columns |= {"answers": ["yes", "blue"]}
    table(tmp_path / "one" / "train.parquet", columns, image=datasets.Image())
    assert [row.answers for row in HubQuestions(str(tmp_path / "one")).rows("train")] == [("yes",), ("blue",)]


def test_regions(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "image": IMAGES[:2],
        "bbox": [[10.0, 20.0, 30.5, 25.0], [0.0, 0.0, 80.0, 60.0]],
        "expression": ["the left one", "all"],
        "sentences": [
            [{"raw": "Left!", "sent": "left"}],
            [{"raw": "All.", "sent": "all"}, {"raw": "It.", "sent": "it"}],
        ],
        "w": [80, 80],
        "h": [60, 60],
    }
    table(tmp_path / "train.parquet", columns, image=datasets.Image())
    rows = HubRegions(str(tmp_path)).rows("train")
    assert [(row.item, row.expression, row.size) for row in rows] == [
        ("0", "the left one", (80, 60)),
        ("1", "all", (80, 60)),
    ]
    assert [row.box for row in rows] == [(10.0, 20.0, 40.5, 45.0), (0.0, 0.0, 80.0, 60.0)]
    corners = HubRegions(str(tmp_path), "sentences", box_format="xyxy", width="w", height="h").rows("train")
    assert [(row.item, row.expression) for row in corners] == [("0-0", "Left!"), ("1-0", "All."), ("1-1", "It.")]
    assert corners[0].box == (10.0, 20.0, 30.5, 25.0)
    columns["bbox"] = [[10.0, 20.0, 30.0], [0.0, 0.0, 1.0]]
    table(tmp_path / "three" / "train.parquet", columns, image=datasets.Image())
    assert "the box of item 0 must be a list of four numbers, got [10.0, 20.0, 30.0]" in refused(
        HubRegions(str(tmp_path / "three"))
    )
    columns["bbox"] = [[60.0, 20.0, 30.0, 10.0]] * 2
    table(tmp_path / "out" / "train.parquet", columns, image=datasets.Image())
    assert "item 0: the box 60, 20, 90, 30 (x0, y0, x1, y1) is outside its image of 80 x 60" in refused(
        HubRegions(str(tmp_path / "out"))
    )


def test_cells_without_content(tmp_path: Path) -> None:
    def source(captions: list[Any]) -> HubCaptions:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        table(folder / "train.parquet", {"image": IMAGES[:2], "captions": captions}, image=datasets.Image())
        return HubCaptions(str(folder))

    assert "the captions of item 1 is no text (None)" in refused(source(["One.", None]))
    assert "the captions of item 1 is no text (' ')" in refused(source([["One."], [" "]]))
    assert "the captions of item 1 is empty; add its texts or take the row out" in refused(source([["One."], []]))
    other = [[{"words": "One."}], [{"words": "Two."}]]
    assert "the captions of item 0 has records without raw, sent, caption, answer, text (they have: words)" in refused(
        source(other)
    )
    table(
        tmp_path / "no" / "train.parquet", {"image": [IMAGES[0], None], "captions": ["a", "b"]}, image=datasets.Image()
    )
    row = HubCaptions(str(tmp_path / "no")).rows("train")[1]
    with pytest.raises(RslitError, match=r"row 1: column 'image' has no image; take the row out"):
        load_image(row)


def test_places_and_columns_that_are_not_there(tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", {"image": IMAGES, "captions": CAPTIONS}, image=datasets.Image())
    assert refused(HubCaptions(str(tmp_path), "texts")) == (
        f"data.source: {tmp_path} (split 'train') has no column 'texts'; it has: image, captions"
    )
    assert "has no column 'picture'; it has: image, captions" in refused(HubCaptions(str(tmp_path), image="picture"))
    assert f"{tmp_path} has no file of split 'test'" in refused(HubCaptions(str(tmp_path)), "eval")
    assert "/none does not exist; give a file, a folder, or a data set's hub name" in refused(HubCaptions("/none"))
    assert "has no split 'train[oops]' with rows" in refused(
        HubCaptions(str(tmp_path), train_split="train[oops]"), "train"
    )
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no more")
    assert f"{tmp_path} (split 'train') cannot be read: Parquet" in refused(HubCaptions(str(tmp_path)))


def test_options(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"'train' and 'train\[90%:\]' share rows: slice both"):
        HubCaptions("x/y", train_split="train", eval_split="train[90%:]")
    file = table(tmp_path / "mine.parquet", {"image": IMAGES, "captions": CAPTIONS}, image=datasets.Image())
    with pytest.raises(RslitError, match=r"mine.parquet is one file: give eval_path with the held-out rows, or slices"):
        HubCaptions(str(file))
    with pytest.raises(RslitError, match="width and height are two columns: give both, or neither"):
        HubRegions("x/y", width="w")


def test_a_grey_image_of_a_table(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 90).save(tmp_path / "grey.png")
    cell = {"bytes": (tmp_path / "grey.png").read_bytes(), "path": "grey.png"}
    table(tmp_path / "t" / "train.parquet", {"image": [cell], "captions": ["x"]}, image=datasets.Image())
    assert reds(HubCaptions(str(tmp_path / "t")).rows("train")) == [90]
