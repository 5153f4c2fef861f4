from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rslit.envs import BraxEnvironment
from rslit.envs import brax as adapter
from rslit.errors import RslitError

pytest.importorskip("brax")
pytestmark = [
    pytest.mark.slow,
    # Brax 0.14.2 looks for contacts in the way of MuJoCo before 3.3; Python shows users no such warning of a library.
    pytest.mark.filterwarnings(r"ignore:Accessing `\w+` directly from `Data` is deprecated:DeprecationWarning"),
]

LENGTH = 6


@pytest.fixture(scope="module")
def cheetah() -> BraxEnvironment:
    return BraxEnvironment("halfcheetah", "spring", LENGTH)


def noise(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_sizes_and_terms(cheetah: BraxEnvironment) -> None:
    assert (cheetah.observation_size, cheetah.action_size) == (17, 6)
    assert cheetah.terms == ("reward_ctrl", "reward_run", "x_position", "x_velocity", "energy")
    humanoid = BraxEnvironment("humanoid")
    assert (humanoid.observation_size, humanoid.action_size) == (244, 17)
    assert {"x_velocity", "reward_alive", "energy"} <= set(humanoid.terms), "what configs/locomotion/humanoid names"


def test_steps_equal_braxs_own_environment(cheetah: BraxEnvironment) -> None:
    """Observations, velocity of the torso by its displacement, and energy, against the environment stepped alone."""
    import jax
    import numpy as np
    from brax import envs

    own = envs.get_environment("halfcheetah", backend="spring")
    seeds = torch.tensor([5, 2**31 - 2])
    episodes = cheetah.episodes(seeds)
    step = jax.jit(own.step)
    states = [jax.jit(own.reset)(jax.random.PRNGKey(int(seed))) for seed in seeds]
    for t in range(4):
        actions = noise(2, 6, seed=t)
        for b, state in enumerate(states):
            np.testing.assert_allclose(episodes.observations[b], state.obs, rtol=1e-4, atol=1e-4)
        before = [float(state.pipeline_state.x.pos[0, 0]) for state in states]
        states = [step(state, a.numpy()) for state, a in zip(states, actions, strict=True)]
        found = episodes.step(actions)
        for b, state in enumerate(states):
            after = float(state.pipeline_state.x.pos[0, 0])
            assert float(found.terms["x_position"][b]) == pytest.approx(after, abs=1e-5)
            # A position of float32 near 0, divided by 0.05 s.
            assert float(found.terms["x_velocity"][b]) == pytest.approx((after - before[b]) / own.dt, abs=2e-3)
            assert float(found.terms["energy"][b]) == pytest.approx(float((actions[b] ** 2).sum()), rel=1e-5)
            assert float(found.terms["reward_ctrl"][b]) == pytest.approx(
                -0.1 * float((actions[b] ** 2).sum()), rel=1e-5
            )
            np.testing.assert_allclose(found.final_observations[b], state.obs, rtol=1e-4, atol=1e-4)
    assert own.dt == pytest.approx(episodes.seconds)


def test_a_step_is_made_of_tensors_of_the_stated_kind(cheetah: BraxEnvironment) -> None:
    step = cheetah.episodes(torch.arange(3)).step(noise(3, 6))
    assert set(step.terms) == set(cheetah.terms)
    assert {v.dtype for v in step.terms.values()} == {torch.float32}
    assert {v.shape for v in step.terms.values()} == {(3,)}
    assert step.observations.shape == step.final_observations.shape == (3, 17)
    assert step.observations.dtype == torch.float32
    assert step.terminated.dtype == step.truncated.dtype == torch.bool
    assert step.terminated.shape == step.truncated.shape == (3,)


def test_the_same_seed_starts_alike_whatever_the_batch(cheetah: BraxEnvironment) -> None:
    seeds = torch.arange(40) * 1000
    many = cheetah.episodes(seeds)  # the large chunk
    few = cheetah.episodes(seeds[[7, 3]])  # the small one, filled up
    assert torch.equal(few.observations, many.observations[[7, 3]])
    actions = noise(40, 6)
    ahead, alone = many.step(actions), few.step(actions[[7, 3]])
    torch.testing.assert_close(alone.observations, ahead.observations[[7, 3]], rtol=1e-4, atol=1e-4)
    assert len({tuple(row.tolist()) for row in many.observations}) == 40


def test_an_episode_is_cut_at_its_length_and_starts_again(cheetah: BraxEnvironment) -> None:
    episodes = cheetah.episodes(torch.arange(3))
    first = episodes.observations.clone()
    for t in range(1, 2 * LENGTH + 1):
        step = episodes.step(noise(3, 6, seed=t))
        over = t % LENGTH == 0
        assert step.truncated.tolist() == [over] * 3
        assert not step.terminated.any()
        if over:
            assert torch.equal(step.observations, first)
            assert (step.final_observations != first).any(1).all(), "the true successor, before the reset"
        else:
            assert torch.equal(step.observations, step.final_observations)
        assert torch.equal(episodes.observations, step.observations)


def test_without_auto_reset_nothing_starts_again(cheetah: BraxEnvironment) -> None:
    episodes, other = cheetah.episodes(torch.arange(2), auto_reset=False), cheetah.episodes(torch.arange(2))
    for t in range(LENGTH):
        step, with_reset = episodes.step(noise(2, 6, seed=t)), other.step(noise(2, 6, seed=t))
    assert step.truncated.all()
    assert torch.equal(step.observations, step.final_observations)
    assert torch.equal(step.final_observations, with_reset.final_observations)


def test_a_fall_terminates(tmp_path: Path) -> None:
    pendulum = BraxEnvironment("inverted_pendulum", "spring", 100)
    assert pendulum.terms == ("energy",)
    episodes = pendulum.episodes(torch.arange(2))
    first = episodes.observations.clone()
    for _ in range(100):
        step = episodes.step(torch.tensor([[1.0], [0.0]]))
        if step.terminated[0]:
            break
    assert step.terminated[0]
    assert not step.truncated.any()
    assert abs(float(step.final_observations[0, 1])) > 0.2, "Brax ends the episode beyond 0.2 rad"
    assert torch.equal(step.observations[0], first[0])


def test_state_goes_through_a_file_and_back_bit_for_bit(cheetah: BraxEnvironment, tmp_path: Path) -> None:
    seeds = torch.arange(3)
    one = cheetah.episodes(seeds)
    for t in range(4):
        one.step(noise(3, 6, seed=t))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    two = cheetah.episodes(seeds)
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one.observations, two.observations)
    for t in range(4, 10):  # across a truncation: the counter and the first state came along
        a, b = one.step(noise(3, 6, seed=t)), two.step(noise(3, 6, seed=t))
        assert torch.equal(a.observations, b.observations)
        assert torch.equal(a.truncated, b.truncated)
        assert all(torch.equal(a.terms[k], b.terms[k]) for k in a.terms)
        assert a.truncated.all() == (t + 1 == LENGTH)


def test_first_episodes_can_be_cut_early(cheetah: BraxEnvironment) -> None:
    episodes = cheetah.episodes(torch.arange(3), elapsed=torch.tensor([0, LENGTH - 2, LENGTH - 1]))
    ends = torch.stack([episodes.step(noise(3, 6, seed=t)).truncated for t in range(LENGTH)])
    assert [ends[:, k].nonzero().flatten().tolist() for k in range(3)] == [[LENGTH - 1], [1], [0]]


def test_a_saved_state_does_not_move_on(cheetah: BraxEnvironment) -> None:
    episodes = cheetah.episodes(torch.arange(2))
    state = episodes.state_dict()
    before = [leaf.clone() for leaf in state["leaves"]]
    episodes.step(noise(2, 6))
    assert all(torch.equal(a, b) for a, b in zip(before, state["leaves"], strict=True))


def test_states_of_other_environments_are_refused(cheetah: BraxEnvironment) -> None:
    state = cheetah.episodes(torch.arange(3)).state_dict()
    with pytest.raises(RslitError, match="were started from other seeds"):
        cheetah.episodes(torch.arange(1, 4)).load_state_dict(state)
    with pytest.raises(RslitError, match="have another state"):
        BraxEnvironment("inverted_pendulum", "spring").episodes(torch.arange(3)).load_state_dict(state)


def test_on_one_device_tensors_share_the_simulators_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_cores", lambda: 1)
    environment = BraxEnvironment("inverted_pendulum", "spring", 100)
    outputs: list[Any] = []
    episodes = environment.episodes(torch.arange(5))
    assert episodes.observations.data_ptr() == episodes._chunks[0][0].obs.unsafe_buffer_pointer()
    whole = episodes._compiled.step

    def watched(*args: Any) -> Any:
        outputs.append(whole(*args))
        return outputs[-1]

    monkeypatch.setattr(episodes._compiled, "step", watched)
    step = episodes.step(torch.zeros(5, 1))
    _, _, seen = outputs[0]
    assert step.observations.data_ptr() == seen["obs"].unsafe_buffer_pointer()
    assert step.final_observations.data_ptr() == seen["final"].unsafe_buffer_pointer()
    assert step.terms["energy"].data_ptr() == seen["terms"].unsafe_buffer_pointer()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(RslitError, match=r"no environment 'humanod'; did you mean 'humanoid'\?"):
        BraxEnvironment("humanod")
    with pytest.raises(RslitError, match="no environment 'zzz'; known: ant, fast"):
        BraxEnvironment("zzz")
    with pytest.raises(RslitError, match=r"env.backend: Brax has no backend 'srping'; known: generalized, spring"):
        BraxEnvironment("humanoid", "srping")
    with pytest.raises(RslitError, match=r"env.episode_length must be at least 1, got 0"):
        BraxEnvironment("humanoid", episode_length=0)
