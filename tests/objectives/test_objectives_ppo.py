"""The PPO losses against hand-computed numbers and gradients; whitening against numpy and over two processes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rslit.errors import RslitError
from rslit.objectives import clipped_policy_loss, reinforce_loss, value_loss, whiten


def log(*ratios: float) -> torch.Tensor:
    return torch.tensor([ratios]).log()


def test_policy_loss_by_hand():
    # clip .2; ratios and advantages, and what the pessimistic minimum takes:
    #   1.5, A=+1 -> clipped 1.2;   1.5, A=-1 -> unclipped -1.5
    #   0.5, A=+2 -> unclipped 1.0; 0.5, A=-2 -> clipped -1.6;   1.1, A=+1 -> 1.1 (inside)
    advantages = torch.tensor([[1.0, -1.0, 2.0, -2.0, 1.0]])
    result = clipped_policy_loss(log(1.5, 1.5, 0.5, 0.5, 1.1), torch.zeros(1, 5), advantages, clip=0.2)
    assert result.loss.item() == pytest.approx(-(1.2 - 1.5 + 1.0 - 1.6 + 1.1) / 5)
    assert result.ratio_mean.item() == pytest.approx((1.5 + 1.5 + 0.5 + 0.5 + 1.1) / 5)
    assert result.ratio_max.item() == pytest.approx(1.5)
    assert result.clip_fraction.item() == pytest.approx(4 / 5)
    kl = sum(r - 1 - math.log(r) for r in (1.5, 1.5, 0.5, 0.5, 1.1)) / 5
    assert result.approx_kl.item() == pytest.approx(kl, rel=1e-5)


def test_gradient_flows_only_where_the_minimum_is_unclipped():
    logprob = log(1.5, 1.5, 0.5, 0.5).requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 2.0, -2.0]])
    clipped_policy_loss(logprob, torch.zeros(1, 4), advantages, clip=0.2).loss.backward()
    # d(-ratio * A / 4) / d logprob = -ratio * A / 4 for the two unclipped entries.
    torch.testing.assert_close(logprob.grad, torch.tensor([[0.0, 1.5 / 4, -1.0 / 4, 0.0]]))


def test_policy_gradient_matches_finite_differences():
    generator = torch.Generator().manual_seed(1)
    old = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    logprob = (old + 0.3 * torch.randn(3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    advantages = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    mask = torch.rand(3, 4, generator=generator) < 0.7
    assert torch.autograd.gradcheck(lambda x: clipped_policy_loss(x, old, advantages, 0.2, mask).loss, logprob)


@pytest.mark.parametrize("steps", [1, 5])
def test_gradient_at_ratio_one_is_reinforce(steps):
    generator = torch.Generator().manual_seed(2)
    logprob = torch.randn(6, steps, generator=generator, requires_grad=True)
    advantages = torch.randn(6, generator=generator)
    mask = torch.arange(steps).expand(6, steps) < torch.randint(1, steps + 1, (6, 1), generator=generator)
    ppo = clipped_policy_loss(logprob, logprob.detach(), advantages.unsqueeze(1).expand(6, steps), 0.2, mask).loss
    reinforce = reinforce_loss(logprob, advantages, mask, normalise="token")
    (ppo_grad,) = torch.autograd.grad(ppo, logprob)
    (reinforce_grad,) = torch.autograd.grad(reinforce, logprob)
    assert ppo_grad.abs().sum() > 0
    torch.testing.assert_close(ppo_grad, reinforce_grad)


def test_masked_steps_count_for_nothing_even_when_infinite():
    # Padding: both log-probabilities are -inf there, whose difference is NaN.
    logprob = torch.tensor([[0.0, -math.inf], [math.log(1.1), 5.0]], requires_grad=True)
    old = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])
    mask = torch.tensor([[1, 0], [1, 0]])
    result = clipped_policy_loss(logprob, old, torch.tensor([[1.0, math.nan], [3.0, 9.0]]), 0.2, mask)
    assert result.loss.item() == pytest.approx(-(1.0 + 1.1 * 3.0) / 2)
    assert result.ratio_max.item() == pytest.approx(1.1)
    assert result.clip_fraction.item() == 0.0
    result.loss.backward()
    torch.testing.assert_close(logprob.grad, torch.tensor([[-0.5, 0.0], [-1.65, 0.0]]))


def test_an_empty_mask_gives_zero_with_a_graph():
    logprob = torch.zeros(2, 3, requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    result = clipped_policy_loss(logprob, torch.zeros(2, 3), torch.ones(2, 3), 0.2, mask)
    assert [number.item() for number in result] == [0.0] * 5
    result.loss.backward()
    assert logprob.grad.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_huge_log_ratio_does_not_turn_the_gradient_into_nan(advantage):
    logprob = torch.tensor([200.0], requires_grad=True)
    result = clipped_policy_loss(logprob, torch.zeros(1), torch.tensor([advantage]), 0.2)
    result.loss.backward()
    assert math.isfinite(result.loss.item())
    assert logprob.grad.tolist() == [0.0]


def test_value_loss_by_hand():
    values, returns, old = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2.0, 2.0, 2.0]), torch.tensor([0.0, 2.5, 2.0])
    assert value_loss(values, returns).item() == pytest.approx(0.5 * (1 + 1 + 9) / 3)
    # clip .5 moves the values to .5, 3, 2.5: squares 2.25, 1, .25; the larger of each pair: 2.25, 1, 9.
    assert value_loss(values, returns, old, 0.5).item() == pytest.approx(0.5 * (2.25 + 1 + 9) / 3)
    mask = torch.tensor([True, True, False])
    assert value_loss(values, returns, old, 0.5, mask).item() == pytest.approx(0.5 * (2.25 + 1) / 2)


def test_clipped_value_loss_stops_a_value_that_already_moved_far_towards_its_target():
    values = torch.tensor([1.0, 1.0], requires_grad=True)
    # Row 0 moved 1.0 > clip towards the target 9: no more gradient. Row 1 moved away from it: full gradient v - R.
    value_loss(values, torch.tensor([9.0, -9.0]), torch.tensor([0.0, 0.0]), 0.2).backward()
    assert values.grad.tolist() == [0.0, 5.0]


def test_whiten_agrees_with_numpy():
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(3)) * 3 + 1000
    reference = x.double().numpy()
    reference = (reference - reference.mean()) / reference.std()
    np.testing.assert_allclose(whiten(x).numpy(), reference, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(whiten(x, shift_mean=False).numpy(), reference + x.double().mean().item(), rtol=1e-6)


def test_whiten_sees_only_the_mask():
    x = torch.tensor([[1.0, 3.0, math.nan], [5.0, math.inf, 99.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    # Counted 1, 3, 5: mean 3, population variance 8/3.
    z = 2 / math.sqrt(8 / 3)
    torch.testing.assert_close(whiten(x, mask), torch.tensor([[-z, 0.0, 0.0], [z, 0.0, 0.0]]))
    torch.testing.assert_close(whiten(x, mask, shift_mean=False), torch.tensor([[3 - z, 3.0, 0.0], [3 + z, 0.0, 0.0]]))


def test_whiten_leaves_alone_what_has_no_spread_to_scale_by():
    assert whiten(torch.tensor([4.0])).tolist() == [4.0]
    assert whiten(torch.tensor([4.0, 7.0]), torch.tensor([0, 1])).tolist() == [0.0, 7.0]
    assert whiten(torch.tensor([4.0, 7.0]), torch.tensor([0, 0])).tolist() == [0.0, 0.0]
    assert whiten(torch.tensor([4.0, 4.0])).tolist() == [0.0, 0.0]


def whiten_in_a_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    batch, mask = torch.load(f"{folder}/batch.pt", weights_only=True)
    results = {
        "all": whiten(batch[rank]),
        "masked": whiten(batch[rank], mask[rank]),
        "local": whiten(batch[rank], sync=False),
    }
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_whiten_over_two_processes_is_whiten_of_the_joined_batch(tmp_path: Path):
    batch = (
        torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 5.0]).view(2, 1, 1) + 2
    )
    mask = torch.zeros(2, 4, 3, dtype=torch.bool)
    mask[0, :, :2] = True  # rank 1's shard is empty
    torch.save((batch, mask), tmp_path / "batch.pt")
    mp.spawn(whiten_in_a_process, args=(str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.stack([rank["all"] for rank in ranks]), whiten(batch))
    torch.testing.assert_close(torch.stack([rank["masked"] for rank in ranks]), whiten(batch, mask))
    torch.testing.assert_close(ranks[1]["local"], whiten(batch[1]))
    assert not torch.allclose(ranks[1]["local"], ranks[1]["all"], atol=0.1)


@pytest.mark.parametrize("clip", [0.0, 1.0, -0.2])
def test_clip_outside_its_interval(clip):
    with pytest.raises(RslitError, match=r"clipped_policy_loss: clip must lie in \(0, 1\)"):
        clipped_policy_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), clip)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(RslitError, match=r"clipped_policy_loss:.*advantages \(2, 1\)"):
        clipped_policy_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2, 1), 0.2)
    with pytest.raises(RslitError, match=r"value_loss:.*returns \(2, 1\)"):
        value_loss(torch.zeros(2), torch.zeros(2, 1))
    with pytest.raises(RslitError, match=r"whiten:.*mask \(1,\)"):
        whiten(torch.zeros(2), torch.ones(1))


def test_value_clipping_needs_both_parts():
    x = torch.zeros(2)
    with pytest.raises(RslitError, match="old_values is missing"):
        value_loss(x, x, clip=0.2)
    with pytest.raises(RslitError, match="clip is missing"):
        value_loss(x, x, old_values=x)
    with pytest.raises(RslitError, match="clip must be positive, got 0"):
        value_loss(x, x, old_values=x, clip=0.0)
