"""Data folders in the field's own formats, small and by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(size: tuple[int, int] = (8, 6), colour: Any = (200, 30, 40), kind: str = "PNG") -> bytes:
    """An image of one colour as a file's bytes."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def picture(path: Path, size: tuple[int, int] = (8, 6), colour: Any = (200, 30, 40)) -> Path:
    """Such an image as a file, of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(size, colour, "JPEG" if path.suffix == ".jpg" else "PNG"))
    return path


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image)


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def name(number: int, split: str = "train2014") -> str:
    return f"COCO_{split}_{number:012}.jpg"


def coco(folder: Path, split: str, numbers: list[int]) -> Path:
    """``captions_<split>.json`` with two captions an image, not side by side, and the images."""
    images = [{"id": n, "file_name": name(n, split), "width": 8, "height": 6, "license": 3} for n in numbers]
    said = [{"id": 10 * n + k, "image_id": n, "caption": f"Caption {k} of {n}.\n"} for k in (0, 1) for n in numbers]
    for n in numbers:
        picture(folder / "images" / split / name(n, split))
    content = {"info": {}, "images": images, "licenses": [], "annotations": said}
    return write_json(folder / "annotations" / f"captions_{split}.json", content)


def karpathy(folder: Path, splits: dict[int, str]) -> dict[str, Any]:
    """``dataset_coco.json`` as Karpathy's script writes it; train is in train2014, all else in val2014."""
    images = []
    for k, (number, split) in enumerate(splits.items()):
        place = "train2014" if split == "train" else "val2014"
        picture(folder / "images" / place / name(number, place))
        raw = [f"Raw {number}.", f"Other raw {number}."]
        sentences = [
            {"tokens": r.lower().strip(".").split(), "raw": r, "imgid": k, "sentid": 2 * k + j}
            for j, r in enumerate(raw)
        ]
        images.append(
            {
                "filepath": place,
                "sentids": [2 * k, 2 * k + 1],
                "filename": name(number, place),
                "imgid": k,
                "split": split,
                "sentences": sentences,
                "cocoid": number,
            }
        )
    content = {"images": images, "dataset": "coco"}
    write_json(folder / "dataset_coco.json", content)
    return content


def vqa(folder: Path, split: str, asked: dict[int, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Questions (by id, of image number) and ten answers each: seven times yes."""
    for number in asked.values():
        picture(folder / "images" / split / name(number, split))
    said = ["yes"] * 7 + ["no"] * 2 + ["maybe"]
    questions = {
        "info": {},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": {},
        "data_subtype": split,
        "questions": [{"image_id": n, "question": f"Is it {q}?", "question_id": q} for q, n in asked.items()],
    }
    annotations = {
        "info": {},
        "data_type": "mscoco",
        "license": {},
        "data_subtype": split,
        "annotations": [
            {
                "question_type": "is it",
                "multiple_choice_answer": "yes",
                "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": k + 1} for k, a in enumerate(said)],
                "image_id": n,
                "answer_type": "yes/no",
                "question_id": q,
            }
            for q, n in reversed(asked.items())
        ],
    }
    write_json(folder / "vqa" / f"v2_OpenEnded_mscoco_{split}_questions.json", questions)
    write_json(folder / "vqa" / f"v2_mscoco_{split}_annotations.json", annotations)
    return questions, annotations


def refcoco(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two refs to train on, of one image, and one held out; returned, with instances.json written."""
    images = [{"id": n, "file_name": name(n), "width": 80, "height": 60} for n in (42, 43)]
    boxes = {7: (42, [10, 20, 30.5, 25.25]), 8: (42, [0, 0, 80.005, 60]), 9: (43, [5, 5, 10, 10])}
    for image in images:
        picture(folder / "images" / "train2014" / str(image["file_name"]), (80, 60))
    instances = {
        "info": {},
        "images": images,
        "licenses": [],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": a, "image_id": n, "bbox": box, "area": 1.0, "category_id": 1, "iscrowd": 0}
            for a, (n, box) in boxes.items()
        ],
    }
    refs = [
        {
            "sent_ids": [10 * a, 10 * a + 1],
            "file_name": f"COCO_train2014_{boxes[a][0]:012}_{a}.jpg",
            "ann_id": a,
            "ref_id": 100 + a,
            "image_id": boxes[a][0],
            "split": split,
            "sentences": [
                {"tokens": ["man", str(a)], "raw": f"Man {a}!", "sent_id": 10 * a, "sent": f"man {a}"},
                {"tokens": ["him"], "raw": "Him.", "sent_id": 10 * a + 1, "sent": "him"},
            ],
            "category_id": 1,
        }
        for a, split in ((7, "train"), (8, "train"), (9, "val"))
    ]
    write_json(folder / "refcoco" / "instances.json", instances)
    return refs, instances
