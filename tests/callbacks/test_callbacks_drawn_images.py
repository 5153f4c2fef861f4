"""What a person sees of drawn images: a strip while training, a grid over λ, images that say what they are."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_pipelines import SIZE

from rslit.callbacks import DrawnImagesCallback
from rslit.callbacks.samples import point_rows
from rslit.diffusion.image_folder import image_text
from rslit.samples import Samples

POINTS = [("soup", "a=1,b=0"), ("soup", "a=1/2,b=1/2"), ("soup", "a=0,b=1"), ("initialisation", "initialisation")]


def drawn(shade, count=3):
    images = torch.full((count, 3, SIZE, SIZE), shade, dtype=torch.uint8)
    fields = {"image": images, "prompt": [f"prompt {k} <b>" for k in range(count)], "seed": list(range(7, 7 + count))}
    return Samples([f"p{k}" for k in range(count)], fields, {"bright": torch.full((count,), shade / 255)})


def sweep(tmp_path):
    callback = DrawnImagesCallback(count=2)
    batch = [drawn(shade) for shade in (0, 60, 120, 180)]
    rows = point_rows(POINTS, [batch], 2, callback.describe)
    files = callback.files(["a", "b"], rows, batch[0])
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return rows, files


def test_images_say_prompt_seed_and_lambda(tmp_path):
    rows, _ = sweep(tmp_path)
    assert len(rows) == 8
    assert len({row["file"] for row in rows}) == 8
    for row in rows:
        text = image_text(tmp_path / row["file"], decode=True)
        assert text == {"item": row["item"], "prompt": row["prompt"], "seed": str(row["seed"]), "lam": row["label"]}
        shade = Image.open(tmp_path / row["file"]).getpixel((0, 0))[0]
        assert shade / 255 == pytest.approx(row["scores"]["bright"], abs=1e-6)
    json.dumps(rows)


def test_the_page_has_every_image_and_asks_for_nothing(tmp_path):
    rows, files = sweep(tmp_path)
    page = files["index.html"].decode()
    assert "What the soups of a and b draw" in page
    assert page.count("<use href=") == len(rows)
    assert "prompt 0 &lt;b&gt;" in page
    assert "<b>" not in page
    assert not re.findall(r"(?:src|href)='(?!#|data:)", page)
    assert "{{" not in page


def test_the_sheet_shows_prompts_over_lambda(tmp_path):
    _, files = sweep(tmp_path)
    sheet = Image.open(io.BytesIO(files["sheet.png"]))
    colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20)}
    assert {(0, 0, 0), (60, 60, 60), (120, 120, 120)} <= colours


def test_a_strip_in_tensorboard(tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    callback = DrawnImagesCallback(count=2)
    for step in (1, 2):
        callback.log_samples(logger, "samples/validation", drawn(100), step)
    assert not callback._drawn
    logger.finalize("success")
    events = EventAccumulator(str(Path(logger.log_dir)))
    events.Reload()
    shown = events.Images("samples/validation")
    assert [each.step for each in shown] == [1, 2]
    colours = {c for _, c in Image.open(io.BytesIO(shown[0].encoded_image_string)).convert("RGB").getcolors(1 << 20)}
    assert (100, 100, 100) in colours


def test_other_tasks_are_refused():
    from rslit.errors import RslitError

    with pytest.raises(RslitError, match="DrawnImagesCallback shows a TextToImageModule's samples"):
        DrawnImagesCallback().setup(None, torch.nn.Linear(1, 1), "fit")
