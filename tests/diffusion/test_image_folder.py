from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from toy_images import drawn, image_folder

from rslit.diffusion.image_folder import (
    check_image,
    image_path,
    image_text,
    png_bytes,
    read_index,
    read_rewards,
    reward_columns,
    write_image,
    write_rewards,
)
from rslit.errors import RslitError

TEXT = {"item": "a", "prompt": "ein grüner Kreis, 漢字 \"'<&>\n", "seed": str(2**63 - 1), "lam": "ava=0.3,cafe=0.7"}


def refused(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(RslitError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_png_holds_the_very_pixels_and_what_drew_them(tmp_path: Path) -> None:
    image = drawn("a", 3)
    write_image(tmp_path / "x", "a", image, TEXT)
    path = tmp_path / "x" / "images" / "a.png"
    assert path == image_path(tmp_path / "x", "a")
    with Image.open(path) as opened:
        assert opened.size == (6, 4)
        assert opened.mode == "RGB"
        assert np.array_equal(np.asarray(opened), image.permute(1, 2, 0).numpy())
        assert opened.text == TEXT
    assert image_text(path) == TEXT
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    strided = image.permute(0, 2, 1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(strided, {})))), strided.permute(1, 2, 0).numpy())


def test_what_is_no_image() -> None:
    assert "must be uint8 (3, H, W), got torch.float32 (3, 4, 6)" in refused(png_bytes, torch.zeros(3, 4, 6), {})
    assert "got torch.uint8 (4, 6)" in refused(png_bytes, torch.zeros(4, 6, dtype=torch.uint8), {})


def test_every_id_has_a_file_name_of_its_own(tmp_path: Path) -> None:
    items = [
        "a/b",
        "a%2Fb",
        "../up",
        ".",
        "..",
        "a b",
        "CON:1",
        "λ",
        "\n",
        "x" * 300,
        "x" * 301,
        "é" * 90,
        "train-00001",
    ]
    paths = [image_path(tmp_path, item) for item in items]
    assert len(set(paths)) == len(items)
    for item, path in zip(items, paths, strict=True):
        assert path.parent == tmp_path / "images"
        assert len(path.name) <= 204
        assert not path.name.startswith(".")
        write_image(tmp_path, item, drawn("a", 1), {"item": item})
        assert image_text(path) == {"item": item}
    assert paths[-1].name == "train-00001.png"
    assert paths[0].name == "a%2Fb.png"


def test_an_image_is_checked_against_what_is_meant(tmp_path: Path) -> None:
    write_image(tmp_path, "a", drawn("a", 3), TEXT)
    path = image_path(tmp_path, "a")
    check_image(path, TEXT)
    check_image(path, {"item": "a"})
    assert refused(check_image, path, {**TEXT, "seed": "4"}) == (
        f"{path} is another image: it says seed '{2**63 - 1}', not '4'; delete it, delete {tmp_path}, or give another "
        "folder"
    )
    assert "it does not say its model, not 'tiny'" in refused(check_image, path, {"model": "tiny"})


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "other", "jpeg"])
def test_broken_images(tmp_path: Path, harm: str) -> None:
    write_image(tmp_path, "a", drawn("a", 3, (40, 40)), {"item": "a"})
    path = image_path(tmp_path, "a")
    data = bytearray(path.read_bytes())
    if harm == "flipped":
        data[-60] ^= 255
    jpeg = io.BytesIO()
    Image.new("RGB", (4, 4)).save(jpeg, "JPEG")
    data = {"cut": data[: len(data) // 2], "empty": b"", "other": b"<html>", "jpeg": jpeg.getvalue()}.get(harm, data)
    path.write_bytes(data)
    message = refused(check_image, path, {"item": "a"})
    assert message.startswith(f"{path} is no image that can be read (")
    assert message.endswith("; delete it and run `rslit predict` again, which draws what is missing")


def test_a_missing_image(tmp_path: Path) -> None:
    message = refused(check_image, tmp_path / "a.png", {})
    assert message == (f"{tmp_path}/a.png does not exist; run `rslit predict` again, which draws what is missing")


def test_the_list_of_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "x", 3)
    lines = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    images = read_index(folder)
    assert [list(line) for line in lines] == [["item", "file", "prompt", "seed"]] * 3
    for k, (line, image) in enumerate(zip(lines, images, strict=True)):
        assert line == {"item": f"p{k}", "file": f"images/p{k}.png", "prompt": f"prompt {k}", "seed": image.seed}
        assert (image.item, image.prompt) == (f"p{k}", f"prompt {k}")
        assert image.path == folder / line["file"]
        assert image_text(image.path)["seed"] == str(image.seed)


def test_folders_that_are_not_ready(tmp_path: Path) -> None:
    assert refused(read_index, tmp_path / "x") == (
        f"data.folder: there is no folder {tmp_path}/x; draw images into it with `rslit predict` and the callback "
        "rslit.callbacks.ImageWriter"
    )
    folder = image_folder(tmp_path / "x", 2)
    assert refused(read_rewards, folder) == (
        f"{folder}/rewards.parquet does not exist: the images are not scored; run `rslit predict` with the model "
        "rslit.modules.ImageScorer on this folder"
    )
    with (folder / "images.jsonl").open("a") as file:
        file.write('{"item": ')
    assert f"data.folder: {folder}/images.jsonl, line 3 is no JSON" in refused(read_index, folder)
    (folder / "images.jsonl").unlink()
    assert refused(read_index, folder) == (
        f"data.folder: {folder} has no images.jsonl, so its images are not all drawn; run the `rslit predict` that "
        "draws them again"
    )


def test_rewards_are_added_replaced_and_kept(tmp_path: Path) -> None:
    items = ["b", "a", "c"]
    write_rewards(tmp_path, items, {"ava": {"a": 1.0, "b": 2.5, "c": 0.1}})
    write_rewards(tmp_path, items, {"cafe": {"b": 7.0, "a": math.nan}})
    write_rewards(tmp_path, items, {"ava": {"c": 5.0, "a": 3.0, "b": 4.0}})
    frame = pd.read_parquet(tmp_path / "rewards.parquet")
    assert list(frame) == ["item", "ava", "cafe"]
    assert [str(t) for t in frame.dtypes[1:]] == ["float32", "float32"]
    assert list(frame["item"]) == items
    assert list(frame["ava"]) == [4.0, 3.0, 5.0]
    assert frame["cafe"].to_list()[0] == 7.0
    assert frame["cafe"].isna().to_list() == [False, True, True]
    # More images, in another order, and one less: each keeps its own.
    write_rewards(tmp_path, ["d", "c", "b"], {"clip": {"d": 1.0}})
    frame = read_rewards(tmp_path)
    assert frame["ava"].to_dict() == pytest.approx({"d": math.nan, "c": 5.0, "b": 4.0}, nan_ok=True)
    assert [p.name for p in tmp_path.iterdir()] == ["rewards.parquet"]


def test_columns_for_training(tmp_path: Path) -> None:
    values = {"ava": [0.1, 2.0, 3.0], "cafe": [1.0, math.nan, 2.0]}
    folder = image_folder(tmp_path / "x", 3, values)
    columns = reward_columns(folder, ["p2", "p0"], ["cafe", "ava"])
    assert list(columns) == ["cafe", "ava"]
    assert columns["ava"].dtype == torch.float64
    assert columns["ava"].tolist() == [3.0, float(np.float32(0.1))]
    assert columns["cafe"].tolist() == [2.0, 1.0]
    assert refused(reward_columns, folder, ["p0"], ["clip"]) == (
        f"{folder}/rewards.parquet has no reward 'clip'; it has: ava, cafe; name one of these in the model's reward, "
        "or score the images with it too"
    )
    assert refused(reward_columns, folder, ["p0", "p1", "p2"], ["cafe"]) == (
        f"{folder}/rewards.parquet: 1 of 3 images have no reward 'cafe', the first of item p1; score the images again, "
        "or leave out those it does not apply to"
    )
    assert "1 of 2 images have no reward 'ava', the first of item new" in refused(
        reward_columns, folder, ["p0", "new"], ["ava"]
    )


def test_broken_tables(tmp_path: Path) -> None:
    path = tmp_path / "rewards.parquet"
    path.write_bytes(b"PAR1 and not more")
    assert f"{path} is no parquet that can be read (" in refused(read_rewards, tmp_path)
    pd.DataFrame({"ava": [1.0]}).to_parquet(path)
    expected = f"{path} has no column 'item' with one row per image; delete it and score the images again"
    assert refused(read_rewards, tmp_path) == expected
    pd.DataFrame({"item": ["a", "a"], "ava": [1.0, 2.0]}).to_parquet(path)
    assert refused(read_rewards, tmp_path) == expected
    pd.DataFrame({"item": ["a"], "ava": ["good"]}).to_parquet(path)
    assert "column 'ava' has no numbers; delete it" in refused(read_rewards, tmp_path)
