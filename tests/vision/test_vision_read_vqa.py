from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from vision_files_kit import name, vqa, write_json

from rslit.errors import RslitError
from rslit.vision.files import EasyVqa, VqaV2
from rslit.vision.images import load_image
from rslit.vision.rows import QuestionRow

TEN = ("yes",) * 7 + ("no", "no", "maybe")


def refused(source: Any, part: Any = "train") -> str:
    with pytest.raises(RslitError) as caught:
        source.rows(part)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def places(folder: Path, split: str = "train2014") -> tuple[Path, Path]:
    vqa_folder = folder / "vqa"
    return (
        vqa_folder / f"v2_OpenEnded_mscoco_{split}_questions.json",
        vqa_folder / f"v2_mscoco_{split}_annotations.json",
    )


def test_questions_and_answers_meet(tmp_path: Path) -> None:
    vqa(tmp_path, "train2014", {420: 42, 421: 42, 70: 7})
    vqa(tmp_path, "val2014", {990: 99})
    source = VqaV2(str(tmp_path))
    images = tmp_path / "images" / "train2014"
    assert source.rows("train") == [
        QuestionRow("420", images / name(42), "Is it 420?", TEN),
        QuestionRow("421", images / name(42), "Is it 421?", TEN),
        QuestionRow("70", images / name(7), "Is it 70?", TEN),
    ]
    assert [row.item for row in source.rows("eval")] == ["990"]


@pytest.mark.parametrize("file", ["abstract_v002_train2015_000000000042.png", "000000000042.jpeg", "42.PNG"])
def test_images_by_the_number_in_their_names(tmp_path: Path, file: str) -> None:
    vqa(tmp_path, "train2014", {420: 42})
    images = tmp_path / "images" / "train2014"
    (images / name(42)).rename(images / file)
    (images / "readme42.txt").touch()
    assert VqaV2(str(tmp_path)).rows("train")[0].image == images / file


def test_files_beside_each_other(tmp_path: Path) -> None:
    vqa(tmp_path / "data", "train2014", {420: 42})
    (tmp_path / "data" / "images").rename(tmp_path / "coco")
    source = VqaV2(str(tmp_path / "data" / "vqa"), vqa=".", images=str(tmp_path / "coco"))
    assert len(source.rows("train")) == 1


def test_answers_that_do_not_fit(tmp_path: Path) -> None:
    questions, annotations = places(tmp_path)
    source = VqaV2(str(tmp_path))
    vqa(tmp_path, "train2014", {420: 42, 70: 7})
    _, other = vqa(tmp_path, "val2014", {990: 99})
    start, end = f"data.source: {annotations} does not fit {questions}: ", "; give questions and answers of one split"
    write_json(annotations, other)
    assert refused(source) == f"{start}question 420 has no answers in it{end}"
    _, fitting = vqa(tmp_path, "train2014", {420: 42, 70: 7})
    more = json.loads(json.dumps(fitting))
    more["annotations"].append(more["annotations"][0] | {"question_id": 71})
    write_json(annotations, more)
    assert refused(source) == f"{start}it answers question 71, which is not asked{end}"
    fitting["annotations"][0]["image_id"] = 8  # they are in reverse order
    write_json(annotations, fitting)
    assert refused(source) == f"{start}question 70 is about image 7, its answers are about 8{end}"


def test_test_questions_have_no_answers(tmp_path: Path) -> None:
    questions, annotations = places(tmp_path, "test2015")
    vqa(tmp_path, "test2015", {420: 42})
    annotations.unlink()
    assert refused(VqaV2(str(tmp_path), train_split="test2015")) == (
        f"data.source: {questions} has test questions, whose answers are not public ({annotations.name} does not exist)"
        "; give train2014 or val2014, whose answers are"
    )
    questions, annotations = places(tmp_path)
    vqa(tmp_path, "train2014", {420: 42})
    annotations.unlink()
    assert refused(VqaV2(str(tmp_path))) == f"data.source: {annotations} does not exist; put it there or give its place"


def test_a_missing_image(tmp_path: Path) -> None:
    questions, _ = places(tmp_path)
    vqa(tmp_path, "train2014", {420: 42, 70: 7})
    images = tmp_path / "images" / "train2014"
    (images / name(7)).unlink()
    assert refused(VqaV2(str(tmp_path))) == (
        f"data.source: {questions}: image 7 of question 70 is not in {images} (…000000000007.jpg or .png); put it "
        "there, or give the images and questions of one split"
    )
    (images / name(42)).unlink()
    images.rmdir()
    assert refused(VqaV2(str(tmp_path))) == (
        f"data.source: there is no folder of images {images}; give the one it is in as 'images'"
    )


def test_broken_records(tmp_path: Path) -> None:
    files = places(tmp_path)
    cases: list[tuple[int, Any, str]] = [
        (0, lambda c: c["questions"][0].pop("question"), "question 420 has no 'question'"),
        (0, lambda c: c["questions"][0].update(question=" "), "question 420 is no text (' ')"),
        (0, lambda c: c["questions"][0].update(image_id="42"), "'image_id' of question 420 must be a whole number"),
        (0, lambda c: c["questions"].append(c["questions"][0]), "has item 420 twice; keep one of the two"),
        (
            1,
            lambda c: c["annotations"][0].update(answers=[]),
            "the answer in the annotation of question 420 is missing",
        ),
        (
            1,
            lambda c: c["annotations"][0].update(answers=["yes"]),
            "an answer in the annotation of question 420 has no",
        ),
        (1, lambda c: c["annotations"][0].pop("answers"), "the annotation of question 420 has no 'answers'"),
        (
            1,
            lambda c: c.pop("annotations"),
            "has no list 'annotations' (it has: info, data_type, license, data_subtype)",
        ),
    ]
    for which, edit, message in cases:
        contents = vqa(tmp_path, "train2014", {420: 42})
        edit(contents[which])
        write_json(files[which], contents[which])
        assert message in refused(VqaV2(str(tmp_path)))
        assert str(files[which]) in refused(VqaV2(str(tmp_path)))


def test_an_empty_answer_of_ten_is_left_out(tmp_path: Path) -> None:
    _, annotations = vqa(tmp_path, "train2014", {420: 42})
    annotations["annotations"][0]["answers"][9]["answer"] = ""
    write_json(places(tmp_path)[1], annotations)
    assert VqaV2(str(tmp_path)).rows("train")[0].answers == TEN[:9]


def test_training_and_evaluation_differ() -> None:
    with pytest.raises(RslitError, match="training and evaluation are both 'train2014'"):
        VqaV2("x", eval_split="train2014")


def test_easy_vqa() -> None:
    easy_vqa = pytest.importorskip("easy_vqa")
    source = EasyVqa()
    train, held_out = source.rows("train"), source.rows("eval")
    assert (len(train), len(held_out)) == (38575, 9673)
    texts, answers, images = easy_vqa.get_test_questions()
    row = held_out[1234]
    assert (row.item, row.question, row.answers) == ("1234", texts[1234], (answers[1234],))
    assert isinstance(row.image, Path)
    assert row.image.parts[-3:] == ("test", "images", f"{images[1234]}.png")
    assert {row.answers[0] for row in train} == set(easy_vqa.get_answers())
    assert len({row.image for row in train}) == 4000
    assert (load_image(row).mode, load_image(row).size) == ("RGB", (64, 64))
    assert Counter(map(len, (row.answers for row in train))) == {1: 38575}
