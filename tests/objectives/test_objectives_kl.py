"""KL estimators against exact enumeration of a categorical policy, and the controllers against hand computation."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from rslit.errors import RslitError
from rslit.objectives import AdaptiveKL, FixedKL, k1, k2, k3, kl_estimate, warn_bad_pair

LOGITS = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64)
REF = torch.tensor([0.0, 0.5, 0.2, -0.6], dtype=torch.float64).log_softmax(-1)


def reverse_kl(logits: torch.Tensor) -> torch.Tensor:
    return kl_divergence(Categorical(logits=logits), Categorical(logits=REF))


def forward_kl(logits: torch.Tensor) -> torch.Tensor:
    return kl_divergence(Categorical(logits=REF), Categorical(logits=logits))


def gradient(function) -> torch.Tensor:
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(function(logits), logits)[0]


def expected_gradient(estimator: str, place: str) -> torch.Tensor:
    """What the sampled gradient is on average: the sum over all actions, each with its probability."""

    def surrogate(logits):
        logprob = logits.log_softmax(-1)
        probability = logprob.detach().exp()
        estimate = kl_estimate(estimator, logprob, REF)
        return (probability * (estimate if place == "loss" else estimate.detach() * logprob)).sum()

    return gradient(surrogate)


def test_estimators_by_hand():
    # pi = .6, ref = .3: d = ln 2.
    logprob, ref = torch.tensor([math.log(0.6)]), torch.tensor([math.log(0.3)])
    assert k1(logprob, ref).item() == pytest.approx(math.log(2))
    assert k2(logprob, ref).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert k3(logprob, ref).item() == pytest.approx(0.5 - 1 + math.log(2))


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(name):
    logprob = LOGITS.log_softmax(-1)
    mean = (logprob.exp() * kl_estimate(name, logprob, REF)).sum()
    torch.testing.assert_close(mean, reverse_kl(LOGITS))


def test_k2_is_biased_here_but_k2_and_k3_are_never_negative():
    logprob = LOGITS.log_softmax(-1)
    assert abs((logprob.exp() * k2(logprob, REF)).sum() - reverse_kl(LOGITS)) > 0.01
    assert (k1(logprob, REF) < 0).any()
    assert (k2(logprob, REF) >= 0).all()
    assert (k3(logprob, REF) >= 0).all()


def test_k3_keeps_its_digits_close_to_the_reference():
    # d = 1e-4 in float32: exp(-d) - 1 + d in float32 would be off by tens of per cent; the truth is d^2/2.
    difference = torch.tensor([1e-4])
    assert k3(difference, torch.zeros(1)).item() == pytest.approx(5e-9, rel=2e-2)
    naive = ((-difference).exp() - 1 + difference).item()
    assert naive != pytest.approx(5e-9, rel=2e-2)


@pytest.mark.parametrize(("estimator", "place"), [("k1", "reward"), ("k2", "loss")])
def test_the_good_pairs_have_the_gradient_of_the_reverse_kl_and_no_warning(estimator, place):
    torch.testing.assert_close(expected_gradient(estimator, place), gradient(reverse_kl))
    warn_bad_pair(estimator, place)  # a warning would be an error here


def test_the_bad_pairs_pull_as_the_warnings_say():
    reverse, forward = gradient(reverse_kl), gradient(forward_kl)
    torch.testing.assert_close(expected_gradient("k1", "loss"), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(expected_gradient("k3", "loss"), forward)
    torch.testing.assert_close(expected_gradient("k3", "reward"), reverse - forward)
    for wrong in (forward, reverse - forward, expected_gradient("k2", "reward")):
        assert (wrong - reverse).abs().max() > 0.05


@pytest.mark.parametrize(
    ("estimator", "place", "words"),
    [
        ("k1", "loss", "mean zero.*use k2 in the loss"),
        ("k3", "loss", r"forward KL\(ref \|\| pi\).*use k2 in the loss"),
        ("k2", "reward", "biased.*use k1 in the reward"),
        ("k3", "reward", r"KL\(pi \|\| ref\) - KL\(ref \|\| pi\).*use k1 in the reward"),
    ],
)
def test_bad_pairs_warn_in_words(estimator, place, words):
    with pytest.warns(UserWarning, match=f"KL estimator {estimator} in the {place}: .*{words}"):
        warn_bad_pair(estimator, place)


def test_unknown_names():
    x = torch.zeros(2)
    with pytest.raises(RslitError, match="'k4' is unknown; choose one of k1, k2, k3"):
        kl_estimate("k4", x, x)
    with pytest.raises(RslitError, match="'k4' is unknown"):
        warn_bad_pair("k4", "loss")
    with pytest.raises(RslitError, match="place 'advantage' is unknown; choose reward or loss"):
        warn_bad_pair("k1", "advantage")
    with pytest.raises(RslitError, match=r"kl_estimate:.*ref_logprob \(2, 1\)"):
        kl_estimate("k1", x, torch.zeros(2, 1))


def test_adaptive_coefficient_by_hand():
    controller = AdaptiveKL(init=0.2, target=6.0, horizon=10_000)
    controller.update(6.6, 256)  # error +.1
    assert controller.coefficient == pytest.approx(0.2 * (1 + 0.1 * 256 / 10_000))
    before = controller.coefficient
    controller.update(600.0, 256)  # clipped to +.2
    assert controller.coefficient == pytest.approx(before * (1 + 0.2 * 256 / 10_000))
    before = controller.coefficient
    controller.update(-1.0, 500)  # clipped to -.2
    assert controller.coefficient == pytest.approx(before * (1 - 0.2 * 500 / 10_000))


def test_adaptive_coefficient_holds_a_simulated_policy_at_the_target():
    # A policy whose KL is 1 / coefficient: the target 4 needs the coefficient .25, which it approaches from 5.
    controller = AdaptiveKL(init=5.0, target=4.0, horizon=100)
    for _ in range(200):
        controller.update(1.0 / controller.coefficient, 50)
    assert controller.coefficient == pytest.approx(0.25, rel=1e-3)


def test_fixed_coefficient_does_not_move():
    controller = FixedKL(0.05)
    controller.update(1e9, 64)
    assert controller.coefficient == 0.05


@pytest.mark.parametrize("controller", [FixedKL(0.3), AdaptiveKL(0.3, 6.0, 1000)])
def test_state_is_json_and_comes_back(controller):
    controller.update(10.0, 64)
    state = json.loads(json.dumps(controller.state_dict()))
    fresh = FixedKL(9.0) if isinstance(controller, FixedKL) else AdaptiveKL(9.0, 6.0, 1000)
    fresh.load_state_dict(state)
    assert fresh.coefficient == controller.coefficient
    for other in (controller, fresh):
        other.update(3.0, 64)
    assert fresh.coefficient == controller.coefficient


@pytest.mark.parametrize("controller", [FixedKL(0.3), AdaptiveKL(0.3, 6.0, 1000)])
def test_a_state_of_another_shape_is_refused(controller):
    with pytest.raises(RslitError, match="one key 'coefficient', found: value"):
        controller.load_state_dict({"value": 1.0})
    with pytest.raises(RslitError, match="saved coefficient must be a finite number >= 0, got nan"):
        controller.load_state_dict({"coefficient": math.nan})
    assert controller.coefficient == 0.3


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_fixed_coefficient_must_be_a_number(value):
    with pytest.raises(RslitError, match="FixedKL: coefficient must be a finite number >= 0"):
        FixedKL(value)


@pytest.mark.parametrize(
    ("arguments", "culprit"), [((0.0, 6, 10), "init"), ((1, -6, 10), "target"), ((1, 6, 0), "horizon")]
)
def test_adaptive_arguments_must_be_positive(arguments, culprit):
    with pytest.raises(RslitError, match=f"AdaptiveKL: {culprit} must be a positive number"):
        AdaptiveKL(*arguments)


def test_adaptive_update_refuses_what_would_spoil_the_coefficient():
    controller = AdaptiveKL(0.2, 6.0, horizon=100)
    with pytest.raises(RslitError, match="the measured KL is nan"):
        controller.update(math.nan, 10)
    with pytest.raises(RslitError, match="n_samples must be at least 1, got 0"):
        controller.update(6.0, 0)
    with pytest.raises(RslitError, match="horizon 100 is too short for rollouts of 512 samples; set it above 103"):
        controller.update(6.0, 512)
    assert controller.coefficient == 0.2
