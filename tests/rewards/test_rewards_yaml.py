"""Every reward from YAML, as LightningCLI reads it: parameters typed Reward, list[Reward] and dict[str, Reward]."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from rslit.rewards import FunctionReward, Reward, TermsReward, WeightedSum, score
from rslit.samples import Samples


class Module:
    """Takes rewards in each of the ways the modules do."""

    def __init__(
        self,
        reward: Reward,
        evaluation: dict[str, Reward] | None = None,
        others: list[Reward] | None = None,
    ) -> None:
        self.reward = reward
        self.evaluation = evaluation or {}
        self.others = others or []


def parser() -> ArgumentParser:
    result = ArgumentParser(exit_on_error=False)
    result.add_class_arguments(Module, "module")
    return result


def build(**arguments: Any) -> Module:
    """Parses the YAML, dumps the config as a run would save it, and builds from the saved one."""
    saved = parser().dump(parser().parse_string(yaml.safe_dump({"module": arguments})))
    module: Module = parser().instantiate(parser().parse_string(saved)).module
    return module


SAMPLES = Samples(
    items=[1, 2],
    fields={"text": ["please", "no way"], "x_velocity": torch.tensor([1.0, 2.0]), "energy": torch.tensor([0.5, 4.0])},
)
BREVITY = {"class_path": "rslit.rewards.FunctionReward", "init_args": {"function": "user_rewards.brevity"}}
POLITE = {
    "class_path": "rslit.rewards.FunctionReward",
    "init_args": {"function": "user_rewards.politeness", "name": "polite", "unit": "yes", "range": [0.0, 1.0]},
}
CAUTIOUS = {
    "class_path": "rslit.rewards.TermsReward",
    "init_args": {"name": "cautious", "terms": {"x_velocity": 1, "energy": -1.0}},
}
LENGTH = {"class_path": "user_rewards.Length", "init_args": {"scale": 2}}
MORL = {"class_path": "rslit.rewards.WeightedSum", "init_args": {"rewards": [BREVITY, CAUTIOUS], "weights": [0.5, 2]}}


@pytest.mark.parametrize(
    ("config", "kind", "name", "expected"),
    [
        (BREVITY, FunctionReward, "brevity", [-1.0, -2.0]),
        (POLITE, FunctionReward, "polite", [1.0, 0.0]),
        (CAUTIOUS, TermsReward, "cautious", [0.5, -2.0]),
        (MORL, WeightedSum, "0.5*brevity+2*cautious", [0.5, -5.0]),
        (LENGTH, object, "length", [12.0, 12.0]),
    ],
)
def test_each_reward_from_yaml(config, kind, name, expected):
    reward = build(reward=config).reward
    assert isinstance(reward, kind)
    assert reward.name == name
    assert score(reward, SAMPLES, 0).tolist() == expected


def test_function_reward_keeps_its_semantics_through_the_saved_config():
    polite = build(reward=POLITE).reward
    assert (polite.unit, polite.range) == ("yes", (0.0, 1.0))
    assert build(reward=BREVITY).reward.range == (-float("inf"), float("inf"))


def test_lists_and_dicts_of_rewards():
    module = build(reward=LENGTH, evaluation={"a": BREVITY, "b": MORL}, others=[CAUTIOUS, LENGTH])
    assert {key: reward.name for key, reward in module.evaluation.items()} == {
        "a": "brevity",
        "b": "0.5*brevity+2*cautious",
    }
    assert [score(reward, SAMPLES, 0).tolist() for reward in module.others] == [[0.5, -2.0], [12.0, 12.0]]


def test_a_reward_from_command_line_options():
    arguments = ["--module.reward=user_rewards.Length", "--module.reward.scale=3"]
    reward = parser().instantiate(parser().parse_args(arguments)).module.reward
    assert score(reward, SAMPLES, 0).tolist() == [18.0, 18.0]


@pytest.mark.parametrize(
    ("class_path", "words"),
    [
        ("user_rewards.WrongParameterName", "does not implement protocol Reward"),
        ("user_rewards.Unannotated", "does not implement protocol Reward"),
        ("user_rewards.NotCallable", "does not implement protocol Reward"),
        # A tensor class: accepted, were the protocol taken for a factory of tensors.
        ("torch.nn.Parameter", "does not implement protocol Reward"),
        ("rslit.rewards.Reward", "is a protocol"),
        ("user_rewards.Missing", "Missing"),
    ],
)
def test_what_is_not_a_reward_is_refused_when_the_config_is_read(class_path, words):
    with pytest.raises(ArgumentError, match=words):
        build(reward={"class_path": class_path})


def test_a_misspelt_argument_is_refused():
    with pytest.raises(ArgumentError, match="term"):
        build(reward={"class_path": "rslit.rewards.TermsReward", "init_args": {"name": "r", "term": {"energy": 1.0}}})


def test_a_function_that_cannot_be_imported_is_refused():
    config = {"class_path": "rslit.rewards.FunctionReward", "init_args": {"function": "user_rewards.missing"}}
    with pytest.raises(ArgumentError, match="'user_rewards' has no attribute 'missing'"):
        build(reward=config)
