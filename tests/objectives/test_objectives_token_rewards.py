"""From one score per answer to token rewards and advantages, by hand and against a loop over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.objectives import last_tokens, sequence_kl, token_advantages, token_rewards

# An answer that ended by itself after two tokens, one that was cut off at four, one of a single end token.
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()
SCORES = torch.tensor([3.0, -1.0, 0.5])
KL = torch.tensor([[0.1, 0.2, math.nan, math.inf], [0.5, -0.5, 0.25, 0.0], [-0.3, math.nan, 9.0, 9.0]])


def test_the_score_stands_at_the_last_token_of_the_answer() -> None:
    """At the end token, or the last one of an answer that was cut off; never on the padding behind."""
    assert last_tokens(MASK).int().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert token_rewards(SCORES, None, 0.2, MASK).tolist() == [[0, 3, 0, 0], [0, 0, 0, -1], [0.5, 0, 0, 0]]
    assert last_tokens(torch.zeros(1, 3, dtype=torch.bool)).sum() == 0
    assert last_tokens(torch.ones(1, 3)).tolist() == [[False, False, True]]


def test_every_token_pays_for_its_distance_and_padding_pays_nothing() -> None:
    given = token_rewards(SCORES, KL, 0.2, MASK)
    expected = [[-0.02, 3 - 0.04, 0, 0], [-0.1, 0.1, -0.05, -1], [0.5 + 0.06, 0, 0, 0]]
    torch.testing.assert_close(given, torch.tensor(expected))
    torch.testing.assert_close(sequence_kl(KL, MASK), torch.tensor([0.3, 0.25, -0.3]))
    # Summed over an answer, what is paid out is the score less the penalty.
    torch.testing.assert_close(given.sum(1), SCORES - 0.2 * sequence_kl(KL, MASK))


def test_advantages_by_hand() -> None:
    """gamma 0.9 and lam 0.5: the trace decays by 0.45 a token, and nothing is worth anything after the last."""
    rewards = torch.tensor([[1.0, 2.0, 7.0, 7.0]])
    values = torch.tensor([[0.5, -1.0, 4.0, math.nan]])
    mask = torch.tensor([[True, True, False, False]])
    advantages, returns = token_advantages(rewards, values, mask, 0.9, 0.5)
    last = 2.0 - -1.0
    first = 1.0 + 0.9 * -1.0 - 0.5 + 0.45 * last
    torch.testing.assert_close(advantages, torch.tensor([[first, last, 0.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[first + 0.5, last - 1.0, 0.0, 0.0]]))


def naive(rewards: Tensor, values: Tensor, length: int, gamma: float, lam: float) -> list[float]:
    """One answer, plain Python, the sum of discounted one-step errors (Schulman et al. 2016, eq. 16)."""
    r, v = rewards.double().tolist()[:length], [*values.double().tolist()[:length], 0.0]
    errors = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
    return [sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, length)) for t in range(length)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.97, 0.9), (1.0, 1.0), (0.5, 0.0)])
def test_advantages_equal_a_loop_over_each_answer(gamma: float, lam: float) -> None:
    stream = torch.Generator().manual_seed(0)
    rows, width = 40, 13
    lengths = torch.randint(1, width + 1, (rows,), generator=stream)
    mask = torch.arange(width) < lengths[:, None]
    kl, values = torch.randn(rows, width, generator=stream), torch.randn(rows, width, generator=stream)
    scores = torch.randn(rows, generator=stream)
    rewards = token_rewards(scores, kl, 0.3, mask)
    # Whatever stands on the padding, and though GAE runs backwards through it.
    advantages, returns = token_advantages(rewards, values.masked_fill(~mask, 1e6), mask, gamma, lam)
    for row, length in enumerate(lengths.tolist()):
        paid = [-0.3 * k for k in kl[row, :length].double().tolist()]
        paid[-1] += float(scores[row].double())
        expected = torch.tensor(naive(torch.tensor(paid), values[row], length, gamma, lam))
        torch.testing.assert_close(advantages[row, :length], expected.float(), atol=2e-5, rtol=1e-5)
        targets = expected.float() + values[row, :length]
        torch.testing.assert_close(returns[row, :length], targets, atol=2e-5, rtol=1e-5)
        assert not advantages[row, length:].any()
        assert not returns[row, length:].any()
        if gamma == lam == 1.0:
            assert float(returns[row, 0]) == pytest.approx(sum(paid), abs=2e-5)


def test_shapes_and_gaps_are_refused() -> None:
    with pytest.raises(RslitError, match=r"token_rewards: \(3, 1\) scores for \(3, 4\) tokens"):
        token_rewards(SCORES.unsqueeze(1), None, 0.2, MASK)
    with pytest.raises(RslitError, match="token_rewards: all tensors must have one shape"):
        token_rewards(SCORES, KL[:, :3], 0.2, MASK)
    with pytest.raises(RslitError, match="sequence_kl: all tensors must have one shape"):
        sequence_kl(KL[:, :3], MASK)
    with pytest.raises(RslitError, match="an answer's tokens must come first and without a gap"):
        last_tokens(torch.tensor([[True, False, True]]))
    with pytest.raises(RslitError, match="first and without a gap"):
        last_tokens(torch.tensor([[False, True]]))
