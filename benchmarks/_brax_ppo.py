"""The peers of locomotion.py: Brax's own PPO, and plain jitted stepping of a Brax environment.

locomotion.py starts this file in a virtual environment without rslit and torch: it needs jax and brax only.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import brax
import jax
import numpy as np
from brax import envs
from brax.training.agents.ppo import networks, train
from locomotion import WARM_UP, options, report

WITH = f"brax {brax.__version__}, jax {jax.__version__}"


def ppo(given: argparse.Namespace) -> None:
    """Brax's PPO with the settings of configs/locomotion/halfcheetah; it reports its own steps per second."""
    per_rollout = given.num_envs * given.unroll
    done = 0

    def progress(steps: int, metrics: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        if done == WARM_UP:
            report(what=f"{WITH}, {jax.device_count()} device(s)")
        elif done > WARM_UP:
            # Brax's own clock, around the compiled epoch alone: what it does between epochs is not counted.
            size = per_rollout * given.rollouts
            report(steps=size, seconds=size / float(metrics["training/sps"]))

    rounds = given.rounds + WARM_UP
    train.train(
        environment=envs.get_environment(given.env, backend=given.backend),
        num_timesteps=rounds * given.rollouts * per_rollout,
        num_evals=rounds + 1,
        run_evals=False,
        progress_fn=progress,
        episode_length=1000,
        num_envs=given.num_envs,
        unroll_length=given.unroll,
        batch_size=given.num_envs // given.minibatches,
        num_minibatches=given.minibatches,
        num_updates_per_batch=given.epochs,
        normalize_observations=True,
        learning_rate=6e-4,
        entropy_cost=1e-3,
        discounting=0.97,
        gae_lambda=0.95,
        clipping_epsilon=0.2,
        vf_loss_coefficient=0.5,
        max_grad_norm=1.0,
        network_factory=functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=tuple(given.layers),
            value_hidden_layer_sizes=tuple(given.layers),
        ),
    )


def bare(given: argparse.Namespace) -> None:
    """A batch of environments with Brax's training wrappers, stepped by one jitted call per step."""
    env = envs.create(given.env, backend=given.backend, episode_length=1000, batch_size=given.num_envs)
    state = jax.jit(env.reset)(jax.random.PRNGKey(0))
    step = jax.jit(env.step)
    actions = np.random.default_rng(0).uniform(-1, 1, (given.num_envs, env.action_size)).astype(np.float32)
    count = given.rollouts * given.unroll
    for done in range(given.rounds + WARM_UP):
        began = time.perf_counter()
        for _ in range(count):
            state = step(state, actions)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - began
        if done == WARM_UP - 1:
            report(what=f"{WITH}, {jax.device_count()} device(s)")
        elif done >= WARM_UP:
            report(steps=count * given.num_envs, seconds=seconds)


if __name__ == "__main__":
    given = options(__doc__, ["ppo", "bare"]).parse_args()
    {"ppo": ppo, "bare": bare}[given.contender](given)
