"""Brax environments (jax) for torch policies: batched, jitted, tensors shared without a copy.

On a CPU, XLA runs one Brax step on little more than one core. So we ask jax for one CPU device per core and shard the
environments over them (`shard_map`), which nearly doubles the stepping rate on two cores (`benchmarks/locomotion.py`).
There the environments are stepped in chunks of fixed size as well: stepping costs about the same per environment from
32 environments on, so two compiled chunk sizes serve training, evaluation and sweeps, whatever their batch size.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.utils.dlpack
from torch import Tensor

from rslit.envs.base import ENERGY, Environment, Step, quiet_mujoco
from rslit.errors import RslitError

__all__ = ["BraxEnvironment"]

# Environments per compiled call on a CPU: the large chunk is 1.4 x faster per environment than the small one, which
# saves a small batch (up to half a large chunk) from stepping many environments that nobody looks at.
_SMALL_CHUNK, _LARGE_CHUNK = 32, 128


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _quiet_import() -> Any:
    """Brax prints about optional parts (warp) and its own upkeep on import and load; none concerns the user."""
    quiet_mujoco()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", message="Brax System, piplines and environments are not actively")
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained")
        yield


def _import_jax() -> Any:
    try:
        import jax
    except ImportError:
        raise RslitError("Brax environments need jax and brax: pip install 'rslit[locomotion]'") from None
    with contextlib.suppress(RuntimeError):  # jax is up already: take the devices it has
        jax.config.update("jax_num_cpu_devices", _cores())
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rslit" / "jax"
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    return jax


class _Compiled:
    """The jitted reset and step of one environment, for chunks of `chunk` environments on `devices`."""

    def __init__(self, env: Any, episode_length: int, devices: int, chunk: int) -> None:
        import jax
        from jax import numpy as jnp
        from jax.sharding import NamedSharding, PartitionSpec

        def reset(seeds: Any) -> Any:
            return jax.vmap(lambda s: env.reset(jax.random.PRNGKey(s)))(seeds)

        def step(state: Any, first: Any, steps: Any, actions: Any, auto_reset: Any) -> Any:
            after = jax.vmap(env.step)(state, actions)
            steps = steps + 1
            terminated = after.done > 0
            truncated = (steps >= episode_length) & ~terminated
            over = (terminated | truncated) & auto_reset

            def pick(new: Any, old: Any) -> Any:
                return jnp.where(over.reshape(over.shape + (1,) * (old.ndim - 1)), new, old)

            # As Brax's AutoResetWrapper does, an ended episode starts again from the environment's own first state.
            going = after.replace(
                pipeline_state=jax.tree.map(pick, first.pipeline_state, after.pipeline_state),
                obs=pick(first.obs, after.obs),
                done=jnp.zeros_like(after.done),
            )
            terms = jnp.stack([after.metrics[k] for k in sorted(after.metrics)] + [jnp.sum(actions**2, -1)], -1)
            seen = {
                "obs": going.obs,
                "final": after.obs,
                "over": jnp.stack([terminated, truncated], -1),
                "terms": terms,
            }
            return going, jnp.where(over, 0, steps), seen

        if devices > 1:
            mesh = jax.make_mesh((devices,), ("env",), axis_types=(jax.sharding.AxisType.Auto,))
            spec, whole = PartitionSpec("env"), PartitionSpec()
            self.sharding: Any = NamedSharding(mesh, spec)
            reset = jax.shard_map(reset, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
            step = jax.shard_map(
                step, mesh=mesh, in_specs=(spec, spec, spec, spec, whole), out_specs=spec, check_vma=False
            )
        else:
            self.sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        self.reset: Callable[..., Any] = jax.jit(reset)
        self.step: Callable[..., Any] = jax.jit(step)
        self.chunk = chunk
        self.env = env


def _to_torch(array: Any) -> Tensor:
    """A jax array as a torch tensor: shared memory on one device, one small concatenation over several."""
    shards = sorted(array.addressable_shards, key=lambda s: (s.index[0].start or 0) if s.index else 0)
    parts = [torch.utils.dlpack.from_dlpack(shard.data) for shard in shards]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _BraxEpisodes:
    resumable = True

    def __init__(
        self, compiled: _Compiled, seeds: Tensor, terms: tuple[str, ...], auto_reset: bool, elapsed: Tensor
    ) -> None:
        self._compiled = compiled
        self._terms = terms
        self._auto_reset = auto_reset
        self._count = len(seeds)
        self._seeds = seeds.cpu()
        self.model = compiled.env.sys.mj_model
        self.seconds = float(compiled.env.dt)
        self._chunks: list[tuple[Any, Any, Any]] = []
        for part, taken in zip(self._split(self._seeds), self._split(elapsed.cpu()), strict=True):
            state = compiled.reset(self._place(part.numpy().astype("uint32")))
            self._chunks.append((state, state, self._place(taken.numpy().astype("int32"))))
        self.observations = self._join([chunk[0].obs for chunk in self._chunks])

    def _place(self, array: Any) -> Any:
        import jax

        return jax.device_put(array, self._compiled.sharding)

    def _split(self, rows: Tensor) -> list[Tensor]:
        """Chunks of equal size; the last is filled up with copies of its first row, which nobody looks at."""
        parts = list(torch.split(rows, self._compiled.chunk))
        missing = self._compiled.chunk - len(parts[-1])
        if missing:
            parts[-1] = torch.cat([parts[-1], parts[-1][:1].expand(missing, *rows.shape[1:])])
        return parts

    def _join(self, arrays: list[Any]) -> Tensor:
        parts = [_to_torch(a) for a in arrays]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[: self._count]

    def step(self, actions: Tensor) -> Step:
        from jax import dlpack

        seen: list[Mapping[str, Any]] = []
        for i, part in enumerate(self._split(actions.detach().contiguous())):
            state, first, steps = self._chunks[i]
            placed = self._place(dlpack.from_dlpack(part))
            state, steps, out = self._compiled.step(state, first, steps, placed, self._auto_reset)
            self._chunks[i] = (state, first, steps)
            seen.append(out)
        self.observations = self._join([s["obs"] for s in seen])
        over = self._join([s["over"] for s in seen])
        values = self._join([s["terms"] for s in seen])
        return Step(
            observations=self.observations,
            final_observations=self._join([s["final"] for s in seen]),
            terminated=over[:, 0],
            truncated=over[:, 1],
            terms={name: values[:, k] for k, name in enumerate(self._terms)},
        )

    def pose(self) -> Tensor:
        """See :class:`rslit.envs.base.PosedEpisodes`."""
        links = self._chunks[0][0].pipeline_state.x
        return torch.cat([_to_torch(links.pos)[0], _to_torch(links.rot)[0]], -1).cpu()

    def state_dict(self) -> dict[str, Any]:
        import jax

        leaves: list[Tensor] = []
        for state, _, steps in self._chunks:
            leaves += [_to_torch(leaf).clone().cpu() for leaf in jax.tree.leaves((state, steps))]
        return {"seeds": self._seeds.clone(), "leaves": leaves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        import jax

        if not torch.equal(state["seeds"], self._seeds):
            raise RslitError("the checkpoint's environments were started from other seeds: resume with its own config")
        shapes = [leaf.shape for was, _, steps in self._chunks for leaf in jax.tree.leaves((was, steps))]
        if [tuple(leaf.shape) for leaf in state["leaves"]] != shapes:
            raise RslitError("the checkpoint's environments have another state: resume with its own config and machine")
        leaves = iter(state["leaves"])
        for i, (was, first, steps) in enumerate(self._chunks):
            old, tree = jax.tree.flatten((was, steps))
            # Tensors lose weak types and jax bool arrays come as torch bool: give each leaf its own dtype back.
            new = [self._place(next(leaves).numpy().astype(leaf.dtype)) for leaf in old]
            now, count = jax.tree.unflatten(tree, new)
            self._chunks[i] = (now, first, count)
        self.observations = self._join([chunk[0].obs for chunk in self._chunks])


class BraxEnvironment(Environment):
    """A Brax environment by name.

    Terms of a step are the environment's own ``metrics`` (halfcheetah: ``x_velocity``, ``reward_run``,
    ``reward_ctrl``, ``x_position``; see Brax's source for others) and ``energy`` = Σ a².
    """

    def __init__(self, name: str = "halfcheetah", backend: str = "spring", episode_length: int = 1000) -> None:
        """Looks the environment up.

        Args:
            name: Name in Brax's registry, e.g. ``halfcheetah``, ``humanoid``, ``ant``.
            backend: Brax pipeline: ``generalized``, ``spring``, ``positional`` or ``mjx``.
            episode_length: Steps after which an episode is truncated.

        Raises:
            RslitError: The name or backend is unknown, or jax or brax are not installed.
        """
        _import_jax()
        with _quiet_import():
            try:
                from brax import envs
            except ImportError:
                raise RslitError("Brax environments need jax and brax: pip install 'rslit[locomotion]'") from None
        known = sorted(envs._envs)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise RslitError(f"env: Brax has no environment '{name}'; {hint}")
        backends = ("generalized", "spring", "positional", "mjx")
        if backend not in backends:
            raise RslitError(f"env.backend: Brax has no backend '{backend}'; known: {', '.join(backends)}")
        if episode_length < 1:
            raise RslitError(f"env.episode_length must be at least 1, got {episode_length}")
        self.name = name
        self.backend = backend
        self.episode_length = episode_length
        self._compiled: dict[int, _Compiled] = {}

    @cached_property
    def env(self) -> Any:
        """The unwrapped Brax environment."""
        from brax import envs

        with _quiet_import():
            return envs.get_environment(self.name, backend=self.backend)

    @property
    def observation_size(self) -> int:
        """O, values of one observation."""
        return int(self.env.observation_size)

    @property
    def action_size(self) -> int:
        """A, values of one action."""
        return int(self.env.action_size)

    @cached_property
    def _metrics(self) -> tuple[str, ...]:
        import jax

        return tuple(sorted(jax.eval_shape(self.env.reset, jax.random.PRNGKey(0)).metrics))

    @property
    def terms(self) -> tuple[str, ...]:
        """Brax's metrics in alphabetical order, then ``energy``."""
        return (*self._metrics, ENERGY)

    def episodes(self, seeds: Tensor, *, auto_reset: bool = True, elapsed: Tensor | None = None) -> _BraxEpisodes:
        """Starts one environment per seed; see :class:`rslit.envs.base.Environment`."""
        import jax

        on_cpu = jax.default_backend() == "cpu"
        devices = min(jax.device_count(), _cores()) if on_cpu else 1
        chunk = len(seeds)
        if on_cpu:
            chunk = _SMALL_CHUNK if 2 * len(seeds) <= _LARGE_CHUNK else _LARGE_CHUNK
            chunk = -(-chunk // devices) * devices
        if chunk not in self._compiled:
            self._compiled[chunk] = _Compiled(self.env, self.episode_length, devices, chunk)
        none = torch.zeros_like(seeds)
        return _BraxEpisodes(self._compiled[chunk], seeds, self.terms, auto_reset, none if elapsed is None else elapsed)
