"""Images that are kept as they are drawn: what is written, what a stopped run does next, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from image_writer_kit import contents, draw
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from toy_images import PROMPTS, ToyDrawer, drawn, image_folder, prompts_file

from rslit.callbacks import ImageWriter
from rslit.datamodules import GeneratedImagesDataModule, PromptDataModule
from rslit.diffusion.image_folder import image_path, image_text, read_index, write_rewards
from rslit.diffusion.prompts import image_seed
from rslit.errors import RslitError


class Stop(Callback):
    """As if the run were killed after some batches, in the middle of writing."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_predict_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batches:
            raise InterruptedError


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(RslitError) as caught:
        draw(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_of_what_was_drawn(tmp_path: Path) -> None:
    module, returned = draw(tmp_path)
    assert returned is None, "images are not kept in memory"
    folder = tmp_path / "out"
    images = read_index(folder)
    assert [image.prompt for image in images] == PROMPTS
    assert module.items == [image.item for image in images] == [f"p-0000{k}" for k in range(1, 6)]
    assert set(contents(folder)) == {"images.jsonl", *(f"images/p-0000{k}.png" for k in range(1, 6))}
    for image in images:
        assert image.seed == image_seed(0, image.item)
        assert image_text(image.path) == {
            "item": image.item,
            "prompt": image.prompt,
            "seed": str(image.seed),
            "model": "toy",
            "lam": "initialisation",
        }
        pixels = np.asarray(Image.open(image.path))
        assert np.array_equal(pixels, drawn(image.prompt, image.seed).permute(1, 2, 0).numpy())
    assert not np.array_equal(*(np.asarray(Image.open(images[k].path)) for k in (0, 4))), "one prompt, two seeds"


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    draw(whole)
    with pytest.raises(InterruptedError):
        draw(stopped, None, None, Stop(2))
    folder = stopped / "out"
    assert len(contents(folder)) == 4
    assert not (folder / "images.jsonl").exists()
    (folder / "images" / ".p-00005.png.x").write_bytes(b"half a file of the killed run")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("images/p-*.png")}
    module, _ = draw(stopped)
    assert module.items == ["p-00005"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (folder / "images" / ".p-00005.png.x").unlink()
    assert contents(folder) == contents(whole / "out")


def test_a_finished_run_draws_nothing_and_mends_the_list(tmp_path: Path) -> None:
    draw(tmp_path)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "images.jsonl").unlink()
    module, returned = draw(tmp_path)
    assert (module.items, returned) == ([], None)
    assert contents(tmp_path / "out") == before


def test_more_prompts_are_drawn_beside_those_that_are_there(tmp_path: Path) -> None:
    path = str(prompts_file(tmp_path / "p.txt"))
    first, _ = draw(tmp_path, None, PromptDataModule(path, limit=2))
    assert len(first.items) == len(read_index(tmp_path / "out")) == 2
    second, _ = draw(tmp_path, None, PromptDataModule(path, limit=4))
    assert len(second.items) == 2
    assert not set(first.items) & set(second.items)
    assert len(read_index(tmp_path / "out")) == 4
    write_rewards(tmp_path / "out", [*first.items, *second.items], {"ava": {}})
    assert refused(tmp_path, None, PromptDataModule(path)) == (
        f"{tmp_path}/out/rewards.parquet has rewards, but 1 of 5 images are not drawn; delete it, draw the images, and "
        "score them again"
    )


def test_part_of_the_batches_leaves_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("rslit.callbacks.image_writer.rank_zero_info", said.append)
    draw(tmp_path, limit_predict_batches=1)
    assert not (tmp_path / "out" / "images.jsonl").exists()
    folder = tmp_path / "out"
    draw(tmp_path)
    assert said == [
        f"images: 5 to draw into {folder}, 0 are there",
        f"images: 2 of 5 are in {folder}; run again for the others",
        f"images: 3 to draw into {folder}, 2 are there",
        f"images: all 5 are in {folder}",
    ]


@pytest.mark.parametrize("harm", ["cut", "prompt", "seed", "model"])
def test_images_that_are_broken_or_of_something_else(tmp_path: Path, harm: str) -> None:
    draw(tmp_path)
    folder, data, module = tmp_path / "out", None, ToyDrawer()
    path = image_path(folder, "p-00001")
    if harm == "cut":
        path = image_path(folder, "p-00003")
        path.write_bytes(path.read_bytes()[:-30])
        expected = f"{path} is no image that can be read ("
    elif harm == "prompt":
        data = PromptDataModule(str(prompts_file(tmp_path / "p.txt", ["a green star", *PROMPTS[1:]])))
        expected = f"{path} is another image: it says prompt 'a red circle', not 'a green star'; delete it, delete "
        expected += f"{folder}, or give another folder"
    elif harm == "seed":
        data = PromptDataModule(str(tmp_path / "p.txt"), image_seed=1)
        expected = f"{path} is another image: it says seed '{image_seed(0, 'p-00001')}', not '"
    else:
        module = ToyDrawer("other")
        expected = f"{path} is another image: it says model 'toy', not 'other'"
    before = contents(folder)
    assert refused(tmp_path, module, data).startswith(expected)
    assert module.items == []
    assert contents(folder) == before


def test_data_and_modules_that_draw_nothing(tmp_path: Path) -> None:
    message = refused(tmp_path, None, GeneratedImagesDataModule(str(image_folder(tmp_path / "x"))))
    assert message.startswith("ImageWriter keeps what is drawn of a PromptDataModule, not of GeneratedImagesDataModule")

    class Plain(LightningModule):
        def forward(self) -> None:
            """Lightning asks for it."""

    assert refused(tmp_path, Plain()).startswith("ImageWriter keeps what a TextToImageModule draws, not a Plain")


def test_other_verbs_are_left_alone(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(datamodule=None)
    ImageWriter(str(tmp_path / "out")).setup(trainer, ToyDrawer(), "fit")
    assert not (tmp_path / "out").exists()


def test_indices_are_json_lines(tmp_path: Path) -> None:
    draw(tmp_path)
    lines = (tmp_path / "out" / "images.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == PROMPTS
    assert "漢字" in lines[2]
