"""Generated images with their rewards as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from text_to_image_kit import items, put, refused, reward, weights
from toy_images import drawn, image_folder, prompts_file

from rslit.datamodules import GeneratedImagesDataModule
from rslit.diffusion.image_folder import image_path, write_image, write_index
from rslit.diffusion.prompts import ImagePrompt, image_seed
from rslit.rewards import WeightedSum

AVA = [1.0, 9.0, 4.0, 7.0, 2.0, 5.0]
CAFE = [0.6, 0.1, 0.5, 0.9, 0.3, 0.2]


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
