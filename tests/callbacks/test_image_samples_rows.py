"""What is shown of an answer about an image."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from image_samples_kit import Stored, answers, boxes, captions

from rslit.callbacks.image_rows import (
    answer_row,
    asked,
    chosen_points,
    given,
    images_of,
    point_name,
    said,
    sample_rows,
    shown_scores,
    weights,
)
from rslit.errors import RslitError
from rslit.soup import format_lam, lattice

NAN = float("nan")


def test_a_caption_an_answer_and_a_box_are_told_apart_by_their_fields() -> None:
    caption = answer_row(captions("x", ["1"]), 0)
    assert set(caption) == {"image", "references", "caption"}
    assert asked(caption) == ""
    assert said(caption).startswith("x says 1 ")
    assert given(caption) == ["A thing of 1.", "Another <thing>."]
    answer = answer_row(answers("three", ["1"]), 0)
    assert (asked(answer), said(answer), given(answer)) == ("How many in 1?", "three", ["two × 2", "2"])
    box = answer_row(boxes([[8.0, 0.0, 24.0, 16.0]], ["1"]), 0)
    assert box["image_size"] == [32, 16]
    assert box["target"] == [0.0, 0.0, 16.0, 16.0]
    assert box["box"] == [8.0, 0.0, 24.0, 16.0]
    assert box["iou"] == pytest.approx(8 / 24)
    assert (asked(box), said(box), given(box)) == ("left half of 1", "", [])
    json.dumps([caption, answer, box], allow_nan=False)


def test_silence_and_invalid_boxes_are_said_to_be_so() -> None:
    assert said(answer_row(answers(" ", ["1"]), 0)) == "(nothing)"
    row = answer_row(boxes([[0.0, NAN, 3.0, 4.0]], ["1"]), 0)
    assert (row["box"], row["iou"], said(row)) == (None, 0.0, "no box")
    json.dumps(row, allow_nan=False)


def test_the_overlap_is_shown_once() -> None:
    row = {"iou": 0.25}
    assert shown_scores({**row, "scores": {"small": 1.0}}) == {"IoU": 0.25, "small": 1.0}
    assert shown_scores({**row, "scores": {"iou": 0.25}}) == {"iou": 0.25}
    assert shown_scores({"scores": {"bleu": None}}) == {"bleu": None}


def test_several_answers_to_an_item_belong_together() -> None:
    samples = captions("x", ["p", "p", "q", "q", "r", "r"])
    found = sample_rows(samples, 2)
    assert [[row["item"] for row in rows] for rows in found] == [["p", "p"], ["q", "q"]]
    assert [row["scores"]["one"] for rows in found for row in rows] == [0.0, 0.25, 0.5, 0.75]


def test_a_shared_image_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    original = Stored.read
    monkeypatch.setattr(Stored, "read", lambda self: read.append(self) or original(self))
    samples = captions("x", ["1", "2", "3"], [Stored(), Stored(size=(4, 4)), Stored()])
    found = images_of(samples, [{"item": item} for item in ("1", "3")])
    assert read == [Stored()]
    assert found["1"] is found["3"]
    assert set(found) == {"1", "3"}


def test_files_are_loaded_and_sizes_checked(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(Stored(size=(6, 4)).read())
    samples = captions("x", ["1"], [tmp_path / "image.png"])
    assert images_of(samples, [{"item": "1"}])["1"].size == (6, 4)
    with pytest.raises(RslitError, match="is 6 x 4, but its data file says 32 x 16"):
        images_of(samples, [{"item": "1", "image_size": [32, 16]}])


def soups(experts: int, parts: int) -> list[dict[str, Any]]:
    names = [f"e{k}" for k in range(experts)]
    labels = [format_lam(dict(zip(names, lam, strict=True))) for lam in lattice(experts, parts)]
    rows = [{"point": "soup", "label": label} for label in labels]
    return [*rows, {"point": "initialisation", "label": "initialisation"}, {"point": "morl", "label": "mu one=1"}]


def test_the_name_and_weights_of_a_point() -> None:
    rows = soups(2, 2)
    assert [point_name(row) for row in rows] == ["expert", "soup", "expert", "initialisation", "MORL"]
    assert weights(rows[1]) == [("e0", 0.5), ("e1", 0.5)]
    assert weights(rows[3]) == []
    assert weights(rows[4]) == [("one", 1.0)]
    assert point_name({"point": "soup", "label": "a=1,b=1/2,c=-1/2"}) == "soup"


def test_a_sheet_of_two_experts_has_five_spread_points() -> None:
    assert [weights(soups(2, 10)[k])[0][1] for k in chosen_points(soups(2, 10))] == [1.0, 0.8, 0.5, 0.2, 0.0]
    assert [weights(soups(2, 8)[k])[0][1] for k in chosen_points(soups(2, 8))] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert chosen_points(soups(2, 3)) == [0, 1, 2, 3]


def test_a_sheet_of_more_experts_has_each_and_the_uniform_average() -> None:
    rows = soups(3, 6)
    picked = [[Fraction(value) for _, value in weights(rows[k])] for k in chosen_points(rows)]
    assert sorted(picked[:3]) == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert torch.tensor([float(v) for v in picked[3]]).tolist() == pytest.approx([1 / 3] * 3)
    assert len(picked) == 4
