from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from vision_files_kit import encoded

from rslit.errors import RslitError
from rslit.vision.files import OfaCaptions, OfaQuestions, OfaRegions
from rslit.vision.images import load_image


def image(colour: int, size: tuple[int, int] = (80, 60)) -> str:
    return base64.b64encode(encoded(size, (colour, 0, 0))).decode()


def tsv(path: Path, *lines: tuple[Any, ...]) -> Path:
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
    return path


def refused(source: Any, part: Any = "train") -> str:
    with pytest.raises(RslitError) as caught:
        source.rows(part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_captions(tmp_path: Path) -> None:
    train = tsv(
        tmp_path / "train.tsv",
        ("162365", "12455", "The sun sets – über docks.&& A dock. ", "sky&&water", image(11)),
        ("7", "70", "One.", "", image(22)),
    )
    tsv(tmp_path / "test.tsv", ("8", "80", "Held out.", "", image(33)))
    source = OfaCaptions(str(train), str(tmp_path / "test.tsv"))
    rows = source.rows("train")
    assert [(row.item, row.captions) for row in rows] == [
        ("162365", ("The sun sets – über docks.", "A dock.")),
        ("7", ("One.",)),
    ]
    assert [load_image(row).getpixel((0, 0)) for row in rows] == [(11, 0, 0), (22, 0, 0)]
    assert [str(row.image) for row in rows] == [f"{train}:1", f"{train}:2"]
    assert [row.captions for row in source.rows("eval")] == [("Held out.",)]


def test_the_images_stay_in_the_file(tmp_path: Path) -> None:
    train = tsv(tmp_path / "train.tsv", ("1", "1", "One.", "", image(11)))
    row = OfaCaptions(str(train), "x").rows("train")[0]
    assert len(repr(row)) < 400
    tsv(train, ("1", "1", "One.", "", image(99)))
    assert load_image(row).getpixel((0, 0)) == (99, 0, 0)
    train.unlink()
    with pytest.raises(RslitError, match=r"train.tsv:1 of item 1 does not exist"):
        load_image(row)


def test_lines_of_one_id_make_one_row(tmp_path: Path) -> None:
    train = tsv(
        tmp_path / "train.tsv",
        ("a", "1", "First.", "", image(1)),
        ("b", "2", "Other.", "", image(2)),
        ("c", "1", "Second.", "", image(1)),
    )
    by_image = OfaCaptions(str(train), "x", columns=[1, 4, 2]).rows("train")
    assert [(row.item, row.captions) for row in by_image] == [("1", ("First.", "Second.")), ("2", ("Other.",))]
    assert len(OfaCaptions(str(train), "x").rows("train")) == 3


def test_url_safe_base64_and_windows_lines(tmp_path: Path) -> None:
    safe = base64.urlsafe_b64encode(encoded(kind="JPEG")).decode()
    assert set(safe) & set("-_")
    (tmp_path / "train.tsv").write_bytes(f"1\t1\tOne.\t\t{safe}\r\n2\t2\tTwo.\t\t{safe}\r\n".encode())
    rows = OfaCaptions(str(tmp_path / "train.tsv"), "x").rows("train")
    assert [load_image(row).size for row in rows] == [(8, 6)] * 2


def accuracy(answer: str, answers: tuple[str, ...]) -> float:
    """VQA's own measure: over every choice of nine of the ten annotators, a third for each who says so."""
    others = [answers[:k] + answers[k + 1 :] for k in range(len(answers))]
    return sum(min(1.0, Counter(nine)[answer] / 3) for nine in others) / len(others)


def test_questions(tmp_path: Path) -> None:
    train = tsv(
        tmp_path / "train.tsv",
        ("79459", "1", "is this person wearing shorts?", "0.6|!+no&&1.0|!+yes, he is&&0.3|!+maybe", "x", image(1)),
        ("80", "2", "what?", "0.9|!+this&&0.6|!+that", "x", image(2)),
        ("81", "2", "who?", "1.0|!+he", "x", image(3)),
        ("81", "2", "who?", "0.3|!+she", "x", image(3)),
    )
    rows = OfaQuestions(str(train), "x").rows("train")
    assert [(row.item, row.question) for row in rows] == [
        ("79459", "is this person wearing shorts?"),
        ("80", "what?"),
        ("81", "who?"),
    ]
    assert rows[0].answers == ("yes, he is",) * 7 + ("no",) * 2 + ("maybe",)
    assert rows[1].answers == ("this",) * 3 + ("that",) * 2
    assert rows[2].answers == ("he",) * 9 + ("she",)
    for answer, confidence in (("yes, he is", 1.0), ("no", 0.6), ("maybe", 0.3), ("never", 0.0)):
        assert accuracy(answer, rows[0].answers) == pytest.approx(confidence)
    assert load_image(rows[2]).getpixel((0, 0)) == (3, 0, 0)


@pytest.mark.parametrize("cell", ["no", "0.6|!+", "x|!+no", "1.5|!+no", "0|!+no", "nan|!+no", "0.6|!+no&&", ""])
def test_answers_that_are_none(tmp_path: Path, cell: str) -> None:
    train = tsv(tmp_path / "train.tsv", ("1", "1", "what?", cell, "x", image(1)))
    message = refused(OfaQuestions(str(train), "x"))
    assert message.startswith(f"data.source: {train}:1: an answer must be confidence|!+answer")


def test_regions(tmp_path: Path) -> None:
    train = tsv(
        tmp_path / "train.tsv",
        ("79_1", "237367", "A woman in white.", "10.79,21.75,43.66,55.06", image(1)),
        ("79_2", "237367", "all", "0,0,80.0,60.001", image(1)),
    )
    rows = OfaRegions(str(train), "x").rows("train")
    assert [(row.item, row.expression, row.size) for row in rows] == [
        ("79_1", "A woman in white.", (80, 60)),
        ("79_2", "all", (80, 60)),
    ]
    assert [row.box for row in rows] == [(10.79, 21.75, 43.66, 55.06), (0.0, 0.0, 80.0, 60.0)]


def test_regions_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    source = OfaRegions(str(path), "x")
    tsv(path, ("1", "1", "x", "0,0,90,60", image(1)))
    assert f"{path}:1: item 1: the box 0, 0, 90, 60 (x0, y0, x1, y1) is outside its image of 80 x 60" in refused(source)
    tsv(path, ("1", "1", "x", "here", image(1)))
    assert f"{path}:1: the box must be x0,y0,x1,y1, got 'here'" in refused(source)
    tsv(path, ("1", "1", "x", "1,2,3", image(1)))
    assert f"{path}:1: item 1: a box is four finite numbers, got [1.0, 2.0, 3.0]" in refused(source)
    tsv(path, ("1", "1", "x", "0,0,9,9", "not base64!"))
    assert f"{path}:1: the image is no base64" in refused(source)
    tsv(path, ("1", "1", "x", "0,0,9,9", base64.b64encode(b"no image").decode()))
    assert f"image {path}:1 of item 1 cannot be read (it is no image file)" in refused(source)
    tsv(path, *[("1", "1", "x", "0,0,9,9", image(1))] * 2)
    assert f"{path} has item 1 twice" in refused(source)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    source = OfaCaptions(str(path), "x")
    assert refused(source) == f"data.source: {path} does not exist; put it there or give its place"
    tsv(path, ("1", image(1), "One."))
    assert refused(source) == (
        f"data.source: {path}:1 has 3 columns, and columns [0, 4, 2] (from 0: id, image, …) need 5; set data.source's "
        "columns as the file has them"
    )
    assert OfaCaptions(str(path), "x", columns=(0, 1, 2)).rows("train")[0].captions == ("One.",)
    tsv(path, ("1", "1", "One.&&", "", image(1)))
    assert f"{path}:1: a caption is no text ('')" in refused(source)
    path.write_bytes(b"1\t1\t\xff\xfe\t\tx\n")
    assert refused(source).startswith(f"data.source: {path} is no UTF-8 text")
    path.write_bytes(b"")
    assert refused(source) == f"data.source: {path} has no rows; give a split or file that has"


def test_options() -> None:
    for source, columns in ((OfaCaptions, [0, 1]), (OfaRegions, [0, 4, 2]), (OfaQuestions, [0, -1, 2, 3])):
        with pytest.raises(RslitError, match=r"data.source: columns are the places of id, image, "):
            source("a.tsv", "b.tsv", columns=columns)
    with pytest.raises(RslitError, match=r"training and evaluation are both 'a.tsv'; give two in train and eval"):
        OfaCaptions("a.tsv", "a.tsv")
