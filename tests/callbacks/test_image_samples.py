"""What is said about images, shown: the panels in TensorBoard, the page and the sheet of a sweep."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from image_samples_kit import BLUE, NASTY, POINTS, RED, Stored, Sweep, answers, boxes, captions, trainer_of
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rslit.callbacks.image_samples import ImageSamplesCallback
from rslit.errors import RslitError
from rslit.modules import CaptioningModule, LocomotionModule
from rslit.samples import Samples


def panels(root: Path) -> dict[str, Image.Image]:
    """The images that TensorBoard finds, each logged once, at step 7."""
    events = EventAccumulator(str(root / "log")).Reload()
    found = {name: events.Images(name) for name in events.Tags()["images"]}
    assert all([event.step for event in logged] == [7] for logged in found.values())
    return {name: Image.open(io.BytesIO(logged[0].encoded_image_string)) for name, logged in found.items()}


def validate(
    callback: ImageSamplesCallback, trainer: Any, module: Any, *batches: Any, verb: str = "validation"
) -> None:
    for k, samples in enumerate(batches):
        getattr(callback, f"on_{verb}_batch_end")(trainer, module, {"samples": samples}, None, k)
    getattr(callback, f"on_{verb}_end")(trainer, module)


def test_panels_in_tensorboard_show_the_last_rollout_and_a_validation(tmp_path: Path) -> None:
    callback, trainer = ImageSamplesCallback(count=3), trainer_of(tmp_path)
    rollout = captions("x", ["p", "p", "q", "q"], [Stored()] * 2 + [Stored(colour=BLUE)] * 2)
    callback.on_train_epoch_end(trainer, SimpleNamespace(latest=rollout))  # type: ignore[arg-type]
    validate(callback, trainer, object(), answers("two", ["k", "l"]), answers("2", ["m", "n"]))
    trainer.loggers[0].save()
    found = panels(tmp_path)
    assert set(found) == {"samples/rollout", "samples/validation"}
    # Two answers to an image share its cell: 2 cells of 224 pixels, with 12 around them.
    assert found["samples/rollout"].width == 2 * 236 + 12
    assert found["samples/rollout"].getpixel((12 + 112, 12 + 56)) == RED
    assert found["samples/rollout"].getpixel((12 + 236 + 112, 12 + 56)) == BLUE
    # As many as were asked for, from as many batches as that takes.
    assert found["samples/validation"].width == 3 * 236 + 12


def test_without_a_rollout_there_is_no_panel(tmp_path: Path) -> None:
    callback, trainer = ImageSamplesCallback(), trainer_of(tmp_path)
    callback.on_train_epoch_end(trainer, SimpleNamespace(latest=None))  # type: ignore[arg-type]
    for quiet in ({"is_global_zero": False}, {"sanity_checking": True}):
        validate(callback, trainer_of(tmp_path, loggers=trainer.loggers, **quiet), object(), answers("two", ["k"]))
    trainer.loggers[0].save()
    assert panels(tmp_path) == {}


@pytest.mark.parametrize("verb", ["validation", "test"])
def test_a_sweep_writes_rows_page_and_sheet(tmp_path: Path, verb: str) -> None:
    callback = ImageSamplesCallback(count=3, dirpath=str(tmp_path / "front" / "samples"))
    batches = [[captions(label, items) for _, label in POINTS] for items in (["1", "2"], ["3", "4"], ["5"])]
    validate(callback, trainer_of(tmp_path), Sweep(), *batches, verb=verb)
    folder = tmp_path / "front" / "samples"
    assert {path.name for path in folder.iterdir()} == {"index.html", "samples.jsonl", "sheet.png"}
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["item"], row["point"], row["label"]) for row in rows] == [(i, *p) for i in "123" for p in POINTS]
    assert rows[6]["caption"] == f"a=1/2,b=1/2 says 2 {NASTY}"
    assert rows[6]["references"] == ["A thing of 2.", "Another <thing>."]
    assert rows[6]["scores"] == {"one": 0.25, "two": None}
    assert rows[6]["image"] == str(Stored())
    assert "base64" not in (folder / "samples.jsonl").read_text()
    assert "What the soups of a and b say" in (folder / "index.html").read_text(encoding="utf-8")
    with Image.open(folder / "sheet.png") as sheet:
        # The items and three λ, at two pixels a unit.
        assert (sheet.format, sheet.mode, sheet.width) == ("PNG", "RGB", 2 * (4 * 236 + 12))


def test_the_page_is_beside_the_run_unless_said_otherwise_and_of_the_first_process(tmp_path: Path) -> None:
    batch = [boxes([[0.0, 0.0, 8.0, 16.0]], ["1"]) for _ in POINTS]
    validate(ImageSamplesCallback(), trainer_of(tmp_path, is_global_zero=False), Sweep(), batch)
    assert not (tmp_path / "samples").exists()
    validate(ImageSamplesCallback(), trainer_of(tmp_path), Sweep(), batch)
    assert (tmp_path / "samples" / "index.html").is_file()
    assert json.loads((tmp_path / "samples" / "samples.jsonl").read_text().splitlines()[0])["iou"] == 0.5


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    batch = [captions(label, ["1"], [tmp_path / "gone.png"]) for _, label in POINTS]
    with pytest.raises(RslitError, match=r"gone\.png of item 1 does not exist"):
        validate(ImageSamplesCallback(), trainer_of(tmp_path), Sweep(), batch)
    assert not (tmp_path / "samples").exists()


def test_refuses_what_sees_no_images() -> None:
    with pytest.raises(RslitError, match=r"ImageSamplesCallback\.count must be at least 1, got 0"):
        ImageSamplesCallback(count=0)
    callback: Any = ImageSamplesCallback()
    with pytest.raises(RslitError, match="shows a VisionModule's samples, not a LocomotionModule's"):
        callback.setup(None, LocomotionModule.__new__(LocomotionModule), "fit")
    callback.setup(None, CaptioningModule.__new__(CaptioningModule), "fit")
    callback.setup(None, SimpleNamespace(module=CaptioningModule.__new__(CaptioningModule)), "validate")


def test_tensors_of_a_gradient_or_half_precision_are_shown(tmp_path: Path) -> None:
    found = torch.tensor([[0.0, 0.0, 16.0, 16.0]], dtype=torch.bfloat16)
    plain = boxes([[0.0] * 4], ["1"])
    samples = Samples(["1"], {**plain.fields, "box": found}, {"one": torch.tensor([0.5], dtype=torch.bfloat16)})
    trainer = trainer_of(tmp_path)
    ImageSamplesCallback().on_train_epoch_end(trainer, SimpleNamespace(latest=samples))  # type: ignore[arg-type]
    trainer.loggers[0].save()
    assert set(panels(tmp_path)) == {"samples/rollout"}
