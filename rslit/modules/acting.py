"""Acting in a simulator: the steps of a rollout, and whole episodes with their scores.

Notation: B environments, T steps, O observation values, A action values, M policies side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from rslit.envs import Environment, Episodes, Step
from rslit.objectives import tanh_normal
from rslit.rewards import Reward, score
from rslit.samples import Samples

__all__ = ["Unrolled", "play", "unroll"]

# Steps whose terms are kept before they are scored: few calls of the rewards, little memory.
_SCORED_STEPS = 100


class Unrolled(NamedTuple):
    """What T steps of B environments gave.

    Attributes:
        steps: The steps, T of them.
        observations: float32 (B, T, O), what the policy saw.
        raw_actions: float32 (B, T, A), before the tanh.
        logprobs: float32 (B, T), in nats.
    """

    steps: list[Step]
    observations: Tensor
    raw_actions: Tensor
    logprobs: Tensor


def unroll(
    policy: Callable[[Tensor], tuple[Tensor, Tensor]],
    episodes: Episodes,
    length: int,
    noise: torch.Generator,
    device: torch.device,
) -> Unrolled:
    """Lets a policy act in environments that are under way.

    Args:
        policy: Location and scale (B, A) for observations (B, O).
        episodes: The environments; they are left where the rollout ends.
        length: T.
        noise: Generator of the actions' noise, on `device`.
        device: Where the policy is.

    Returns:
        The steps and what the policy saw and did.
    """
    steps, seen, raws, logprobs = [], [], [], []
    with _one_thread(device):
        for _ in range(length):
            observations = episodes.observations.to(device)
            location, scale = policy(observations)
            raw, action = tanh_normal.sample(location, scale, noise)
            steps.append(episodes.step(action))
            seen.append(observations)
            raws.append(raw)
            logprobs.append(tanh_normal.log_prob(raw, location, scale))
    return Unrolled(steps, torch.stack(seen, 1), torch.stack(raws, 1), torch.stack(logprobs, 1))


def play(
    env: Environment,
    act: Callable[[Tensor], Tensor],
    seeds: Tensor,
    copies: int,
    rewards: Sequence[Reward],
    step: int,
    device: torch.device,
) -> list[Samples]:
    """One episode per seed and policy, all in one batch.

    Args:
        env: The simulator.
        act: Actions (M, B, A) for observations (M, B, O).
        seeds: int64 (B,), the episodes.
        copies: M, policies side by side.
        rewards: Rewards of a step, summed over the episode.
        step: Training step, for a reward's error message.
        device: Where the policies are.

    Returns:
        M samples: items are the seeds, the field ``length`` the episode's steps (B,), scores float32 (B,).

    Raises:
        RslitError: A reward is not finite.
    """
    count = len(seeds)
    episodes = env.episodes(seeds.to(device).repeat(copies), auto_reset=False)
    alive = torch.ones(copies * count, dtype=torch.bool, device=device)
    length = torch.zeros(copies * count, device=device)
    totals = {r.name: torch.zeros(copies * count, device=device) for r in rewards}
    names = [f"episode {s}" for s in seeds.repeat(copies).tolist()]
    block: list[tuple[Step, Tensor]] = []
    with _one_thread(device):
        for t in range(env.episode_length):
            done = episodes.step(act(episodes.observations.to(device).view(copies, count, -1)).flatten(0, 1))
            block.append((done, alive))
            length += alive
            alive = alive & ~(done.terminated | done.truncated).to(device)
            last = t + 1 == env.episode_length or not bool(alive.any())
            if last or len(block) == _SCORED_STEPS:
                for name, scores in _scores(rewards, block, names, step).items():
                    totals[name] += scores.to(device)
                block.clear()
            if last:
                break
    parts = [slice(m * count, (m + 1) * count) for m in range(copies)]
    items = seeds.tolist()
    return [Samples(items, {"length": length[p]}, {k: v[p] for k, v in totals.items()}) for p in parts]


def _scores(
    rewards: Sequence[Reward], block: list[tuple[Step, Tensor]], names: list[str], step: int
) -> dict[str, Tensor]:
    """Each reward summed over the steps of a block, while episodes last."""
    alive = torch.stack([a for _, a in block])
    terms = {k: torch.stack([s.terms[k] for s, _ in block]).flatten() for k in block[0][0].terms}
    # What a simulator does after an episode's end is nobody's score, and may well not be finite.
    terms = {k: torch.where(alive.flatten().to(v.device), v, torch.zeros_like(v)) for k, v in terms.items()}
    samples = Samples(names * len(block), terms)
    values = {r.name: score(r, samples, step, complete=True).view(len(block), -1) for r in rewards}
    return {name: (v * alive.to(v.device)).sum(0) for name, v in values.items()}


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Keeps torch to one CPU thread beside a simulator, which needs the cores that the others would spin on."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
