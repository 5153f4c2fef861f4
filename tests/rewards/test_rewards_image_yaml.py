"""Image rewards from YAML, as a task's config names them."""

from __future__ import annotations

import pytest
import torch
import yaml
from image_kit import SAMPLES, laion_head, save_tiny_clip, save_tiny_image_classifier
from jsonargparse import ArgumentError
from test_rewards_yaml import build

from rslit.rewards import WeightedSum, score

TASK = """
- class_path: rslit.rewards.AestheticReward
  init_args: {{model: {root}/clip, head: {root}/head.pth, name: ava}}
- class_path: rslit.rewards.ImageClassifierReward
  init_args: {{model: {root}/cafe, label: aesthetic, name: cafe}}
- class_path: rslit.rewards.ClipSafetyReward
  init_args: {{model: {root}/clip, words: [nudity, blood]}}
- class_path: rslit.rewards.ClipScoreReward
  init_args: {{model: {root}/clip}}
- class_path: rslit.rewards.ClipMatchReward
  init_args: {{model: {root}/clip, prompts: {root}/prompts.txt}}
- class_path: rslit.rewards.ClipMatchReward
  init_args: {{model: {root}/clip, classes: [circle, square, triangle], template: 'a {{}}', name: shape}}
- class_path: rslit.rewards.OpenNsfwReward
- class_path: rslit.rewards.ColourfulnessReward
- class_path: rslit.rewards.SharpnessReward
- class_path: rslit.rewards.ContrastReward
- class_path: rslit.rewards.JpegCompressibilityReward
  init_args: {{quality: 80}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yaml")
    save_tiny_clip(folder / "clip")
    save_tiny_image_classifier(folder / "cafe", ["not_aesthetic", "aesthetic"])
    torch.save({f"layers.{key}": value for key, value in laion_head(16).state_dict().items()}, folder / "head.pth")
    (folder / "prompts.txt").write_text("a dog\na cat\n")
    return folder


def test_every_image_reward(root):
    entries = yaml.safe_load(TASK.format(root=root))
    rewards = build(reward=entries[0], others=entries).others
    assert [reward.name for reward in rewards] == [
        "ava",
        "cafe",
        "nsfw",
        "clip_score",
        "clip_match",
        "shape",
        "safe",
        "colourfulness",
        "sharpness",
        "contrast",
        "compressibility",
    ]
    columns = [score(reward, SAMPLES, 0, complete=True) for reward in rewards]
    for reward, values in zip(rewards, columns, strict=True):
        assert values.shape == (4,)
        assert (values >= reward.range[0]).all()
        assert (values <= reward.range[1]).all()
    morl = WeightedSum(rewards[:3], [0.2, 0.3, 0.5])
    expected = 0.2 * columns[0] + 0.3 * columns[1] + 0.5 * columns[2]
    assert score(morl, SAMPLES, 0).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_choice_that_does_not_exist_is_refused_when_the_config_is_read(root):
    arguments = {"model": str(root / "clip"), "head": str(root / "head.pth"), "activation": "gelu"}
    with pytest.raises(ArgumentError, match=r"Expected a typing\.Literal"):
        build(reward={"class_path": "rslit.rewards.AestheticReward", "init_args": arguments})
