from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from toy_images import brightness, drawn, image_folder, redness

from rslit.cli import main
from rslit.datamodules import GeneratedImagesDataModule, PromptDataModule
from rslit.diffusion.image_folder import image_path, read_index, write_image
from rslit.errors import RslitError
from rslit.modules import ImageScorer
from rslit.rewards import FunctionReward
from rslit.samples import Samples


class Looker:
    """Keeps the samples it is asked about; does not apply to the image of p1."""

    unit = "points"
    range = (0.0, 1.0)

    def __init__(self, name: str = "looked") -> None:
        self.name = name
        self.seen: list[Samples] = []

    def __call__(self, samples: Samples) -> Tensor:
        self.seen.append(samples)
        return torch.tensor([math.nan if item == "p1" else 0.5 for item in samples.items])


def score(folder: Path, *rewards: Any, data: Any = None, verb: str = "predict", **options: Any) -> Any:
    given: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    given |= {"enable_checkpointing": False, "enable_model_summary": False, "default_root_dir": folder.parent}
    data = data or GeneratedImagesDataModule(str(folder), batch_size=4)
    return getattr(Trainer(**given | options), verb)(ImageScorer(list(rewards)), data)


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(RslitError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_image_gets_every_reward(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 6)
    looker = Looker()
    returned = score(folder, FunctionReward(brightness), FunctionReward(redness), looker)
    frame = pd.read_parquet(folder / "rewards.parquet")
    images = read_index(folder)
    assert list(frame) == ["item", "brightness", "redness", "looked"]
    assert list(frame["item"]) == [f"p{k}" for k in range(6)]
    pixels = [drawn(image.prompt, image.seed).float() for image in images]
    assert frame["brightness"].to_list() == pytest.approx([float(p.mean()) for p in pixels])
    assert frame["redness"].to_list() == pytest.approx([float(p[0].mean() - p[1:].mean()) for p in pixels], abs=1e-4)
    assert frame["looked"].isna().to_list() == [k == 1 for k in range(6)]
    assert [[t.dtype, tuple(t.shape)] for part in returned for t in part.values()] == [
        [torch.float32, (count,)] for count in (4, 2) for _ in range(3)
    ]
    seen = looker.seen[0]
    assert seen["image"].dtype == torch.uint8
    assert seen["image"].shape == (4, 3, 4, 6)
    assert seen["image"].is_contiguous()
    assert torch.equal(seen["image"][2], drawn(images[2].prompt, images[2].seed)), "what is scored is what was drawn"
    assert seen["prompt"] == [image.prompt for image in images[:4]]
    assert seen["seed"] == [image.seed for image in images[:4]]


def test_columns_are_added_and_replaced(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 3, {"ava": [1, 2, 3], "brightness": [7, 8, 9]})
    score(folder, FunctionReward(brightness))
    frame = pd.read_parquet(folder / "rewards.parquet")
    assert list(frame) == ["item", "ava", "brightness"]
    assert frame["ava"].to_list() == [1, 2, 3]
    assert frame["brightness"][0] == pytest.approx(float(drawn("prompt 0", read_index(folder)[0].seed).float().mean()))


def test_scores_are_the_same_whatever_the_batch_size(tmp_path: Path) -> None:
    frames = []
    for size in (1, 4, 7):
        folder = image_folder(tmp_path / f"x{size}", 7)
        score(folder, FunctionReward(redness), data=GeneratedImagesDataModule(str(folder), batch_size=size))
        frames.append(pd.read_parquet(folder / "rewards.parquet"))
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])


def test_the_first_rank_writes_what_all_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder(tmp_path / "x", 5)
    modules = []
    for rank in range(2):
        data = GeneratedImagesDataModule(str(folder), batch_size=2)
        trainer: Any = SimpleNamespace(global_rank=rank, world_size=2, is_global_zero=rank == 0, datamodule=data)
        data.trainer = trainer
        module = ImageScorer([FunctionReward(brightness)])
        monkeypatch.setattr(ImageScorer, "trainer", property(lambda self: self.given), raising=False)
        module.given = trainer
        module.setup("predict")
        for k, batch in enumerate(data.predict_dataloader()):
            module.predict_step(batch, k)
        modules.append(module)
    shares = [module._scores for module in modules]
    assert [list(share["brightness"]) for share in shares] == [["p0", "p2", "p4"], ["p1", "p3"]]
    monkeypatch.setattr("rslit.modules.image_scorer.gather_states", lambda state: shares)
    modules[1].on_predict_epoch_end()
    assert not (folder / "rewards.parquet").exists()
    modules[0].on_predict_epoch_end()
    expected = [float(drawn(image.prompt, image.seed).float().mean()) for image in read_index(folder)]
    assert pd.read_parquet(folder / "rewards.parquet")["brightness"].to_list() == pytest.approx(expected)


def test_what_was_found_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("rslit.modules.image_scorer.rank_zero_info", said.append)
    folder = image_folder(tmp_path / "x", 3)
    score(folder, Looker(), FunctionReward(lambda s: torch.full((len(s),), math.nan), "never"))
    assert said == [
        f"rewards: looked of 2 of 3 images in {folder}: mean 0.5, from 0.5 to 0.5",
        f"rewards: never of 0 of 3 images in {folder}: none",
    ]


def test_rewards_that_will_not_do() -> None:
    assert refused(ImageScorer, []) == "rewards: the list is empty; name at least one"
    message = "rewards: names must differ, and none be 'item', got looked, looked"
    assert refused(ImageScorer, [Looker(), Looker()]) == message
    assert "got item" in refused(ImageScorer, [Looker("item")])


def test_data_and_verbs_that_will_not_do(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 2)
    message = refused(score, folder, Looker(), data=PromptDataModule("p.txt"))
    assert message == (
        "data: ImageScorer scores the images of a GeneratedImagesDataModule, not of PromptDataModule; set data to one"
    )
    module: LightningModule = ImageScorer([Looker()])
    assert refused(module.setup, "fit") == "model: ImageScorer is for predict, not for fit"


def test_images_that_cannot_be_scored(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 3)
    image = read_index(folder)[1]
    write_image(folder, "p1", drawn("a", 1, (8, 8)), {"prompt": image.prompt, "seed": str(image.seed)})
    message = "data.folder: images differ in size (item p2 has 6 x 4, item p1 has 8 x 8); draw all "
    message += "of them with one size"
    assert refused(score, folder, Looker()) == message
    path = image_path(folder, "p1")
    path.write_bytes(path.read_bytes()[:-30])
    assert f"image {path} of item p1 cannot be read" in refused(score, folder, Looker())
    assert not (folder / "rewards.parquet").exists()


def test_the_command_line(
    tmp_path: Path, write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder(tmp_path / "x", 3)
    reward = {"class_path": "rslit.rewards.FunctionReward", "init_args": {"function": "toy_images.brightness"}}
    given = {
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": str(tmp_path / "run")},
        "model": {"class_path": "rslit.modules.ImageScorer", "init_args": {"rewards": [reward]}},
        "data": {"class_path": "rslit.datamodules.GeneratedImagesDataModule", "init_args": {"folder": str(folder)}},
    }
    path = write_config(given)
    assert main(["predict", "--config", str(path)]) == 0
    assert list(pd.read_parquet(folder / "rewards.parquet")) == ["item", "brightness"]
    image_path(folder, "p2").unlink()
    assert main(["predict", "--config", str(path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"rslit: error: {image_path(folder, 'p2')} does not exist; run `rslit predict` again")
