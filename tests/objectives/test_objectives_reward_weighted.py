"""Rewards to weights, and the denoising loss against values computed by hand and by diffusers' schedulers."""

from __future__ import annotations

import math

import pytest
import torch

from rslit.errors import RslitError
from rslit.objectives import (
    combine,
    denoising_errors,
    denoising_target,
    keep_and_rescale,
    noised,
    reward_weighted_loss,
)


def test_the_best_half_has_minimum_0_and_mean_1():
    rewards = torch.tensor([5.0, 1.0, 3.0, 2.0, 9.0])
    kept, weights = keep_and_rescale(rewards)
    assert kept.tolist() == [0, 2, 4]
    # 5, 3, 9: minimum 3, mean 17/3
    assert weights.tolist() == pytest.approx([2 / (17 / 3 - 3), 0.0, 6 / (17 / 3 - 3)], abs=1e-12)
    assert weights.dtype == torch.float64


@pytest.mark.parametrize("count", [2, 7, 100, 1001])
@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_weights_for_any_number(count, keep):
    if math.ceil(keep * count) < 2:
        return
    rewards = torch.randn(count, generator=torch.Generator().manual_seed(count)) * 37 - 5
    kept, weights = keep_and_rescale(rewards, keep)
    assert len(kept) == math.ceil(keep * count)
    assert rewards[kept].min() >= torch.sort(rewards).values[count - len(kept)]
    assert weights.min().item() == 0
    assert weights.mean().item() == pytest.approx(1, abs=1e-12)


def test_ties_at_the_border_keep_the_first():
    kept, _ = keep_and_rescale(torch.tensor([1.0, 2.0, 1.0, 1.0]))
    assert kept.tolist() == [0, 1]


def test_morl_with_all_weight_on_one_reward_is_that_expert():
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    kept, weights = keep_and_rescale(a)
    again, same = keep_and_rescale(combine({"a": a, "b": b}, {"a": 1.0, "b": 0.0}))
    assert torch.equal(kept, again)
    torch.testing.assert_close(weights, same, rtol=0, atol=1e-12)


def test_morl_weighs_rewards_of_any_scale_alike():
    a, b = torch.randn(2, 200, generator=torch.Generator().manual_seed(1))
    plain = combine({"a": a, "b": b}, {"a": 0.5, "b": 0.5})
    stretched = combine({"a": a * 1000 - 3, "b": b}, {"a": 0.5, "b": 0.5})
    torch.testing.assert_close(plain, stretched, rtol=1e-4, atol=1e-4)


def test_bad_rewards():
    with pytest.raises(RslitError, match="all 3 images that are kept have the reward 4"):
        keep_and_rescale(torch.full((5,), 4.0))
    with pytest.raises(RslitError, match="ava: all 1 images"):
        combine({"ava": torch.ones(2)}, {"ava": 1.0})
    with pytest.raises(RslitError, match="1 of 2 images have no finite reward"):
        keep_and_rescale(torch.tensor([1.0, math.nan]))
    with pytest.raises(RslitError, match="keep must be"):
        keep_and_rescale(torch.ones(3), 0.0)
    with pytest.raises(RslitError, match="at least one image"):
        keep_and_rescale(torch.ones(0))


CLEAN, NOISE = torch.tensor([[1.0, -0.5]]), torch.tensor([[0.2, 0.4]])


@pytest.mark.parametrize(
    ("prediction", "level", "x_t", "target"),
    [
        ("epsilon", 0.64, [0.8 + 0.6 * 0.2, -0.4 + 0.6 * 0.4], [0.2, 0.4]),
        ("v_prediction", 0.64, [0.8 + 0.6 * 0.2, -0.4 + 0.6 * 0.4], [0.8 * 0.2 - 0.6, 0.8 * 0.4 + 0.3]),
        ("flow", 0.25, [0.75 + 0.05, -0.375 + 0.1], [0.2 - 1.0, 0.4 + 0.5]),
    ],
)
def test_noise_and_target_by_hand(prediction, level, x_t, target):
    at = torch.tensor([level])
    assert noised(prediction, CLEAN, NOISE, at)[0].tolist() == pytest.approx(x_t, abs=1e-6)
    assert denoising_target(prediction, CLEAN, NOISE, at)[0].tolist() == pytest.approx(target, abs=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_target_are_those_of_diffusers(prediction):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(prediction_type=prediction, beta_schedule="scaled_linear")
    clean, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([0, 10, 500, 999])
    level = scheduler.alphas_cumprod[times]
    torch.testing.assert_close(noised(prediction, clean, noise, level), scheduler.add_noise(clean, noise, times))
    if prediction == "v_prediction":
        velocity = scheduler.get_velocity(clean, noise, times)
        torch.testing.assert_close(denoising_target(prediction, clean, noise, level), velocity)


def test_the_loss_by_hand():
    prediction = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]], [[3.0, 3.0]]])
    target = torch.tensor([[[0.0, 0.0]], [[1.0, 3.0]], [[3.0, 3.0]]])
    errors = denoising_errors(prediction, target)
    assert errors.tolist() == [2.5, 5.0, 0.0]
    assert reward_weighted_loss(errors, torch.tensor([2.0, 0.0, 1.0])).item() == pytest.approx(5 / 3)


def test_shapes_must_agree():
    with pytest.raises(RslitError, match="level must be"):
        noised("epsilon", CLEAN, NOISE, torch.ones(2))
    with pytest.raises(RslitError):
        denoising_errors(CLEAN, NOISE[:, :1])
    with pytest.raises(RslitError):
        reward_weighted_loss(torch.ones(2), torch.ones(3))
