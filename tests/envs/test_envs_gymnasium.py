from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from rslit.envs import GymnasiumEnvironment
from rslit.errors import RslitError

gymnasium = pytest.importorskip("gymnasium")
mo_gymnasium = pytest.importorskip("mo_gymnasium")

LENGTH = 7


def noise(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("name", "sizes", "terms"),
    [
        ("HalfCheetah-v5", (17, 6), {"x_velocity", "x_position", "reward_forward", "reward_ctrl", "reward", "energy"}),
        (
            "mo-halfcheetah-v5",
            (17, 6),
            {"x_velocity", "x_position", "reward_forward", "reward_ctrl", "reward", "energy", "reward_0", "reward_1"},
        ),
        ("Pendulum-v1", (3, 1), {"reward", "energy"}),
    ],
)
def test_sizes_and_terms(name: str, sizes: tuple[int, int], terms: set[str]) -> None:
    environment = GymnasiumEnvironment(name)
    assert (environment.observation_size, environment.action_size) == sizes
    assert set(environment.terms) == terms
    step = environment.episodes(torch.arange(3)).step(noise(3, sizes[1]))
    assert tuple(step.terms) == environment.terms
    assert {(v.dtype, v.shape) for v in step.terms.values()} == {(torch.float32, (3,))}
    assert step.observations.shape == (3, sizes[0])
    assert step.observations.dtype == torch.float32


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Pendulum-v1"])
def test_steps_equal_gymnasiums_own_environment(name: str) -> None:
    """Two episodes and a half, driven by hand with the same seeds; Pendulum's actions reach to ±2."""
    environment = GymnasiumEnvironment(name, episode_length=LENGTH)
    seeds = torch.tensor([3, 2_000_000_000])
    episodes = environment.episodes(seeds)
    alone = [gymnasium.make(name, max_episode_steps=LENGTH, disable_env_checker=True) for _ in seeds]
    high = alone[0].action_space.high
    assert float(high[0]) == (2.0 if name == "Pendulum-v1" else 1.0)
    seen = [env.reset(seed=int(seed))[0] for env, seed in zip(alone, seeds, strict=True)]
    for t in range(1, 2 * LENGTH + LENGTH // 2):
        np.testing.assert_array_equal(episodes.observations, np.stack(seen).astype(np.float32))
        actions = noise(2, environment.action_size, seed=t)
        found = episodes.step(actions)
        assert found.truncated.tolist() == [t % LENGTH == 0] * 2
        for b, env in enumerate(alone):
            seen[b], reward, terminated, truncated, info = env.step(high * actions[b].numpy())
            np.testing.assert_array_equal(found.final_observations[b], seen[b].astype(np.float32))
            assert float(found.terms["reward"][b]) == np.float32(reward)
            assert float(found.terms["energy"][b]) == pytest.approx(float((actions[b] ** 2).sum()), rel=1e-6)
            assert (bool(found.terminated[b]), bool(found.truncated[b])) == (terminated, truncated)
            for key, value in info.items():
                assert float(found.terms[key][b]) == np.float32(value)
            if truncated:
                seen[b], _ = env.reset()
    for env in alone:
        env.close()


def test_a_vector_reward_comes_as_terms() -> None:
    environment = GymnasiumEnvironment("mo-halfcheetah-v5")
    episodes = environment.episodes(torch.tensor([4]))
    alone = mo_gymnasium.make("mo-halfcheetah-v5", disable_env_checker=True)
    alone.reset(seed=4)
    for t in range(5):
        actions = noise(1, 6, seed=t)
        terms = episodes.step(actions).terms
        _, vector, *_ = alone.step(actions[0].numpy())
        assert float(terms["reward_0"]) == np.float32(vector[0])
        assert float(terms["reward_1"]) == np.float32(vector[1])
        assert float(terms["reward"]) == pytest.approx(float(vector.sum()), rel=1e-6)
        # What configs/locomotion/gymnasium/mo-halfcheetah relies on: velocity and -Σa².
        assert float(terms["reward_0"]) == pytest.approx(float(terms["x_velocity"]), rel=1e-6)
        assert float(terms["reward_1"]) == pytest.approx(-float(terms["energy"]), rel=1e-5)
    alone.close()


def test_velocity_is_displacement_per_time() -> None:
    episodes = GymnasiumEnvironment("HalfCheetah-v5").episodes(torch.arange(2))
    before = episodes.step(noise(2, 6)).terms["x_position"]
    terms = episodes.step(noise(2, 6, seed=1)).terms
    torch.testing.assert_close(terms["x_velocity"], (terms["x_position"] - before) / 0.05, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "mo-halfcheetah-v5"])
def test_mujoco_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    environment = GymnasiumEnvironment(name, episode_length=LENGTH)
    one = environment.episodes(torch.arange(2))
    assert one.resumable
    for t in range(4):
        one.step(noise(2, 6, seed=t))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two = environment.episodes(torch.arange(2))
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one.observations, two.observations)
    for t in range(4, 3 * LENGTH):  # across resets: the generators and the time limit came along
        a, b = one.step(noise(2, 6, seed=t)), two.step(noise(2, 6, seed=t))
        assert torch.equal(a.observations, b.observations)
        assert torch.equal(a.final_observations, b.final_observations)
        assert torch.equal(a.truncated, b.truncated)
        assert bool(a.truncated.all()) == ((t + 1) % LENGTH == 0)
        assert all(torch.equal(a.terms[k], b.terms[k]) for k in a.terms)


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    environment = GymnasiumEnvironment("HalfCheetah-v5")
    state = environment.episodes(torch.arange(2)).state_dict()
    with pytest.raises(RslitError, match="holds another number of environments"):
        environment.episodes(torch.arange(3)).load_state_dict(state)


def test_without_a_simulator_state_nothing_is_resumed() -> None:
    assert not GymnasiumEnvironment("Pendulum-v1").episodes(torch.arange(2)).resumable


def test_processes_of_their_own_step_alike() -> None:
    together = GymnasiumEnvironment("HalfCheetah-v5", "sync", LENGTH).episodes(torch.arange(2))
    apart = GymnasiumEnvironment("HalfCheetah-v5", "async", LENGTH).episodes(torch.arange(2))
    try:
        assert not apart.resumable
        for t in range(LENGTH + 2):
            a, b = (e.step(noise(2, 6, seed=t)) for e in (together, apart))
            assert torch.equal(a.observations, b.observations)
            assert torch.equal(a.final_observations, b.final_observations)
            assert torch.equal(a.truncated, b.truncated)
            assert all(torch.equal(a.terms[k], b.terms[k]) for k in a.terms)
    finally:
        apart._vector.close()


@pytest.mark.parametrize(
    ("name", "how"), [("HalfCheetah-v5", "sync"), ("HalfCheetah-v5", "async"), ("mo-halfcheetah-v5", "sync")]
)
def test_first_episodes_can_be_cut_early(name: str, how: Literal["sync", "async"]) -> None:
    episodes = GymnasiumEnvironment(name, how, LENGTH).episodes(torch.arange(2), elapsed=torch.tensor([0, LENGTH - 2]))
    try:
        ends = torch.stack([episodes.step(noise(2, 6, seed=t)).truncated for t in range(LENGTH)])
    finally:
        episodes._vector.close()
    assert [ends[:, k].nonzero()[0].item() for k in range(2)] == [LENGTH - 1, 1]


def test_the_same_seed_starts_alike_whatever_the_batch() -> None:
    environment = GymnasiumEnvironment("HalfCheetah-v5")
    many, few = environment.episodes(torch.arange(5)), environment.episodes(torch.tensor([3]))
    assert torch.equal(many.observations[3:4], few.observations)
    assert len({tuple(row.tolist()) for row in many.observations}) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HalfCheetah-v55", "no environment 'HalfCheetah-v55'; did you mean 'HalfCheetah-v5'"),
        ("mo-halfcheetah-v55", "no environment 'mo-halfcheetah-v55'; did you mean 'mo-halfcheetah-v5'"),
        ("qqqq", "no environment 'qqqq'; see gymnasium.envs.registry"),
    ],
)
def test_unknown_names_are_refused_at_once(name: str, message: str) -> None:
    with pytest.raises(RslitError, match=message):
        GymnasiumEnvironment(name)
    with pytest.raises(RslitError, match=r"env.episode_length must be at least 1, got 0"):
        GymnasiumEnvironment(episode_length=0)


def test_actions_must_be_a_bounded_vector() -> None:
    use: Any
    environment = GymnasiumEnvironment("CartPole-v1")
    for use in (lambda: environment.observation_size, lambda: environment.episodes(torch.arange(2))):
        with pytest.raises(RslitError, match="'CartPole-v1' has no bounded vector of actions; choose a continuous"):
            use()
