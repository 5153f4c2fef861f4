"""Rewards of images without a network, against numpy, scipy and Pillow."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from image_kit import IMAGES, SAMPLES, pictures
from PIL import Image
from reward_tester import RewardTester
from scipy import ndimage

from rslit.errors import RslitError
from rslit.rewards import (
    ColourfulnessReward,
    ContrastReward,
    JpegCompressibilityReward,
    SharpnessReward,
    score,
)
from rslit.samples import Samples

ARRAYS = [np.asarray(picture).astype(np.float64) for picture in pictures()]
GREYS = [array @ [0.299, 0.587, 0.114] for array in ARRAYS]


def colourfulness(array):
    """As in the paper, on the stacked opponent colours."""
    opponents = np.stack([array[..., 0] - array[..., 1], array[..., :2].mean(-1) - array[..., 2]]).reshape(2, -1)
    return np.linalg.norm(opponents.std(axis=1)) + 0.3 * np.linalg.norm(opponents.mean(axis=1))


def kilobytes(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return len(buffer.getvalue()) / 1000


def one(*pixels):
    """Samples of one image, given as rows of RGB."""
    return Samples(["x"], {"image": torch.tensor(pixels, dtype=torch.uint8).permute(2, 0, 1)[None]})


def test_colourfulness():
    RewardTester(1e-4).run(ColourfulnessReward(), SAMPLES, [colourfulness(array) for array in ARRAYS])


def test_sharpness():
    expected = [ndimage.laplace(grey, mode="mirror").var() for grey in GREYS]
    # Values reach 2e5, where neighbouring float32 numbers are 0.016 apart.
    RewardTester(0.02).run(SharpnessReward(), SAMPLES, expected)
    assert score(SharpnessReward(), SAMPLES, 0).tolist() == pytest.approx(expected, rel=1e-6)


def test_contrast():
    RewardTester().run(ContrastReward(), SAMPLES, [(grey / 255).std() for grey in GREYS])


@pytest.mark.parametrize("quality", [95, 60])
def test_compressibility(quality):
    expected = [-kilobytes(picture, quality) for picture in pictures()]
    RewardTester().run(JpegCompressibilityReward(quality=quality), SAMPLES, expected)


def test_values_by_hand():
    half = one([[0, 0, 0], [255, 255, 255]], [[0, 0, 0], [255, 255, 255]])
    assert score(ContrastReward(), half, 0).item() == pytest.approx(0.5)
    assert score(ColourfulnessReward(), half, 0).item() == 0.0
    # Mirrored, each pixel has two neighbours of its own kind and two of the other: Laplacians of +510 and -510.
    assert score(SharpnessReward(), half, 0).item() == pytest.approx(510.0**2)
    red = one([[255, 0, 0]] * 3, [[255, 0, 0]] * 3)
    assert score(ColourfulnessReward(), red, 0).item() == pytest.approx(0.3 * math.hypot(255, 127.5))
    assert score(SharpnessReward(), red, 0).item() == pytest.approx(0.0, abs=1e-20)


def test_each_prefers_what_it_says():
    picture = Image.effect_mandelbrot((64, 48), (-2.2, -1.2, 1.0, 1.2), 60).convert("RGB")
    blurred = picture.resize((16, 12)).resize((64, 48), Image.Resampling.BICUBIC)
    flat = Image.eval(picture, lambda value: 96 + value // 4)
    images = torch.stack([torch.from_numpy(np.array(each)).permute(2, 0, 1) for each in (picture, blurred, flat)])
    samples = Samples([0, 1, 2], {"image": images})
    sharp, contrast, small = (
        score(reward, samples, 0).tolist()
        for reward in (SharpnessReward(), ContrastReward(), JpegCompressibilityReward())
    )
    assert sharp[0] > sharp[1]
    assert contrast[0] > 2 * contrast[2]
    assert small[0] < small[1]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (IMAGES.float() / 255, r"field 'image' is torch\.float32, not a uint8 tensor; give RGB values of 0 to 255"),
        (pictures(), "field 'image' is list, not a uint8 tensor"),
        (IMAGES.permute(0, 2, 3, 1), r"has shape \(4, 24, 36, 3\), not \(4, 3, H, W\) with H and W of at least 2"),
        (IMAGES[:2], r"has shape \(2, 3, 24, 36\), not \(4, 3, H, W\)"),
        (IMAGES[..., :1], r"has shape \(4, 3, 24, 1\)"),
    ],
)
@pytest.mark.parametrize("kind", [ColourfulnessReward, SharpnessReward, ContrastReward, JpegCompressibilityReward])
def test_what_is_no_batch_of_images(kind, image, words):
    with pytest.raises(RslitError, match=f"{kind.__name__} '{kind().name}': .*{words}") as error:
        kind()(Samples(SAMPLES.items, {"image": image}))
    assert "\n" not in str(error.value)


def test_samples_without_images():
    with pytest.raises(RslitError, match=r"ContrastReward 'contrast': no field 'image'; the samples have: box"):
        ContrastReward()(Samples(["a"], {"box": torch.zeros(1, 4)}))


@pytest.mark.parametrize("quality", [0, 96])
def test_a_quality_out_of_range(quality):
    with pytest.raises(RslitError, match=f"quality is {quality}; give 1 to 95"):
        JpegCompressibilityReward(quality=quality)


def test_missing_pillow(monkeypatch):
    monkeypatch.setattr("rslit.rewards.pretrained.find_spec", lambda name: None)
    with pytest.raises(RslitError, match=r"needs pillow: pip install 'rslit\[diffusion\]'"):
        JpegCompressibilityReward()
