"""Images that several ranks draw, and drawing and scoring from the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from image_writer_kit import contents, draw
from toy_experiment import rslit_apart
from toy_images import ToyDrawer, drawn, prompts_file

from rslit.callbacks import ImageWriter
from rslit.cli import main
from rslit.datamodules import PromptDataModule
from rslit.diffusion.image_folder import image_path, read_index
from rslit.errors import RslitError

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
