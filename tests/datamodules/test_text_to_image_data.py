from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from toy_images import PROMPTS, drawn, image_folder, prompts_file

from rslit.datamodules import (
    CaptionedImagesDataModule,
    CaptionSource,
    GeneratedImagesDataModule,
    PromptColumns,
    PromptDataModule,
    RewardedDataModule,
)
from rslit.diffusion.image_folder import image_path, write_image, write_index
from rslit.diffusion.prompts import ImagePrompt, image_seed
from rslit.errors import RslitError
from rslit.rewards import FunctionReward, WeightedSum
from rslit.seeds import stream_seed
from rslit.vision.files import Part
from rslit.vision.rows import CaptionRow

AVA = [1.0, 9.0, 4.0, 7.0, 2.0, 5.0]
CAFE = [0.6, 0.1, 0.5, 0.9, 0.3, 0.2]


class Captions(CaptionSource):
    def place(self, part: Part) -> str:
        return f"memory ({part})"

    def read(self, part: Part) -> list[CaptionRow]:
        said = [tuple(f"Caption {j} of {k}." for j in range(3)) for k in range(20)]
        return [CaptionRow(f"{part[0]}{k:02}", Path(f"{k}.png"), said[k]) for k in range(20)]


def reward(name: str) -> FunctionReward:
    return FunctionReward(lambda samples: torch.zeros(len(samples)), name)


def put(given: Any, rewarded: Any = None, *, rank: int = 0, world: int = 1, epoch: int = 0) -> Any:
    """Under a stand-in for Lightning's trainer."""
    module = SimpleNamespace(reward=rewarded)
    given.trainer = SimpleNamespace(
        global_rank=rank, world_size=world, current_epoch=epoch, lightning_module=module, precision_plugin=None
    )
    return given


def items(batches: Any) -> list[list[str]]:
    return [batch["items"] for batch in batches]


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(RslitError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def weights(given: Any) -> dict[str, float]:
    return {item: w for batch in given.batches() for item, w in zip(batch["items"], batch["weight"], strict=True)}


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


# -- generated images -------------------------------------------------------------------------------------------------


def test_the_best_half_is_kept_and_rescaled(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", rewards={"ava": AVA, "cafe": CAFE})
    given = put(GeneratedImagesDataModule(str(folder), batch_size=3), reward("ava"))
    # 9, 7 and 5 are kept; less 5 they are 4, 2, 0 with mean 2.
    assert weights(given) == pytest.approx({"p1": 2.0, "p3": 1.0, "p5": 0.0})
    (batch,) = given.batches()
    assert list(batch) == ["items", "prompt", "image", "weight"]
    for item, prompt, image in zip(batch["items"], batch["prompt"], batch["image"], strict=True):
        assert prompt == f"prompt {item[1:]}"
        assert image == folder / "images" / f"{item}.png"
    given = put(GeneratedImagesDataModule(str(folder), keep=1.0, batch_size=6), reward("cafe"))
    found = weights(given)
    low, mean = 0.1, sum(CAFE) / 6
    assert found == pytest.approx({f"p{k}": (v - low) / (mean - low) for k, v in enumerate(CAFE)}, abs=1e-6)
    assert min(found.values()) == 0
    assert sum(found.values()) / 6 == pytest.approx(1)


def test_a_weighted_sum_rescales_each_reward_as_its_expert_does(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", rewards={"ava": AVA, "cafe": CAFE})

    def found(*mu: float) -> dict[str, float]:
        total = WeightedSum([reward("ava"), reward("cafe")], list(mu))
        return weights(put(GeneratedImagesDataModule(str(folder), batch_size=3), total))

    # ava: 9, 7, 5 are kept, so (r - 5) / 2; cafe: 0.9, 0.6, 0.5, so (r - 0.5) / (1 / 6).
    total = {k: 0.5 * (AVA[k] - 5) / 2 + 0.5 * (CAFE[k] - 0.5) * 6 for k in range(6)}
    best = sorted(total, key=lambda k: total[k], reverse=True)[:3]
    low = min(total[k] for k in best)
    mean = sum(total[k] for k in best) / 3
    assert found(0.5, 0.5) == pytest.approx({f"p{k}": (total[k] - low) / (mean - low) for k in best}, abs=1e-5)
    for k, name in enumerate(("ava", "cafe")):
        alone = weights(put(GeneratedImagesDataModule(str(folder), batch_size=3), reward(name)))
        assert found(*(float(j == k) for j in range(2))) == pytest.approx(alone)


def test_images_are_dealt_out_like_any_rows(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 8, rewards={"ava": range(8)})
    sizes = {"keep": 1.0, "batch_size": 2, "rollouts_per_epoch": 3}
    ranks = [put(GeneratedImagesDataModule(str(folder), **sizes), reward("ava"), rank=k, world=2) for k in (0, 1)]
    shares = [items(given.batches()) for given in ranks]
    assert [len(share) for share in shares] == [3, 3]
    first_pass = [item for share in shares for batch in share[:2] for item in batch]
    assert sorted(first_pass) == [f"p{k}" for k in range(8)]
    assert refused(put(GeneratedImagesDataModule(str(folder), batch_size=3), reward("ava"), world=2).batches) == (
        f"data.batch_size: 3 images on each of 2 devices are more than the 4 that are kept of {folder}"
    )


def test_what_to_score(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 5)
    shares = [
        list(put(GeneratedImagesDataModule(str(folder), batch_size=2), rank=k, world=2).predict_dataloader())
        for k in (0, 1)
    ]
    assert [items(share) for share in shares] == [[["p0", "p2"], ["p4"]], [["p1", "p3"]]]
    assert shares[1][0] == {
        "items": ["p1", "p3"],
        "prompt": ["prompt 1", "prompt 3"],
        "seed": [image_seed(0, "p1"), image_seed(0, "p3")],
        "image": [folder / "images" / "p1.png", folder / "images" / "p3.png"],
    }


def test_folders_that_cannot_be_trained_on(tmp_path: Path) -> None:
    def fault(rewarded: Any = None, **options: Any) -> str:
        return refused(put(GeneratedImagesDataModule(str(folder), batch_size=1, **options), rewarded or ava).batches)

    ava, folder = reward("ava"), tmp_path / "x"
    assert fault().startswith(f"data.folder: there is no folder {folder}; draw images into it with `rslit predict`")
    image_folder(folder)
    assert "rewards.parquet does not exist: the images are not scored; run `rslit predict`" in fault()
    image_folder(folder, rewards={"ava": [3.0] * 6, "cafe": CAFE})
    assert fault(reward("clip")).startswith(f"{folder}/rewards.parquet has no reward 'clip'; it has: ava, cafe;")
    assert "has no reward 'clip'" in fault(WeightedSum([reward("cafe"), reward("clip")], [1, 1]))
    start = f"data.folder: {folder}: reward 'ava': rewards: all 3 images that are kept have the reward 3, "
    assert fault().startswith(start + "so there is nothing to rescale")
    both = fault(WeightedSum([ava, reward("cafe")], [1, 2]))
    assert both.startswith(f"data.folder: {folder}: reward '1*ava+2*cafe': ava: all 3 images")
    image_path(folder, "p4").write_bytes(b"no image")
    assert f"{image_path(folder, 'p4')} is no image that can be read (" in fault()
    image_path(folder, "p4").unlink()
    assert f"{image_path(folder, 'p4')} does not exist; run `rslit predict` again" in fault()


def test_an_image_of_another_prompt_or_seed(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", rewards={"ava": AVA})
    write_image(folder, "p2", drawn("x", 1), {"item": "p2", "prompt": "prompt 2", "seed": "1"})
    given = put(GeneratedImagesDataModule(str(folder), batch_size=3), reward("ava"))
    fault = f"{image_path(folder, 'p2')} is another image: it says seed '1', not '{image_seed(0, 'p2')}'; "
    assert refused(given.batches).startswith(fault)
    write_index(folder, [ImagePrompt("p2", "prompt 2", 1)])
    assert len(put(GeneratedImagesDataModule(str(folder))).predict_dataloader()) == 1


def test_broken_pixels_are_one_line_when_they_are_loaded(tmp_path: Path) -> None:
    from rslit.vision.images import load_images

    folder = image_folder(tmp_path / "x", rewards={"ava": AVA})
    path = image_path(folder, "p1")
    path.write_bytes(path.read_bytes()[:-40])
    (batch,) = put(GeneratedImagesDataModule(str(folder), batch_size=3), reward("ava")).batches()
    assert f"image {path} of item p1 cannot be read" in refused(load_images, batch)


def test_sizes_that_will_not_do() -> None:
    for name in ("batch_size", "rollouts_per_epoch", "eval_items", "eval_batch_size"):
        assert refused(GeneratedImagesDataModule, "x", **{name: 0}) == f"data.{name} must be at least 1, got 0"
    for keep in (0.0, 1.5):
        message = f"data.keep must be a share of the images in (0, 1], got {keep:g}"
        assert refused(GeneratedImagesDataModule, "x", keep=keep) == message


def test_fit_on_scored_images_evaluates_on_prompts(tmp_path: Path) -> None:
    path = prompts_file(tmp_path / "test.txt")
    given = put(GeneratedImagesDataModule("x", eval_prompts=str(path), eval_items=2, image_seed=1))
    (batch,) = given.val_dataloader()
    assert len(batch["items"]) == 2
    assert batch["seed"] == [image_seed(1, item) for item in batch["items"]]


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
