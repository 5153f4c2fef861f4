"""Pictures in the files of COCO, Karpathy's split, VQA v2 and RefCOCO, with all the fields of the official ones.

Every id is a function of the split and the picture's number in it, so a larger world holds the smaller one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from rslit.scenes.captions import caption_scene
from rslit.scenes.expressions import refer_to
from rslit.scenes.questions import Question, ask_about
from rslit.scenes.shapes import SHAPES, area, outline
from rslit.scenes.single import captions_of, sample_single
from rslit.scenes.world import SPLITS, Scene, sample_scene

__all__ = ["MOST_PICTURES", "Files", "Picture", "make_picture", "make_single", "question_type", "tokens"]

MOST_PICTURES = 999_999
"""How many pictures a split may have; VQA's question ids still fit 32 bits then."""

_INFO = {
    "description": "Scenes of coloured shapes, drawn by rslit",
    "url": "",
    "version": "1.0",
    "year": 2014,
    "contributor": "rslit",
    "date_created": "2014-01-01 00:00:00",
}
_LICENSE = {"id": 1, "name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
_CATEGORIES = [{"supercategory": "shape", "id": k, "name": shape} for k, shape in enumerate(SHAPES, 1)]

# Those of VQA's 65 beginnings that our questions have.
_QUESTION_TYPES = (
    *("how many", "what color is the", "what is the", "what is in the", "what is", "what", "where is the"),
    *("is there a", "is there", "is the", "do you", "are there"),
)


@dataclass(frozen=True)
class Picture:
    """A scene and all that is said of it.

    Attributes:
        split: "train", "val" or "test".
        index: Its number in the split, from 0.
        scene: What is drawn.
        captions: Five; of a scene of one shape, two or three.
        questions: Six; none of a scene of one shape.
        expressions: For each thing of the scene, one to three; none in a scene of one shape.
    """

    split: str
    index: int
    scene: Scene
    captions: tuple[str, ...]
    questions: tuple[Question, ...]
    expressions: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> int:
        """The image id."""
        return (MOST_PICTURES + 1) * SPLITS.index(self.split) + self.index + 1

    @property
    def folder(self) -> str:
        """Where COCO keeps it: held-out images, for validation or for testing, are all in val2014."""
        return "train2014" if self.split == "train" else "val2014"

    @property
    def stem(self) -> str:
        """The image file's name without its ending."""
        return f"COCO_{self.folder}_{self.id:012}"


def make_picture(seed: int, split: str, index: int, size: int = 64) -> Picture:
    """The picture with this number; each part of it has its own random numbers."""
    scene = sample_scene(seed, split, index, size)
    return Picture(
        split,
        index,
        scene,
        caption_scene(scene, Random(f"{seed}/{split}/{index}/captions")),
        ask_about(scene, Random(f"{seed}/{split}/{index}/questions")),
        tuple(
            refer_to(scene, thing, Random(f"{seed}/{split}/{index}/expressions/{k}"))
            for k, thing in enumerate(scene.things)
        ),
    )


def make_single(seed: int, split: str, index: int, size: int = 32) -> Picture:
    """The picture of one shape with this number; see :mod:`rslit.scenes.single`."""
    scene = sample_single(seed, split, index, size)
    return Picture(split, index, scene, captions_of(scene, split, Random(f"{seed}/{split}/{index}/told")), (), ())


def tokens(text: str) -> list[str]:
    """Words in lower case without punctuation, as in Karpathy's and RefCOCO's files."""
    return re.findall(r"[a-z0-9]+", text.lower())


def question_type(question: str) -> str:
    """The longest of VQA's question types that the question begins with."""
    found = [kind for kind in _QUESTION_TYPES if f"{question.lower()} ".startswith(f"{kind} ")]
    return max(found, key=len, default="none of the above")


@dataclass
class _Document:
    """A JSON file: fixed fields, and lists to which records are added (kept as text, which takes less memory)."""

    head: Mapping[str, Any]
    lists: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        self.lists.setdefault(name, []).append(json.dumps(record))

    def chunks(self, names: Iterable[str]) -> Iterable[str]:
        """The file's text, with a record on each line."""
        yield json.dumps(self.head)[:-1]
        for name in names:
            yield f', "{name}": [\n'
            yield ",\n".join(self.lists.get(name, []))
            yield "\n]"
        yield "}\n"


class Files:
    """The annotation files of a world, filled picture by picture.

    Args:
        single: Of a world of single shapes, about which nothing is asked: no files of VQA and RefCOCO.
    """

    def __init__(self, single: bool = False) -> None:
        self._documents: dict[str, tuple[_Document, tuple[str, ...]]] = {}
        self._karpathy_images = self._karpathy_sentences = 0
        coco = {"info": _INFO, "licenses": [_LICENSE]}
        for part in ("train2014", "val2014"):
            self._new(f"annotations/captions_{part}.json", coco, "images", "annotations")
            with_categories = coco | {"categories": _CATEGORIES}
            self._new(f"annotations/instances_{part}.json", with_categories, "images", "annotations")
            if single:
                continue
            vqa = {"info": _INFO, "license": _LICENSE, "data_subtype": part, "data_type": "mscoco"}
            questions = vqa | {"task_type": "Open-Ended"}
            self._new(f"vqa/v2_OpenEnded_mscoco_{part}_questions.json", questions, "questions")
            self._new(f"vqa/v2_mscoco_{part}_annotations.json", vqa, "annotations")
        self._new("dataset_coco.json", {"dataset": "coco"}, "images")
        self._single = single
        if not single:
            self._new("refcoco/instances.json", coco | {"categories": _CATEGORIES}, "images", "annotations")
        self._refs: list[str] = []

    def _new(self, name: str, head: Mapping[str, Any], *lists: str) -> None:
        self._documents[name] = (_Document(head), lists)

    def _add(self, name: str, part: str, record: Mapping[str, Any]) -> None:
        self._documents[name][0].add(part, record)

    def texts(self) -> Iterable[tuple[str, Iterable[str]]]:
        """Each file's path in the world's folder, and its text in pieces."""
        for name, (document, lists) in self._documents.items():
            yield name, document.chunks(lists)
        # The official file is a pickled list; this is the same list.
        if not self._single:
            yield "refcoco/refs(unc).json", ("[\n", ",\n".join(self._refs), "\n]\n")

    def add(self, picture: Picture) -> None:
        """Adds a picture to all files."""
        self._add_coco(picture)
        self._add_karpathy(picture)
        self._add_vqa(picture)
        self._add_refcoco(picture)

    def _add_coco(self, picture: Picture) -> None:
        name = f"{picture.stem}.jpg"
        image = {
            "license": 1,
            "file_name": name,
            "coco_url": f"http://images.cocodataset.org/{picture.folder}/{name}",
            "height": picture.scene.size,
            "width": picture.scene.size,
            "date_captured": "2014-01-01 00:00:00",
            "flickr_url": "",
            "id": picture.id,
        }
        captions, instances = (f"annotations/{kind}_{picture.folder}.json" for kind in ("captions", "instances"))
        refcoco = () if self._single else ("refcoco/instances.json",)
        for file in (captions, instances, *refcoco):
            self._add(file, "images", image)
        for k, caption in enumerate(picture.captions):
            self._add(captions, "annotations", {"image_id": picture.id, "id": picture.id * 10 + k, "caption": caption})
        for k, thing in enumerate(picture.scene.things):
            x0, y0, x1, y1 = thing.box
            polygon = outline(thing.shape, thing.box)
            annotation = {
                "segmentation": [[round(number, 2) for point in polygon for number in point]],
                "area": round(area(polygon), 4),
                "iscrowd": 0,
                "image_id": picture.id,
                "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                "category_id": SHAPES.index(thing.shape) + 1,
                "id": picture.id * 10 + k,
            }
            for file in (instances, *refcoco):
                self._add(file, "annotations", annotation)

    def _add_karpathy(self, picture: Picture) -> None:
        image, first = self._karpathy_images, self._karpathy_sentences
        sentences = [
            {"tokens": tokens(caption), "raw": caption, "imgid": image, "sentid": first + k}
            for k, caption in enumerate(picture.captions)
        ]
        self._karpathy_images += 1
        self._karpathy_sentences += len(sentences)
        record = {
            "filepath": picture.folder,
            "sentids": [sentence["sentid"] for sentence in sentences],
            "filename": f"{picture.stem}.jpg",
            "imgid": image,
            "split": picture.split,
            "sentences": sentences,
            "cocoid": picture.id,
        }
        self._add("dataset_coco.json", "images", record)

    def _add_vqa(self, picture: Picture) -> None:
        for k, question in enumerate(picture.questions):
            ids = {"image_id": picture.id, "question_id": picture.id * 1000 + k}
            self._add(
                f"vqa/v2_OpenEnded_mscoco_{picture.folder}_questions.json",
                "questions",
                {**ids, "question": question.text},
            )
            answers = [
                {"answer": answer, "answer_confidence": confidence, "answer_id": n}
                for n, (answer, confidence) in enumerate(question.answers, 1)
            ]
            annotation = {
                "question_type": question_type(question.text),
                "multiple_choice_answer": question.truth,
                "answers": answers,
                "answer_type": question.answer_type,
            }
            self._add(f"vqa/v2_mscoco_{picture.folder}_annotations.json", "annotations", {**ids, **annotation})

    def _add_refcoco(self, picture: Picture) -> None:
        shapes = [thing.shape for thing in picture.scene.things]
        # RefCOCO's testA has images with several people, testB images with other things.
        split = picture.split if picture.split != "test" else "testA" if len({*shapes}) < len(shapes) else "testB"
        for k, texts in enumerate(picture.expressions):
            annotation = picture.id * 10 + k
            sentences = [
                {"tokens": tokens(text), "raw": text, "sent_id": annotation * 10 + n, "sent": " ".join(tokens(text))}
                for n, text in enumerate(texts)
            ]
            record = {
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                # Not the image's name, in RefCOCO's files neither; that one is in instances.json.
                "file_name": f"{picture.stem}_{k}.jpg",
                "ann_id": annotation,
                "ref_id": annotation,
                "image_id": picture.id,
                "split": split,
                "sentences": sentences,
                "category_id": SHAPES.index(shapes[k]) + 1,
            }
            self._refs.append(json.dumps(record))
