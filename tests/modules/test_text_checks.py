"""Signs that something is silently wrong, in words."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from rslit.errors import RslitError
from rslit.language import KLOptions, SamplingOptions
from rslit.modules.text_checks import check_options, warn_negative_kl, warn_ratio, warn_unmoved
from rslit.soup import fingerprint


def test_a_negative_kl_is_told_apart_from_chance() -> None:
    stream = torch.Generator().manual_seed(0)
    noise = torch.randn(400, generator=stream)
    noise = (noise - noise.mean()) / noise.std()  # standard error 0.05
    with pytest.warns(UserWarning, match=r"rollout 7: the KL to the reference is negative \(-0.25 nats per answer\)"):
        warn_negative_kl(noise - 0.25, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for harmless in (noise - 0.15, noise + 0.1, torch.zeros(8), torch.tensor([-3.0]), torch.full((9,), -1e-4)):
            warn_negative_kl(harmless, 7)


@pytest.mark.parametrize("ratio", [0.99, 1.01, float("nan")])
def test_a_ratio_that_is_not_1(ratio: float) -> None:
    policy = torch.nn.Linear(2, 2)
    with pytest.warns(UserWarning, match=r"rollout 2: the first minibatch's probability ratio is .*, not 1"):
        warn_ratio(ratio, 2, policy)
    warn_ratio(1.0009, 2, policy)


def test_in_half_precision_a_ratio_may_be_a_little_off() -> None:
    """Rounding of bfloat16: with few tokens in a minibatch their mean is not 1 to the third digit."""
    policy = torch.nn.Linear(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        warn_ratio(1.01, 2, policy)
    warn_ratio(1.01, 2, policy.bfloat16())
    with pytest.warns(UserWarning, match="not 1"):
        warn_ratio(1.03, 2, policy)


def test_an_adapter_that_did_not_move() -> None:
    state = {"a": torch.ones(3)}
    start = fingerprint(state)
    with pytest.warns(UserWarning, match="training changed no weight of the policy"):
        warn_unmoved(state, start)
    warn_unmoved({"a": torch.tensor([1.0, 1.0, 1.0000002])}, start)


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("k1", "loss"), "its gradient has mean zero"),
        (("k3", "loss"), r"that of the forward KL\(ref \|\| pi\)"),
        (("k2", "reward"), "a biased value"),
        (("k3", "reward"), "nearly vanishes close to the reference"),
    ],
)
def test_estimators_that_do_not_suit_their_place(pair: Any, reason: str) -> None:
    estimator, place = pair
    with pytest.warns(UserWarning, match=reason):
        check_options("ppo", SamplingOptions(), KLOptions(estimator=estimator, place=place))
    check_options("ppo", SamplingOptions(), KLOptions(0.0, estimator=estimator, place=place))  # nothing is estimated


def test_pairs_that_go_together() -> None:
    check_options("ppo", SamplingOptions(), KLOptions(estimator="k1", place="reward"))
    check_options("ppo", SamplingOptions(), KLOptions(estimator="k2", place="loss"))


@pytest.mark.parametrize(
    ("algorithm", "sampling", "kl", "message"),
    [
        ("ppo", {"min_new_tokens": 0}, {}, "needs 1 <= min_new_tokens <= max_new_tokens"),
        ("ppo", {"min_new_tokens": 9, "max_new_tokens": 8}, {}, "needs 1 <= min_new_tokens"),
        ("ppo", {"temperature": 0.0}, {}, "sampling.temperature must be above 0, got 0.0"),
        ("ppo", {"samples_per_prompt": 0}, {}, "samples_per_prompt is 0"),
        ("rloo", {"samples_per_prompt": 1}, {}, "rloo compares answers to one prompt and needs 2 or more"),
        ("ppo", {"missing_eos_penalty": 1.0, "stop_at_eos": False}, {}, "cannot end by themselves without stop_at_eos"),
        ("ppo", {}, {"coefficient": -0.1}, "kl.coefficient must be at least 0"),
        ("ppo", {}, {"coefficient": 0.0, "target": 6.0}, "above 0 with a kl.target"),
    ],
)
def test_options_that_contradict_one_another(
    algorithm: str, sampling: dict[str, Any], kl: dict[str, Any], message: str
) -> None:
    with pytest.raises(RslitError, match=message):
        check_options(algorithm, SamplingOptions(**sampling), KLOptions(**kl))
