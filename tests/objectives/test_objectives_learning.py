"""Each objective solves a bandit, twice alike for one seed."""

from __future__ import annotations

import pytest
import torch

from rslit.objectives import (
    clipped_policy_loss,
    gae,
    greedy_advantages,
    leave_one_out_advantages,
    reinforce_loss,
    tanh_normal,
    value_loss,
    whiten,
)

ARM_MEANS = torch.tensor([0.2, 1.0, 0.5])
BATCH = 64


def pull(arms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return ARM_MEANS[arms] + 0.3 * torch.randn(arms.shape, generator=generator)


def reinforce_on_the_bandit(baseline: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(60):
        probability = logits.detach().softmax(-1)
        arms = torch.multinomial(probability, BATCH, replacement=True, generator=generator)
        rewards = pull(arms, generator)
        if baseline == "greedy":
            greedy = probability.argmax().expand(BATCH)
            advantages = greedy_advantages(rewards, pull(greedy, generator))
        else:
            advantages = leave_one_out_advantages(rewards.view(-1, 4)).flatten()
        optimiser.zero_grad()
        reinforce_loss(logits.log_softmax(-1)[arms].unsqueeze(1), advantages).backward()
        optimiser.step()
    return logits.detach().softmax(-1)


@pytest.mark.parametrize("baseline", ["greedy", "leave-one-out"])
def test_reinforce_finds_the_best_arm(baseline):
    probability = reinforce_on_the_bandit(baseline, seed=0)
    assert probability[1] > 0.95
    assert torch.equal(probability, reinforce_on_the_bandit(baseline, seed=0))
    assert not torch.equal(probability, reinforce_on_the_bandit(baseline, seed=1))


def ppo_on_the_bandit(seed: int) -> tuple[torch.Tensor, float]:
    generator = torch.Generator().manual_seed(seed)
    logits, value = torch.zeros(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([logits, value], lr=0.05)
    for _ in range(40):
        arms = torch.multinomial(logits.detach().softmax(-1), BATCH, replacement=True, generator=generator)
        old_logprob = logits.detach().log_softmax(-1)[arms]
        values = value.detach().expand(BATCH, 1)
        ended = torch.ones(BATCH, 1)
        advantages, returns = gae(
            pull(arms, generator).unsqueeze(1), values, torch.zeros(BATCH, 1), ended, torch.zeros(BATCH, 1), 1.0, 0.95
        )
        advantages = whiten(advantages)
        for epoch in range(4):
            result = clipped_policy_loss(
                logits.log_softmax(-1)[arms].unsqueeze(1), old_logprob.unsqueeze(1), advantages, 0.2
            )
            if epoch == 0:
                assert abs(result.ratio_mean.item() - 1.0) < 1e-6
                assert result.approx_kl.item() == pytest.approx(0.0, abs=1e-9)
            loss = result.loss + 0.5 * value_loss(value.expand(BATCH, 1), returns, values, 0.2)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return logits.detach().softmax(-1), value.item()


def test_ppo_finds_the_best_arm_and_its_value():
    probability, value = ppo_on_the_bandit(seed=0)
    assert probability[1] > 0.95
    assert value == pytest.approx(1.0, abs=0.15)
    assert torch.equal(probability, ppo_on_the_bandit(seed=0)[0])


def test_ppo_moves_a_squashed_gaussian_to_the_best_action():
    generator = torch.Generator().manual_seed(0)
    loc, log_scale = torch.zeros(1, requires_grad=True), torch.full((1,), -0.5, requires_grad=True)
    optimiser = torch.optim.Adam([loc, log_scale], lr=0.03)
    for _ in range(60):
        with torch.no_grad():
            raw, action = tanh_normal.sample(loc.expand(256, 1), log_scale.exp().expand(256, 1), generator)
            old_logprob = tanh_normal.log_prob(raw, loc, log_scale.exp())
            advantages = whiten(-(action.squeeze(1) - 0.6).square())
        for _ in range(4):
            logprob = tanh_normal.log_prob(raw, loc, log_scale.exp())
            optimiser.zero_grad()
            clipped_policy_loss(logprob, old_logprob, advantages, 0.2).loss.backward()
            optimiser.step()
    assert tanh_normal.mode(loc).item() == pytest.approx(0.6, abs=0.05)
    assert log_scale.item() < -1.5
