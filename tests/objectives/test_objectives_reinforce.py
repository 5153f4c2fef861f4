"""REINFORCE and its baselines against hand computation, and their expected gradients against exact enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from rslit.errors import RslitError
from rslit.objectives import greedy_advantages, leave_one_out_advantages, reinforce_loss

REWARDS = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
LOGITS = torch.tensor([0.2, 0.9, -0.4], dtype=torch.float64)


def exact_policy_gradient() -> torch.Tensor:
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad((logits.softmax(-1) * REWARDS).sum(), logits)[0]


def test_greedy_advantages_by_hand():
    result = greedy_advantages(torch.tensor([1.0, 0.2, 0.5]), torch.tensor([0.5, 0.7, 0.5]))
    torch.testing.assert_close(result, torch.tensor([0.5, -0.5, 0.0]))


def test_leave_one_out_advantages_by_hand():
    # Row 0: others' means (2+6)/2 = 4, (1+6)/2 = 3.5, (1+2)/2 = 1.5.
    result = leave_one_out_advantages(torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]]))
    torch.testing.assert_close(result, torch.tensor([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]))


def test_loss_by_hand():
    logprob = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, -0.25, -9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    advantages = torch.tensor([2.0, -4.0])
    # Sequence sums -6 and -.75: -(2 * -6 + -4 * -.75) / 2 = 4.5; the same over the 5 tokens: 9 / 5.
    assert reinforce_loss(logprob, advantages, mask).item() == pytest.approx(4.5)
    assert reinforce_loss(logprob, advantages, mask, normalise="token").item() == pytest.approx(1.8)
    assert reinforce_loss(logprob, advantages).item() == pytest.approx(-(2 * -6.0 + -4 * -9.75) / 2)


def test_gradient_is_the_advantage_over_the_batch_and_zero_on_padding():
    logprob = torch.tensor([[-1.0, -2.0], [-0.5, -math.inf]], requires_grad=True)
    advantages = torch.tensor([3.0, -1.0], requires_grad=True)
    reinforce_loss(logprob, advantages, torch.tensor([[1, 1], [1, 0]])).backward()
    assert logprob.grad.tolist() == [[-1.5, -1.5], [0.5, 0.0]]
    assert advantages.grad is None


@pytest.mark.parametrize("baseline", ["greedy", "leave-one-out"])
def test_both_baselines_leave_the_expected_gradient_exact(baseline):
    """Sum over all draws with their probabilities: two independent draws per input for leave-one-out."""
    logits = LOGITS.clone().requires_grad_()
    logprob = logits.log_softmax(-1)
    probability = logprob.detach().exp()
    total = torch.zeros(3, dtype=torch.float64)
    draws = itertools.product(range(3), repeat=1 if baseline == "greedy" else 2)
    for draw in map(list, draws):
        if baseline == "greedy":
            best = REWARDS[LOGITS.argmax()].reshape(1)
            advantages = greedy_advantages(REWARDS[draw], best)
        else:
            advantages = leave_one_out_advantages(REWARDS[draw].unsqueeze(0)).squeeze(0)
        loss = reinforce_loss(logprob[draw].unsqueeze(1), advantages)
        total += probability[draw].prod() * torch.autograd.grad(loss, logits, retain_graph=True)[0]
    torch.testing.assert_close(-total, exact_policy_gradient())


def test_an_empty_mask_gives_zero_with_a_graph():
    logprob = torch.zeros(2, 2, requires_grad=True)
    for normalise in ("sequence", "token"):
        loss = reinforce_loss(logprob, torch.ones(2), torch.zeros(2, 2), normalise=normalise)
        assert loss.item() == 0.0
        assert loss.requires_grad


def test_bad_input():
    with pytest.raises(RslitError, match=r"greedy_advantages:.*greedy_rewards \(3, 1\)"):
        greedy_advantages(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(RslitError, match=r"rewards must be \(B,\), got shape \(3, 1\)"):
        greedy_advantages(torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(RslitError, match="needs at least 2 samples per input, got 1"):
        leave_one_out_advantages(torch.zeros(4, 1))
    with pytest.raises(RslitError, match=r"rewards must be \(B, k\), got shape \(4,\)"):
        leave_one_out_advantages(torch.zeros(4))
    with pytest.raises(RslitError, match=r"needs logprob \(B, T\) and advantages \(B,\), got \(2, 3\) and \(2, 3\)"):
        reinforce_loss(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(RslitError, match=r"reinforce_loss:.*mask \(2, 1\)"):
        reinforce_loss(torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 1))
    with pytest.raises(RslitError, match="normalise 'length' is unknown; choose sequence or token"):
        reinforce_loss(torch.zeros(2, 3), torch.zeros(2), normalise="length")
