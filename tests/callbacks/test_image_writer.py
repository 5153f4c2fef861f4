from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from toy_experiment import rslit_apart
from toy_images import PROMPTS, ToyDrawer, drawn, image_folder, prompts_file

from rslit.callbacks import ImageWriter
from rslit.cli import main
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


def draw(
    root: Path, module: LightningModule | None = None, data: Any = None, *callbacks: Callback, **options: Any
) -> Any:
    """Predicts into root/images-of-toy and returns the module and what `predict` returned."""
    given: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "barebones": False}
    given |= {"enable_checkpointing": False, "enable_model_summary": False, "default_root_dir": root}
    module = module or ToyDrawer()
    data = data or PromptDataModule(str(prompts_file(root / "p.txt")), batch_size=2)
    trainer = Trainer(callbacks=[ImageWriter(str(root / "out")), *callbacks], **given | options)
    return module, trainer.predict(module, data)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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


# -- several ranks ----------------------------------------------------------------------------------------------------


def ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, world: int) -> list[Any]:
    """A writer and its datamodule under a stand-in trainer for each rank; what ranks tell one another is kept."""
    path, folder = str(prompts_file(tmp_path / "p.txt")), str(tmp_path / "out")
    told: list[Any] = []
    monkeypatch.setattr("rslit.callbacks.image_writer.gather_states", lambda state: told.append(state) or [state])
    found = []
    for rank in range(world):
        trainer: Any = SimpleNamespace(global_rank=rank, world_size=world, is_global_zero=rank == 0, current_epoch=0)
        trainer.predict_loop, trainer.datamodule = SimpleNamespace(), PromptDataModule(path, batch_size=2)
        trainer.datamodule.trainer = trainer
        trainer.strategy = SimpleNamespace(barrier=lambda name: None)
        writer = ImageWriter(folder)
        writer.setup(trainer, ToyDrawer(), "predict")
        found.append((trainer, writer))
    # Now that all have told, each is given what all said.
    monkeypatch.setattr("rslit.callbacks.image_writer.gather_states", lambda state: told)
    for trainer, writer in found:
        writer.setup(trainer, ToyDrawer(), "predict")
    return found


def drawn_by(trainer: Any, writer: ImageWriter) -> list[str]:
    """Lets a rank draw and write its share."""
    module: Any = ToyDrawer()
    for k, batch in enumerate(trainer.datamodule.predict_dataloader()):
        samples = module.predict_step(batch, k)
        writer.on_predict_batch_end(trainer, module, samples, batch, k)
    return list(module.items)


def test_ranks_share_the_prompts_and_what_is_left_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "alone", None, PromptDataModule(str(prompts_file(tmp_path / "p.txt")), batch_size=3))
    both = ranks(monkeypatch, tmp_path, 2)
    shares = [drawn_by(*both[k]) for k in (0, 1)]
    assert shares == [["p-00001", "p-00003", "p-00005"], ["p-00002", "p-00004"]]
    for trainer, writer in reversed(both):
        writer.on_predict_epoch_end(trainer, ToyDrawer())
    assert contents(tmp_path / "out") == contents(tmp_path / "alone" / "out")
    for item in ("p-00001", "p-00003", "p-00005"):  # all of the first rank's: what is left is shared anew
        image_path(tmp_path / "out", item).unlink()
    again = ranks(monkeypatch, tmp_path, 2)
    assert [drawn_by(*again[k]) for k in (0, 1)] == [["p-00001", "p-00005"], ["p-00003"]]
    image_path(tmp_path / "out", "p-00002").unlink()
    one = ranks(monkeypatch, tmp_path, 2)
    assert [drawn_by(*one[k]) for k in (0, 1)] == [["p-00002"], ["p-00002"]], "no rank goes without"
    assert contents(tmp_path / "out") == contents(tmp_path / "alone" / "out")


def test_what_one_rank_finds_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path)
    path = image_path(tmp_path / "out", "p-00002")
    path.write_bytes(b"")
    for rank in (0, 1):
        # The second rank's share holds it; the first is told.
        told = [([], None), ([], f"{path} is no image")]
        monkeypatch.setattr("rslit.callbacks.image_writer.gather_states", lambda state, told=told: told)
        trainer: Any = SimpleNamespace(global_rank=rank, world_size=2, is_global_zero=rank == 0)
        trainer.datamodule = PromptDataModule(str(tmp_path / "p.txt"))
        trainer.datamodule.trainer = trainer
        with pytest.raises(RslitError, match=r"p-00002.png is no image"):
            ImageWriter(str(tmp_path / "out")).setup(trainer, ToyDrawer(), "predict")


# -- the command line -------------------------------------------------------------------------------------------------


def config(root: Path, **trainer: Any) -> Mapping[str, Any]:
    writer = {"class_path": "rslit.callbacks.ImageWriter", "init_args": {"folder": str(root / "out")}}
    options = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "callbacks": [writer]}
    prompts = str(prompts_file(root / "p.txt"))
    return {
        "trainer": {**options, "default_root_dir": str(root / "run"), **trainer},
        "model": {"class_path": "toy_images.ToyDrawer"},
        "data": {"class_path": "rslit.datamodules.PromptDataModule", "init_args": {"prompts": prompts}},
    }


def test_the_command_line(
    tmp_path: Path, write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_config(config(tmp_path), "draw.yaml")
    for _ in range(2):
        assert main(["predict", "--config", str(given)]) == 0
    assert len(read_index(tmp_path / "out")) == 5
    path = image_path(tmp_path / "out", "p-00002")
    path.write_bytes(path.read_bytes()[:-30])
    assert main(["predict", "--config", str(given)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"rslit: error: {path} is no image that can be read (")
    (tmp_path / "p.txt").write_text("")
    assert main(["predict", "--config", str(given)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"rslit: error: data.prompts: {tmp_path}/p.txt has no prompts; write one a line")


@pytest.mark.slow
def test_two_processes_go_on_with_a_folder_and_score_it(tmp_path: Path) -> None:
    """On gloo: the files are those of one process."""
    draw(tmp_path / "alone", None, PromptDataModule(str(prompts_file(tmp_path / "p.txt"))))
    two = {"devices": 2, "strategy": "ddp"}

    def run(given: Mapping[str, Any]) -> None:
        (tmp_path / "two.yaml").write_text(yaml.safe_dump(dict(given)))
        rslit_apart(tmp_path, "predict", "--config", str(tmp_path / "two.yaml"))

    (tmp_path / "out" / "images").mkdir(parents=True)
    for item in ("p-00001", "p-00003"):  # of the first rank; of the three that are left each draws its share
        image_path(tmp_path / "out", item).write_bytes(image_path(tmp_path / "alone" / "out", item).read_bytes())
    run(config(tmp_path, **two))
    assert contents(tmp_path / "out") == contents(tmp_path / "alone" / "out")
    score = {
        "trainer": {**config(tmp_path)["trainer"], **two, "callbacks": None},
        "model": {
            "class_path": "rslit.modules.ImageScorer",
            "init_args": {
                "rewards": [
                    {
                        "class_path": "rslit.rewards.FunctionReward",
                        "init_args": {"function": "toy_images.brightness"},
                    }
                ]
            },
        },
        "data": {
            "class_path": "rslit.datamodules.GeneratedImagesDataModule",
            "init_args": {"folder": str(tmp_path / "out"), "batch_size": 2},
        },
    }
    run(score)
    frame = pd.read_parquet(tmp_path / "out" / "rewards.parquet")
    images = read_index(tmp_path / "out")
    assert list(frame["item"]) == [image.item for image in images]
    expected = [float(drawn(image.prompt, image.seed).float().mean()) for image in images]
    assert frame["brightness"].to_list() == pytest.approx(expected)


def test_indices_are_json_lines(tmp_path: Path) -> None:
    draw(tmp_path)
    lines = (tmp_path / "out" / "images.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == PROMPTS
    assert "漢字" in lines[2]
