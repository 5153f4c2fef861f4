"""Text rewards from YAML, as a task's config names them."""

from __future__ import annotations

import pytest
import yaml
from jsonargparse import ArgumentError
from test_rewards_yaml import build, parser
from tiny_models import save_tiny_classifier, save_tiny_encoder

from rslit.rewards import ClassifierReward, SimilarityReward, WeightedSum, score
from rslit.samples import Samples

SAMPLES = Samples(
    ["a", "b"],
    {
        "question": ["How do I boil an egg?", "Why is the movie boring?"],
        "response": ["Put it into hot water.", "I loved it, a wonderful film!"],
    },
)

TASK = """
- class_path: rslit.rewards.ClassifierReward
  init_args: {{model: {bart}, template: '{{response}}{{sep}}{{sep}}{{question}}', name: faithful, formula: 1-0}}
- class_path: rslit.rewards.ClassifierReward
  init_args:
    model: {bart}
    template: '{{question}}{{sep}}{{response}}'
    name: first
    formula: '0'
    dtype: bfloat16
- class_path: rslit.rewards.SimilarityReward
  init_args: {{model: {encoder}, name: similar, against: question}}
- class_path: rslit.rewards.SentimentReward
- class_path: rslit.rewards.ProfanityReward
- class_path: rslit.rewards.LengthReward
  init_args: {{target: 5, unit: words}}
- class_path: rslit.rewards.BrevityReward
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("yaml")
    return {
        "bart": save_tiny_classifier("bart", root / "bart", labels=2),
        "encoder": save_tiny_encoder(root / "encoder"),
    }


def test_every_text_reward(folders):
    entries = yaml.safe_load(TASK.format(**folders))
    rewards = build(reward=entries[0], others=entries).others
    assert [reward.name for reward in rewards] == [
        "faithful",
        "first",
        "similar",
        "positive",
        "clean",
        "length",
        "brevity",
    ]
    assert isinstance(rewards[0], ClassifierReward)
    assert isinstance(rewards[2], SimilarityReward)
    same = ClassifierReward(str(folders["bart"]), "{response}{sep}{sep}{question}", "faithful", formula="1-0")
    assert score(rewards[0], SAMPLES, 0).tolist() == score(same, SAMPLES, 0).tolist()
    assert score(rewards[5], SAMPLES, 0).tolist() == [0.0, -1.0]
    morl = WeightedSum([rewards[0], rewards[3]], [0.5, 0.5])
    parts = [score(reward, SAMPLES, 0) for reward in morl.rewards]
    assert score(morl, SAMPLES, 0).tolist() == pytest.approx(((parts[0] + parts[1]) / 2).tolist())


@pytest.mark.parametrize("formula", ["0", "0x4"])
def test_a_formula_that_yaml_reads_as_a_number_is_refused(folders, formula):
    """0x4 would be 4, another class."""
    text = f"""
    module:
      reward:
        class_path: rslit.rewards.ClassifierReward
        init_args: {{model: {folders["bart"]}, template: '{{question}}{{response}}', name: r, formula: {formula}}}
    """
    with pytest.raises(ArgumentError, match=r"Expected a <class 'str'>"):
        parser().parse_string(text)


@pytest.mark.parametrize(
    ("class_path", "arguments"),
    [
        ("SimilarityReward", {"model": "x", "against": "answer"}),
        ("LengthReward", {"target": 5, "unit": "lines"}),
        ("ClassifierReward", {"model": "x", "template": "{question}{response}", "name": "r", "dtype": "int8"}),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_when_the_config_is_read(class_path, arguments):
    with pytest.raises(ArgumentError, match=r"Expected a typing\.Literal"):
        build(reward={"class_path": f"rslit.rewards.{class_path}", "init_args": arguments})
