"""Gymnasium and MO-Gymnasium environments, vectorised by Gymnasium itself."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rslit.envs.base import ENERGY, Environment, Step, quiet_mujoco
from rslit.errors import RslitError

__all__ = ["GymnasiumEnvironment"]

_NEEDS = "Gymnasium environments need gymnasium[mujoco] and mo-gymnasium: pip install 'rslit[locomotion]'"


def _vector_reward_wrapper() -> Callable[[Any], Any]:
    import gymnasium

    class VectorRewardTerms(gymnasium.Wrapper):  # type: ignore[misc]  # gymnasium ships no types we follow
        """Moves MO-Gymnasium's vector reward into the step's info, as terms ``reward_0``, ``reward_1``, ..."""

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, reward, terminated, truncated, info = self.env.step(action)
            info = {**info, **{f"reward_{k}": float(r) for k, r in enumerate(reward)}}
            return observation, float(np.sum(reward)), terminated, truncated, info

    return VectorRewardTerms


def _terms_of(info: Mapping[str, Any]) -> list[str]:
    """The numeric entries of a step's info; Gymnasium adds a mask ``_name`` for each ``name``."""
    numeric = [k for k, v in info.items() if isinstance(v, np.ndarray) and v.ndim == 1 and v.dtype.kind in "fiu"]
    return sorted(k for k in numeric if not k.startswith("_"))


class _GymnasiumEpisodes:
    def __init__(self, vector: Any, seeds: Tensor, elapsed: Tensor | None = None) -> None:
        self._vector = vector
        self._seeds = seeds.cpu()
        self._device = seeds.device
        space = vector.single_action_space
        self._middle, self._half = (space.high + space.low) / 2, (space.high - space.low) / 2
        first, _ = vector.reset(seed=[int(s) for s in seeds])
        if elapsed is not None:
            vector.set_attr("_elapsed_steps", [int(steps) for steps in elapsed])
        self.observations = self._tensor(first)
        self.resumable = all(hasattr(e.unwrapped, "data") for e in getattr(vector, "envs", [None]) if e) and hasattr(
            vector, "envs"
        )

        if self.resumable:  # MuJoCo's: its bodies can be drawn
            self.model, self.seconds = vector.envs[0].unwrapped.model, float(vector.envs[0].unwrapped.dt)

    def pose(self) -> Tensor:
        """See :class:`rslit.envs.base.PosedEpisodes`; an environment that is not MuJoCo's lacks ``model``."""
        data = self._vector.envs[0].unwrapped.data
        return torch.from_numpy(np.concatenate([data.xpos[1:], data.xquat[1:]], 1).astype(np.float32))

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32).copy()).to(self._device)

    def step(self, actions: Tensor) -> Step:
        unit = actions.detach().cpu().numpy()
        seen, reward, terminated, truncated, info = self._vector.step(self._middle + self._half * unit)
        final = self._tensor(seen)
        over = terminated | truncated
        if over.any():
            # An ended environment must be reset before the next step even where nobody looks at it any more.
            seen, _ = self._vector.reset(options={"reset_mask": over})
        self.observations = self._tensor(seen)
        terms = {name: self._tensor(info[name]) for name in _terms_of(info)}
        terms["reward"] = self._tensor(reward)
        terms[ENERGY] = (actions.detach() ** 2).sum(-1).to(torch.float32)
        flags = [torch.as_tensor(f.copy()).to(self._device) for f in (terminated, truncated & ~terminated)]
        return Step(self.observations, final, flags[0], flags[1], terms)

    def state_dict(self) -> dict[str, Any]:
        import mujoco

        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics, generators, elapsed = [], [], []
        for env in self._vector.envs:
            inner = env.unwrapped
            state = np.empty(mujoco.mj_stateSize(inner.model, kind))
            mujoco.mj_getState(inner.model, inner.data, state, kind)
            physics.append(torch.from_numpy(state))
            generators.append(str(inner.np_random.bit_generator.state["state"]))
            elapsed.append(int(env.get_wrapper_attr("_elapsed_steps")))
        seen = self.observations.cpu().clone()
        return {"physics": torch.stack(physics), "generators": generators, "elapsed": elapsed, "observations": seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        import ast

        import mujoco

        if len(state["elapsed"]) != len(self._vector.envs):
            raise RslitError("the checkpoint holds another number of environments: resume with its own config")
        for env, physics, generator, elapsed in zip(
            self._vector.envs, state["physics"], state["generators"], state["elapsed"], strict=True
        ):
            inner = env.unwrapped
            mujoco.mj_setState(inner.model, inner.data, physics.numpy(), mujoco.mjtState.mjSTATE_INTEGRATION)
            mujoco.mj_forward(inner.model, inner.data)
            # mj_forward changes the warm start of the solver, which the next step begins from.
            mujoco.mj_setState(inner.model, inner.data, physics.numpy(), mujoco.mjtState.mjSTATE_INTEGRATION)
            bits = inner.np_random.bit_generator
            bits.state = {**bits.state, "state": ast.literal_eval(generator)}
            env.set_wrapper_attr("_elapsed_steps", elapsed)
        self.observations = state["observations"].to(self._device)


class GymnasiumEnvironment(Environment):
    """A Gymnasium or MO-Gymnasium environment by name, e.g. ``HalfCheetah-v5`` or ``mo-halfcheetah-v5``.

    Terms of a step: the numeric entries of its ``info`` (halfcheetah: ``x_velocity``, ``reward_forward``,
    ``reward_ctrl``, ``x_position``), ``reward`` (the environment's own; the sum of a vector reward), ``reward_0``,
    ``reward_1``, ... (the entries of a vector reward) and ``energy`` = Σ a². Actions are in [-1, 1] and scaled to the
    action space; ``energy`` is of the action before scaling, so it means the same in every environment.

    MuJoCo environments resume bit for bit. Others have no state to save, so training starts their episodes anew at
    the beginning of every epoch.
    """

    def __init__(
        self,
        name: str = "HalfCheetah-v5",
        vectorization: Literal["sync", "async"] = "sync",
        episode_length: int = 1000,
    ) -> None:
        """Looks the environment up.

        Args:
            name: Id in Gymnasium's registry; ids of MO-Gymnasium begin with ``mo-``.
            vectorization: ``sync`` steps all in this process, ``async`` one process an environment (whose episodes
                start anew in every epoch).
            episode_length: Steps after which an episode is truncated.

        Raises:
            RslitError: The name is unknown, its observations or actions are no vectors, or a package is missing.
        """
        try:
            import gymnasium

            if name.startswith("mo-"):
                import mo_gymnasium  # noqa: F401  # registers its environments
        except ImportError:
            raise RslitError(_NEEDS) from None
        quiet_mujoco()
        if name not in gymnasium.envs.registry:
            near = difflib.get_close_matches(name, gymnasium.envs.registry, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "see gymnasium.envs.registry for those that exist"
            raise RslitError(f"env: Gymnasium has no environment '{name}'; {hint}")
        if episode_length < 1:
            raise RslitError(f"env.episode_length must be at least 1, got {episode_length}")
        self.name = name
        self.vectorization = vectorization
        self.episode_length = episode_length

    def _make(self, count: int) -> Any:
        import gymnasium
        from gymnasium.vector import AutoresetMode

        wrappers = [_vector_reward_wrapper()] if self.name.startswith("mo-") else []
        # Not plain fork: the threads of torch and jax do not survive it, and their locks may stay held for ever.
        context = {"context": "forkserver"} if self.vectorization == "async" else {}
        return gymnasium.make_vec(
            self.name,
            num_envs=count,
            vectorization_mode=self.vectorization,
            vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED, **context},
            wrappers=wrappers,
            max_episode_steps=self.episode_length,
            disable_env_checker=True,  # it warns of MO-Gymnasium's vector rewards, which are meant
        )

    @cached_property
    def _sizes(self) -> tuple[int, int, tuple[str, ...]]:
        import gymnasium

        probe = self._make(1)
        try:
            seen, acts = probe.single_observation_space, probe.single_action_space
            if not (isinstance(acts, gymnasium.spaces.Box) and len(acts.shape) == 1 and np.isfinite(acts.high).all()):
                raise RslitError(
                    f"env: '{self.name}' has no bounded vector of actions; choose a continuous-control one"
                )
            if len(seen.shape or ()) != 1:
                raise RslitError(f"env: the observations of '{self.name}' are no vectors; choose one whose are")
            episodes = _GymnasiumEpisodes(probe, torch.zeros(1, dtype=torch.int64))
            terms = tuple(episodes.step(torch.zeros(1, acts.shape[0])).terms)
        finally:
            probe.close()
        return int(seen.shape[0]), int(acts.shape[0]), terms

    @property
    def observation_size(self) -> int:
        """O, values of one observation."""
        return self._sizes[0]

    @property
    def action_size(self) -> int:
        """A, values of one action."""
        return self._sizes[1]

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms of a step."""
        return self._sizes[2]

    def episodes(self, seeds: Tensor, *, auto_reset: bool = True, elapsed: Tensor | None = None) -> _GymnasiumEpisodes:
        """Starts one environment per seed; see :class:`rslit.envs.base.Environment`."""
        _ = self._sizes  # refuses what we cannot drive before any work is done
        return _GymnasiumEpisodes(self._make(len(seeds)), seeds, elapsed)
