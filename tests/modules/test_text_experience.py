"""Advantages of each algorithm and the logged numbers of a rollout, by hand; texts out of tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_models import tiny_tokenizer
from torch import Tensor

from rslit.language import Answers, KLOptions
from rslit.modules.text_experience import Advantages, kl_controller, rollout_numbers, timings
from rslit.modules.text_samples import text_samples
from rslit.objectives import AdaptiveKL, FixedKL, token_advantages, token_rewards
from rslit.samples import Samples

MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]]).bool()
SCORES = torch.tensor([1.0, 3.0, -2.0, 4.0])
KL = torch.tensor([[0.5, 0.5, 9.0], [0.0, 1.0, 1.0], [-1.0, 9.0, 9.0], [0.0, 0.0, math.nan]])
VALUES = torch.tensor([[0.1, 0.2, 5.0], [0.3, -0.4, 0.5], [0.6, 5.0, 5.0], [0.0, -0.1, 5.0]])


def advantages(algorithm: Any, **options: Any) -> Advantages:
    given: dict[str, Any] = {"group": 2, "gamma": 1.0, "gae_lambda": 0.9}
    whiten = {"whiten_rewards": False, "whiten_advantages": False}
    return Advantages(algorithm, **given | whiten | options)


def spread(rows: list[float]) -> Tensor:
    return torch.tensor(rows).unsqueeze(1) * MASK


def test_rloo_compares_an_answer_with_the_others_to_its_prompt() -> None:
    # Less 0.5 times the KLs 1, 2, -1 and 0 the scores are 0.5, 2, -1.5 and 4.
    found = advantages("rloo")(SCORES, KL, 0.5, MASK, None)
    assert found.keys() == {"advantages"}
    torch.testing.assert_close(found["advantages"], spread([-1.5, 1.5, -5.5, 5.5]))
    without = advantages("rloo")(SCORES, None, 0.5, MASK, None)["advantages"]
    torch.testing.assert_close(without, spread([-2.0, 2.0, -6.0, 6.0]))
    all_four = advantages("rloo", group=4)(SCORES, None, 0.5, MASK, None)["advantages"]
    torch.testing.assert_close(all_four, spread([s - (6 - s) / 3 for s in SCORES.tolist()]))


def test_reinforce_compares_it_with_the_rollout() -> None:
    found = advantages("reinforce", group=1)(SCORES, KL, 0.5, MASK, None)
    torch.testing.assert_close(found["advantages"], spread([-0.75, 0.75, -2.75, 2.75]))


@pytest.mark.parametrize("algorithm", ["rloo", "reinforce"])
def test_answers_are_whitened_as_answers_however_long(algorithm: str) -> None:
    plain = advantages(algorithm)(SCORES, KL, 0.5, MASK, None)["advantages"][:, 0]
    found = advantages(algorithm, whiten_advantages=True)(SCORES, KL, 0.5, MASK, None)["advantages"]
    torch.testing.assert_close(found, spread(((plain - plain.mean()) / plain.std(correction=0)).tolist()))


def test_ppo_has_an_advantage_and_a_target_per_token() -> None:
    found = advantages("ppo")(SCORES, KL, 0.5, MASK, VALUES)
    rewards = token_rewards(SCORES, KL, 0.5, MASK)
    expected, returns = token_advantages(rewards, VALUES, MASK, 1.0, 0.9)
    assert torch.equal(found["advantages"], expected)
    assert torch.equal(found["returns"], returns)
    # The third answer by hand: one token, score -2, KL -1 at 0.5, value 0.6.
    assert float(expected[2, 0]) == pytest.approx(-2 + 0.5 - 0.6)


def test_whitened_advantages_have_mean_0_and_variance_1_over_all_tokens() -> None:
    plain = advantages("ppo")(SCORES, KL, 0.5, MASK, VALUES)
    found = advantages("ppo", whiten_advantages=True)(SCORES, KL, 0.5, MASK, VALUES)
    tokens = plain["advantages"][MASK]
    torch.testing.assert_close(found["advantages"][MASK], (tokens - tokens.mean()) / tokens.std(correction=0))
    assert not found["advantages"][~MASK].any()
    assert torch.equal(found["returns"], plain["returns"]), "targets are those of the plain advantages"


def test_whitened_rewards_keep_their_mean_and_their_sign() -> None:
    rewards = token_rewards(SCORES, KL, 0.5, MASK)
    tokens = rewards[MASK]
    scaled = torch.zeros_like(rewards)
    scaled[MASK] = (tokens - tokens.mean()) / tokens.std(correction=0) + tokens.mean()
    expected, returns = token_advantages(scaled, VALUES, MASK, 1.0, 0.9)
    found = advantages("ppo", whiten_rewards=True)(SCORES, KL, 0.5, MASK, VALUES)
    torch.testing.assert_close(found["advantages"], expected)
    torch.testing.assert_close(found["returns"], returns)


def test_the_controller_is_adaptive_if_there_is_a_target() -> None:
    fixed = kl_controller(KLOptions(0.3))
    assert isinstance(fixed, FixedKL)
    assert fixed.coefficient == 0.3
    adaptive = kl_controller(KLOptions(0.3, target=2.0, horizon=100))
    assert isinstance(adaptive, AdaptiveKL)
    adaptive.update(4.0, 10)
    # An error of +100 % is cut to +20 %, and ten answers are a tenth of the horizon.
    assert adaptive.coefficient == pytest.approx(0.3 * (1 + 0.2 * 10 / 100))


def test_the_numbers_of_a_rollout() -> None:
    finished = torch.tensor([True, False, True, True])
    scores = {"helpful": SCORES, "polite": torch.tensor([1.0, math.nan, 3.0, math.nan])}
    samples = Samples(["a", "b", "c", "d"], {"finished": finished}, scores | {"never": torch.full((4,), math.nan)})
    entropy = torch.tensor([[1.0, 2.0, 9.0], [1.0, 1.0, 1.0], [4.0, 9.0, 9.0], [0.0, 2.0, 9.0]])
    given = torch.tensor([1.0, 2.0, -1.0, 0.0])
    found = rollout_numbers(samples, SCORES - 1, given, -0.5 * given, entropy, MASK)
    expected = {
        "objective/kl": 0.5,
        "objective/entropy": (3 + 3 + 4 + 2) / 4,
        "objective/non_score_reward": -0.25,
        "objective/rlhf_reward": 0.5 - 0.25,
        "objective/scores": 0.5,
        "completions/mean_length": 2.0,
        "completions/terminated_fraction": 0.75,
        "rewards/helpful/mean": 1.5,
        "rewards/helpful/std": float(SCORES.std(correction=0)),
        "rewards/polite/mean": 2.0,
        "rewards/polite/std": 1.0,
        "rewards/never/mean": 0.0,
        "rewards/never/std": 0.0,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_where_the_seconds_went() -> None:
    found = timings([10.0, 14.0, 15.0, 17.0, 17.5], tokens=150)
    assert found == {
        "time/generation": 4.0,
        "time/reward": 1.0,
        "time/policy": 2.0,
        "time/reference": 0.5,
        "time/rollout_tokens_per_second": 20.0,
    }


def test_an_answer_goes_on_from_its_prefix_and_loses_what_is_not_text() -> None:
    tokenizer = tiny_tokenizer("llama")
    prefix, rest = tokenizer("The plot")["input_ids"], tokenizer(" was boring.")["input_ids"]
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    batch = {
        "items": ["x", "y"],
        "question": ["Film?", "Book?"],
        "prompt": ["### Film?", "### Book?"],
        "prefix_ids": [prefix, []],
        "prefix": ["The plot", ""],
        "reference": ["The plot was good.", ""],
    }
    width = len(rest) + 3
    row = [*rest, end, pad, pad]
    # Behind the end stands text that does not count.
    tokens = torch.tensor([row, [*rest, end, *rest[:2]], row])
    mask = torch.arange(width) < torch.tensor([len(rest) + 1, len(rest) + 1, 2])[:, None]
    answers = Answers(tokens, mask, torch.tensor([True, True, False]))
    samples = text_samples(tokenizer, batch, answers, [0, 1, 1])
    assert samples.items == ["x", "y", "y"]
    assert samples["response"][:2] == ["The plot was boring.", "was boring."]
    assert samples["response"][2] == tokenizer.decode(rest[:2]).strip()
    assert samples["question"] == ["Film?", "Book?", "Book?"]
    assert samples["prompt"] == ["### Film?", "### Book?", "### Book?"]
    assert samples["reference"] == ["The plot was good.", "", ""]
    assert samples["length"].tolist() == [len(rest) + 1, len(rest) + 1, 2]
    assert samples["finished"].tolist() == [True, True, False]
