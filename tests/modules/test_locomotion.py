from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from toy_env import GAIN, PointEnvironment

from rslit.datamodules import LocomotionDataModule
from rslit.errors import RslitError
from rslit.modules import LocomotionModule
from rslit.objectives import gae
from rslit.rewards import TermsReward, WeightedSum
from rslit.soup import Soup, lattice

RISKY = TermsReward({"x_velocity": 1.0}, "risky")
CAUTIOUS = TermsReward({"x_velocity": 1.0, "energy": -1.0}, "cautious")


def build(seed: int = 0, **kwargs: Any) -> LocomotionModule:
    torch.manual_seed(seed)
    given: dict[str, Any] = {
        "env": PointEnvironment(episode_length=12),
        "reward": RISKY,
        "evaluation_rewards": [RISKY, CAUTIOUS],
        "policy_layers": [16],
        "value_layers": [16],
        "unroll_length": 10,
        "epochs": 2,
        "minibatches": 2,
        "optimizer": lambda p: torch.optim.Adam(p, lr=0.01),
    }
    return LocomotionModule(**{**given, **kwargs})


def fit(module: LocomotionModule, root: Any, epochs: int = 2, **data: int) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=root,
    )
    sizes = {"num_envs": 8, "rollouts_per_epoch": 4, "eval_episodes": 4, **data}
    trainer.fit(module, LocomotionDataModule(**sizes))
    return trainer


def test_an_experience_by_hand() -> None:
    """Rewards, values of true successors and advantages of a rollout that crosses time limits and walls."""
    env = PointEnvironment(episode_length=4, wall=0.6)
    module = build(env=env, gamma=0.9, gae_lambda=0.8, reward_scaling=2.0, observation_statistics=False)
    module.staggered_starts = False
    seeds = torch.arange(6)
    experience = module.rollout({"seeds": seeds})
    assert experience.shape == (60,)

    again = env.episodes(seeds)
    actions = torch.tanh(experience["raw_actions"]).view(6, 10, 2)
    rewards, values, following, ended, cut = [], [], [], [], []
    with torch.no_grad():
        for t in range(10):
            assert torch.equal(again.observations, experience["observations"].view(6, 10, 2)[:, t])
            values.append(module.value(again.observations))
            step = again.step(actions[:, t])
            rewards.append(2.0 * step.terms["x_velocity"])
            following.append(module.value(step.final_observations))
            ended.append(step.terminated)
            cut.append(step.truncated)
    columns = [torch.stack(c, 1) for c in (rewards, values, following, ended, cut)]
    assert columns[3].any()
    assert columns[4].any()
    advantages, returns = gae(*columns, 0.9, 0.8)
    torch.testing.assert_close(experience["advantages"].view(6, 10), advantages)
    torch.testing.assert_close(experience["returns"].view(6, 10), returns)


def test_scores_of_an_episode_by_hand() -> None:
    module = build(env=PointEnvironment(episode_length=5))
    seeds = torch.tensor([11, 12, 13])
    samples = module.evaluate({"seeds": seeds}, seed=0)
    episodes = module.env.episodes(seeds)
    risky, energy = torch.zeros(3), torch.zeros(3)
    velocity = episodes.observations[:, 1]
    with torch.no_grad():
        for _ in range(5):
            action = torch.tanh(module.policy(episodes.observations)[0])
            velocity = 0.9 * velocity + GAIN * action.sum(-1)
            risky += velocity
            energy += (action**2).sum(-1)
            episodes.step(action)
    assert samples.items == [11, 12, 13]
    torch.testing.assert_close(samples.scores["risky"], risky)
    torch.testing.assert_close(samples.scores["cautious"], risky - energy)
    assert samples["length"].tolist() == [5, 5, 5]


def test_what_follows_an_episodes_end_does_not_count() -> None:
    module = build(env=PointEnvironment(episode_length=50, wall=0.5))
    with torch.no_grad():
        module.policy.net[-1].bias[:2] = 9.0  # full speed to the right, through the wall
    samples = module.evaluate({"seeds": torch.arange(5)}, seed=0)
    assert float(samples["length"].max()) < 30
    longer = build(env=PointEnvironment(episode_length=90, wall=0.5))
    longer.load_state_dict(module.state_dict())
    torch.testing.assert_close(longer.evaluate({"seeds": torch.arange(5)}, 0).scores, samples.scores)


def test_sampled_evaluation_shares_its_noise_and_follows_its_seed() -> None:
    module = build(deterministic_evaluation=False)
    batch = {"seeds": torch.arange(4)}
    one, two, other = (module.evaluate(batch, seed).scores["risky"] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("deterministic", [True, False])
def test_all_lams_in_one_batch_equal_one_after_the_other(deterministic: bool) -> None:
    module = build(deterministic_evaluation=deterministic, env=PointEnvironment(episode_length=40, wall=3.0))
    experts = {}
    for name in "abc":
        other = build(seed=ord(name))
        other.policy.normaliser.load_state_dict(module.policy.normaliser.state_dict())
        experts[name] = {k: v.clone() for k, v in other.policy.state_dict().items()}
    soup = Soup(experts, trainable_keys=module.trainable_keys)
    lams = [dict(zip("abc", lam, strict=True)) for lam in lattice(3, 4)]
    batch = {"seeds": torch.arange(7)}
    before = copy.deepcopy(module.policy.state_dict())
    together = module.evaluate_soups(batch, 5, soup, lams)
    module.batched_soups = False
    apart = module.evaluate_soups(batch, 5, soup, lams)
    assert len(together) == len(apart) == 15
    for one, two in zip(together, apart, strict=True):
        assert torch.equal(one["length"], two["length"])
        torch.testing.assert_close(one.scores, two.scores, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in module.policy.state_dict().items())


def test_ppo_learns_to_run(tmp_path: Any) -> None:
    module = build(seed=1)
    batch = {"seeds": torch.arange(16)}
    before = module.evaluate(batch, 0).scores["risky"].mean()
    fit(module, tmp_path, epochs=12, num_envs=32)
    after = module.evaluate(batch, 0).scores["risky"].mean()
    # Full speed from rest for 12 steps: velocity after t steps is 0.6 (1 - 0.9^t) / 0.1.
    best = sum(0.6 * (1 - 0.9**t) / 0.1 for t in range(1, 13))
    assert before < 0.3 * best
    assert after > 0.85 * best


def test_ppo_learns_to_spare_energy(tmp_path: Any) -> None:
    thrift = TermsReward({"energy": -1.0}, "thrift")
    module = build(seed=1, reward=thrift, evaluation_rewards=None, optimizer=lambda p: torch.optim.Adam(p, lr=3e-3))
    with torch.no_grad():
        module.policy.net[-1].bias[:2] = 1.0
    batch = {"seeds": torch.arange(16)}
    before = module.evaluate(batch, 0).scores["thrift"].mean()
    fit(module, tmp_path, epochs=20, num_envs=64)
    assert before < -12 * 1.0
    assert module.evaluate(batch, 0).scores["thrift"].mean() > 0.5 * before


def test_statistics_are_gathered_in_pretraining_and_frozen_with_an_initialisation(tmp_path: Any) -> None:
    module = build()
    fit(module, tmp_path, epochs=2)
    assert float(module.policy.normaliser.count) == 2 * 4 * 8 * 10  # epochs, rollouts, environments, steps
    frozen = build(observation_statistics=False)
    fit(frozen, tmp_path, epochs=1)
    assert float(frozen.policy.normaliser.count) == 0


def test_critic_warmup_trains_the_value_network_alone(tmp_path: Any) -> None:
    module = build(critic_warmup=4)
    before = copy.deepcopy(module.state_dict())
    fit(module, tmp_path, epochs=1)
    trained = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("value.") for k in trained)
    assert not any(k.startswith("policy.net.") for k in trained)
    further = build(critic_warmup=3)
    fit(further, tmp_path, epochs=1)
    assert not torch.equal(further.policy.net[0].weight, before["policy.net.0.weight"])


def test_same_seed_same_weights(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    states = []
    for _ in range(2):
        module = build()
        fit(module, tmp_path)
        states.append(module.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    monkeypatch.setenv("PL_GLOBAL_SEED", "6")
    module = build()
    fit(module, tmp_path)
    assert not torch.equal(module.policy.net[0].weight, states[0]["policy.net.0.weight"])


def test_a_reward_that_is_nan_stops_the_run_and_names_the_step(tmp_path: Any) -> None:
    module = build(env=PointEnvironment(poison=True))
    with pytest.raises(RslitError, match=r"reward 'risky' .*NaN.*environment 0, step 0"):
        fit(module, tmp_path)


def test_morl_trains_on_the_weighted_sum() -> None:
    module = build(reward=WeightedSum([RISKY, CAUTIOUS], [0.25, 0.75]), evaluation_rewards=None)
    assert [r.name for r in module.evaluation_rewards] == ["risky", "cautious"]
    experience = module.rollout({"seeds": torch.arange(4)})
    energy = (torch.tanh(experience["raw_actions"]) ** 2).sum(-1)
    same = build(reward=RISKY).rollout({"seeds": torch.arange(4)})
    assert torch.equal(experience["raw_actions"], same["raw_actions"])
    last = slice(9, None, 10)  # a rollout's last advantage is its one-step error, so the rewards' difference shows
    difference = experience["advantages"][last] - same["advantages"][last]
    torch.testing.assert_close(difference, -0.75 * energy[last])


def test_names_of_evaluation_rewards_must_differ() -> None:
    with pytest.raises(RslitError, match="names must differ, got risky, risky"):
        build(evaluation_rewards=[RISKY, RISKY])


def test_staggered_starts_spread_the_first_time_limits() -> None:
    experience = {on: build(staggered_starts=on, gamma=0.5) for on in (True, False)}
    cuts = {}
    for on, module in experience.items():
        module.rollout({"seeds": torch.arange(64)})
        assert module._episodes is not None
        cuts[on] = module._episodes.steps  # type: ignore[attr-defined]
    assert cuts[False].unique().tolist() == [10]  # 10 steps of a rollout, of the 12 of an episode
    assert len(cuts[True].unique()) > 8
