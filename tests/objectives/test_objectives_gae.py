"""GAE against hand computation, Schulman's eq. 16 written out, and the limits lam = 0 and lam = 1."""

from __future__ import annotations

import pytest
import torch

from rslit.errors import RslitError
from rslit.objectives import gae


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape)


def by_definition(rewards, values, next_values, terminated, truncated, gamma, lam):
    """Eq. 16 as a double sum in float64, one trajectory and one start at a time; no recursion."""
    batch, steps = rewards.shape
    advantages = torch.zeros(batch, steps, dtype=torch.float64)
    for b in range(batch):
        for start in range(steps):
            weight = 1.0
            for t in range(start, steps):
                future = 0.0 if terminated[b, t] else gamma * float(next_values[b, t])
                advantages[b, start] += weight * (float(rewards[b, t]) + future - float(values[b, t]))
                if terminated[b, t] or truncated[b, t]:
                    break
                weight *= gamma * lam
    return advantages


def test_hand_computed_three_steps_cut_off_at_the_end():
    # delta = [1 + .5*3 - 2, 2 + .5*4 - 3, 3 + .5*6 - 4] = [.5, 1, 2]; decay .5*.5 = .25
    # A_2 = 2; A_1 = 1 + .25*2 = 1.5; A_0 = .5 + .25*1.5 = .875
    values = torch.tensor([[2.0, 3.0, 4.0]])
    advantages, returns = gae(
        torch.tensor([[1.0, 2.0, 3.0]]),
        values,
        torch.tensor([[3.0, 4.0, 6.0]]),
        zeros(1, 3),
        zeros(1, 3),
        gamma=0.5,
        lam=0.5,
    )
    assert advantages.tolist() == [[0.875, 1.5, 2.0]]
    assert returns.tolist() == [[2.875, 4.5, 6.0]]


def test_termination_drops_the_bootstrap_and_truncation_keeps_it():
    rewards, values, next_values = torch.ones(3, 2), torch.full((3, 2), 2.0), torch.full((3, 2), 10.0)
    terminated = torch.tensor([[True, False], [False, False], [True, False]])
    truncated = torch.tensor([[False, False], [True, False], [True, False]])
    advantages, _ = gae(rewards, values, next_values, terminated, truncated, gamma=0.5, lam=1.0)
    # Step 1 of each row: 1 + .5*10 - 2 = 4 and must not leak into step 0.
    # Step 0: terminated 1 - 2 = -1; truncated 1 + 5 - 2 = 4; both: terminated wins.
    assert advantages.tolist() == [[-1.0, 4.0], [4.0, 4.0], [-1.0, 4.0]]


def test_several_episodes_in_a_row_agree_with_the_double_sum():
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (torch.randn(5, 40, generator=generator) for _ in range(3))
    terminated = torch.rand(5, 40, generator=generator) < 0.15
    truncated = torch.rand(5, 40, generator=generator) < 0.15
    assert (terminated & truncated).any()
    advantages, returns = gae(rewards, values, next_values, terminated, truncated, gamma=0.97, lam=0.9)
    expected = by_definition(rewards, values, next_values, terminated, truncated, 0.97, 0.9)
    torch.testing.assert_close(advantages.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(returns, advantages + values)


def test_lam_one_without_a_value_head_is_the_discounted_sum_of_rewards():
    rewards = torch.tensor([[1.0, 10.0, 100.0]])
    terminated = torch.tensor([[0.0, 0.0, 1.0]])
    _, returns = gae(rewards, zeros(1, 3), zeros(1, 3), terminated, zeros(1, 3), gamma=0.1, lam=1.0)
    torch.testing.assert_close(returns, torch.tensor([[3.0, 20.0, 100.0]]))


def test_lam_zero_is_the_one_step_error():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]])
    advantages, _ = gae(rewards, values, torch.tensor([[0.25, 8.0]]), zeros(1, 2), zeros(1, 2), gamma=1.0, lam=0.0)
    assert advantages.tolist() == [[0.75, 9.75]]


def test_padding_after_the_terminal_step_and_nan_there_do_no_harm():
    # A text of 2 tokens padded to 4: the value after its last token was never computed.
    rewards = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    next_values = torch.tensor([[0.5, float("nan"), 7.0, 7.0]])
    terminated = torch.tensor([[0, 1, 0, 0]])
    advantages, _ = gae(rewards, torch.full((1, 4), 0.5), next_values, terminated, zeros(1, 4), gamma=1.0, lam=1.0)
    assert advantages[0, :2].tolist() == [0.5, 0.5]


def test_targets_carry_no_gradient():
    values = torch.zeros(1, 2, requires_grad=True)
    advantages, returns = gae(torch.ones(1, 2), values, values * 2, zeros(1, 2), zeros(1, 2), gamma=0.9, lam=0.9)
    assert not advantages.requires_grad
    assert not returns.requires_grad


@pytest.mark.parametrize(
    ("gamma", "lam", "culprit"), [(1.5, 0.5, "gamma"), (0.5, -0.1, "lam"), (float("nan"), 1, "gamma")]
)
def test_factors_outside_the_unit_interval(gamma, lam, culprit):
    with pytest.raises(RslitError, match=rf"gae: {culprit} must lie in \[0, 1\]"):
        gae(*(zeros(1, 2) for _ in range(5)), gamma=gamma, lam=lam)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(RslitError, match=r"gae: all tensors must have one shape.*terminated \(2, 1\)"):
        gae(zeros(2, 3), zeros(2, 3), zeros(2, 3), zeros(2, 1), zeros(2, 3), gamma=0.9, lam=0.9)
    with pytest.raises(RslitError, match=r"must be \(B, T\), got shape \(3,\)"):
        gae(*(zeros(3) for _ in range(5)), gamma=0.9, lam=0.9)
