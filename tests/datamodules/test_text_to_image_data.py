"""Prompts and captioned images as data, and all of it from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from text_to_image_kit import items, put, refused
from toy_images import PROMPTS, prompts_file

from rslit.datamodules import (
    CaptionedImagesDataModule,
    CaptionSource,
    PromptColumns,
    PromptDataModule,
    RewardedDataModule,
)
from rslit.diffusion.prompts import image_seed
from rslit.seeds import stream_seed
from rslit.vision.files import Part
from rslit.vision.rows import CaptionRow


class Captions(CaptionSource):
    def place(self, part: Part) -> str:
        return f"memory ({part})"

    def read(self, part: Part) -> list[CaptionRow]:
        said = [tuple(f"Caption {j} of {k}." for j in range(3)) for k in range(20)]
        return [CaptionRow(f"{part[0]}{k:02}", Path(f"{k}.png"), said[k]) for k in range(20)]


# -- prompts ----------------------------------------------------------------------------------------------------------


def test_predict_draws_the_prompts_and_validate_the_held_out_ones(tmp_path: Path) -> None:
    train, test = prompts_file(tmp_path / "train.txt"), prompts_file(tmp_path / "test.txt", ["x", "y", "z"])
    given = put(PromptDataModule(str(train), str(test), batch_size=2, eval_batch_size=3, image_seed=4))
    batches = list(given.predict_dataloader())
    assert [len(batch["items"]) for batch in batches] == [2, 2, 1]
    assert batches[1] == {
        "items": ["train-00003", "train-00004"],
        "prompt": PROMPTS[2:4],
        "seed": [stream_seed(4, "image", "train-00003"), stream_seed(4, "image", "train-00004")],
    }
    for loader in (given.val_dataloader(), given.test_dataloader()):
        assert list(loader) == [
            {
                "items": ["test-00001", "test-00002", "test-00003"],
                "prompt": ["x", "y", "z"],
                "seed": [image_seed(4, f"test-0000{k}") for k in (1, 2, 3)],
            }
        ]
    assert "data: PromptDataModule has prompts without images; fit needs a Generated" in refused(given.batches)


def test_each_prompt_and_its_seed_are_dealt_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(prompts_file(tmp_path / f"{name}.txt", [f"{name} {k}" for k in range(50)])) for name in "ab"]

    def dealt(world: int, loader: str, **sizes: int) -> dict[str, tuple[str, int]]:
        rows: list[tuple[str, str, int]] = []
        for rank in range(world):
            given = put(PromptDataModule(*files, limit=20, eval_items=7, **sizes), rank=rank, world=world, epoch=rank)
            for batch in getattr(given, loader)():
                rows += zip(batch["items"], batch["prompt"], batch["seed"], strict=True)
        assert len(dict.fromkeys(rows)) == len(rows)
        return {item: (prompt, seed) for item, prompt, seed in rows}

    for loader, count in (("predict_dataloader", 20), ("val_dataloader", 7)):
        alone = dealt(1, loader, batch_size=4)
        assert len(alone) == count
        monkeypatch.setenv("PL_GLOBAL_SEED", "9")
        assert dealt(3, loader, batch_size=5, eval_batch_size=1) == alone


def test_more_ranks_than_prompts_share(tmp_path: Path) -> None:
    path = str(prompts_file(tmp_path / "p.txt", ["a", "b"]))
    shares = [items(put(PromptDataModule(path), rank=k, world=5).predict_dataloader()) for k in range(5)]
    assert shares == [[["p-00001"]], [["p-00002"]], [["p-00001"]], [["p-00002"]], [["p-00001"]]]
    given = put(PromptDataModule(path))
    given.left = []
    assert len(given.predict_dataloader()) == 0


def test_sizes_and_files_that_will_not_do(tmp_path: Path) -> None:
    for name in ("batch_size", "limit", "eval_items", "eval_batch_size"):
        assert refused(PromptDataModule, **{name: 0}) == f"data.{name} must be at least 1, got 0"
    same = "data.prompts and data.eval_prompts are the same prompts; evaluate on some that are held out (of a table "
    same += "give columns.split and columns.eval_split)"
    table = prompts_file(tmp_path / "a.csv")
    for name in ("a.txt", "a.jsonl", str(table)):
        assert refused(PromptDataModule, name, name) == same
    assert refused(PromptDataModule, "x/y", "x/y", PromptColumns(eval_split="train")) == same
    PromptDataModule("x/y", "x/y")  # its splits train and test
    PromptDataModule(str(table), str(table), PromptColumns(split="train[:9]", eval_split="train[9:]"))
    assert "data.prompts is not given; name a file" in refused(put(PromptDataModule()).predict_dataloader)
    assert refused(put(PromptDataModule()).val_dataloader) == (
        "data.eval_prompts is not given; name a file of held-out prompts, or set trainer.limit_val_batches: 0 to train "
        "without evaluations"
    )
    empty = prompts_file(tmp_path / "e.txt", [])
    found = refused(put(PromptDataModule(eval_prompts=str(empty))).val_dataloader)
    assert found == f"data.eval_prompts: {empty} has no prompts; write one a line, or give another file"


def test_how_many_prompts_there_are_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("rslit.datamodules.text_to_image.rank_zero_info", said.append)
    given = put(PromptDataModule(eval_prompts=str(prompts_file(tmp_path / "p.txt"))))
    given.val_dataloader()
    given.val_dataloader()
    assert said == ["data: 5 of 5 held-out prompts to evaluate on (eval_items asks for 200)"]


# -- captioned images -------------------------------------------------------------------------------------------------


def test_captioned_images() -> None:
    given = put(CaptionedImagesDataModule(Captions(), batch_size=20, image_seed=3, eval_items=5))
    (batch,) = given.batches()
    assert list(batch) == ["items", "prompt", "image", "weight"]
    assert batch["weight"] == [1.0] * 20
    for item, prompt, image in zip(batch["items"], batch["prompt"], batch["image"], strict=True):
        number = int(item[1:])
        assert prompt == f"Caption {stream_seed(0, 'target', 0, item) % 3} of {number}."
        assert image == Path(f"{number}.png")
    later = next(iter(put(CaptionedImagesDataModule(Captions(), batch_size=20), epoch=1).batches()))
    assert dict(zip(later["items"], later["prompt"], strict=True)) != dict(
        zip(batch["items"], batch["prompt"], strict=True)
    )
    (held_out,) = given.val_dataloader()
    assert list(held_out) == ["items", "prompt", "seed"]
    assert len(held_out["items"]) == 5
    assert held_out["prompt"] == [f"Caption 0 of {int(item[1:])}." for item in held_out["items"]]
    assert held_out["seed"] == [image_seed(3, item) for item in held_out["items"]]


def test_captioned_images_with_prompts_of_their_own(tmp_path: Path) -> None:
    path = prompts_file(tmp_path / "test.txt")
    given = CaptionedImagesDataModule(Captions(), str(path), eval_batch_size=9)
    (mine,) = put(given, rank=1, world=2).val_dataloader()
    assert mine["items"] == ["test-00002", "test-00004"]
    assert mine["prompt"] == [PROMPTS[1], PROMPTS[3]]


# -- YAML -------------------------------------------------------------------------------------------------------------


def made(name: str, options: Mapping[str, Any]) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(RewardedDataModule, "data")
    given = {"class_path": f"rslit.datamodules.{name}", "init_args": dict(options)}
    return parser.instantiate(parser.parse_object({"data": given})).data


def test_yaml(tmp_path: Path) -> None:
    # A file that is there: its path is meant, not what it says.
    path = str(prompts_file(tmp_path / "test.txt"))
    columns = {"prompt": "Prompt", "split": "train[:100]", "eval_split": "train[100:]"}
    table = {"prompts": "some/prompts", "eval_prompts": "some/prompts", "columns": columns}
    given = made("PromptDataModule", table | {"limit": 3})
    assert (given.prompts, given.eval_prompts, given.limit, given.batch_size) == ("some/prompts",) * 2 + (3, 8)
    assert given.columns == PromptColumns("Prompt", split="train[:100]", eval_split="train[100:]")
    given = made("PromptDataModule", {"prompts": path})
    assert (given.prompts, given.columns) == (path, None)
    given = made("GeneratedImagesDataModule", {"folder": str(tmp_path), "keep": 0.25})
    assert (given.folder, given.keep, given.batch_size) == (tmp_path, 0.25, 64)
    source = {"class_path": "rslit.datamodules.KarpathyCaptions", "init_args": {"folder": "x"}}
    given = made("CaptionedImagesDataModule", {"source": source, "eval_prompts": path, "batch_size": 5})
    assert given.eval_prompts == path
    assert (given.batch_size, given.eval_batch_size) == (5, 5)
