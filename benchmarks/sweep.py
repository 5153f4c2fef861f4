"""A whole sweep of λ: the episodes of all λ in one batch against one λ after the other.

    python benchmarks/sweep.py --episode-length 200

Runs LocomotionModule.evaluate_soups both ways on the same soup of two experts, in turn, and shows the medians; then how
far their scores are apart. On a machine with a GPU that torch and jax both see, the same on the GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

from rslit.envs import BraxEnvironment
from rslit.modules import LocomotionModule
from rslit.rewards import TermsReward
from rslit.samples import Samples
from rslit.soup import Lam, Soup, lattice

TARGETS = {"cpu": 1.0, "cuda": 5.0}


def build(given: argparse.Namespace, seed: int, env: BraxEnvironment) -> LocomotionModule:
    """The module of configs/locomotion/halfcheetah, with fresh weights."""
    torch.manual_seed(seed)
    rewards = [TermsReward({"x_velocity": 1.0}, "risky"), TermsReward({"x_velocity": 1.0, "energy": -1.0}, "cautious")]
    module = LocomotionModule(env, rewards[0], rewards, policy_layers=given.layers, value_layers=given.layers)
    return module.to(given.device)


class Sweep:
    """One soup on one set of episodes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.env = BraxEnvironment(given.env, given.backend, given.episode_length)
        self.module = build(given, 0, self.env)
        states = {name: build(given, seed, self.env).policy.state_dict() for seed, name in enumerate("ab", 1)}
        self.soup = Soup(states, trainable_keys=self.module.trainable_keys)
        self.lams: list[Lam] = [dict(zip("ab", lam, strict=True)) for lam in lattice(2, given.parts)]
        self.batch = {"seeds": torch.arange(given.episodes)}
        for count in (given.episodes, given.episodes * len(self.lams)):
            # Compiles with the whole time limit, which the compiled step keeps: `run` may then cut episodes short.
            still = torch.zeros(count, self.env.action_size, device=given.device)
            self.env.episodes(torch.arange(count), auto_reset=False).step(still)

    def run(self, batched: bool, length: int) -> tuple[float, list[Samples]]:
        """Seconds and samples of the first `length` steps of every episode."""
        self.env.episode_length = length
        self.module.batched_soups = batched
        began = time.perf_counter()
        samples = self.module.evaluate_soups(self.batch, 0, self.soup, self.lams)
        sum(float(s.scores["risky"].sum()) for s in samples)  # waits for a GPU
        return time.perf_counter() - began, samples


def differences(one: list[Samples], two: list[Samples]) -> torch.Tensor:
    """How far the two ways' scores are apart, float64 (M, scores of all rewards)."""
    pairs = zip(one, two, strict=True)
    return torch.stack([torch.cat([(a.scores[k] - b.scores[k]).abs() for k in a.scores]) for a, b in pairs]).double()


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="halfcheetah")
    parser.add_argument("--backend", default="spring")
    parser.add_argument("--episode-length", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--layers", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=list(TARGETS), default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    sweep = Sweep(given)
    names = {True: f"all {len(sweep.lams)} λ in one batch", False: "one λ after the other"}
    times: dict[bool, list[float]] = {way: [] for way in names}
    for way in names:
        sweep.run(way, min(3, given.episode_length))  # warms up
    for _ in range(given.repeats):
        for way in names:
            seconds, samples = sweep.run(way, given.episode_length)
            times[way].append(seconds)
    import jax

    steps = int(sum(s["length"].sum() for s in samples))  # fewer than the product where episodes end early
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    size = f"{len(sweep.lams)} λ × {given.episodes} episodes × {given.episode_length} steps"
    print(f"{given.env} ({given.backend}), {size},")
    print(f"torch {torch.__version__} on {given.device}, jax {jax.__version__} on {jax.default_backend()},")
    print(f"{cores} cores, load {load:.1f}\n")
    print("| | seconds, median | lowest to highest | steps/s |\n|---|---|---|---|")
    middle = {way: statistics.median(seconds) for way, seconds in times.items()}
    for way, name in names.items():
        spread = f"{min(times[way]):.2f} to {max(times[way]):.2f}"
        print(f"| {name} | {middle[way]:.2f} | {spread} | {steps / middle[way]:.0f} |")
    print(f"\none after the other / one batch: {middle[False] / middle[True]:.2f} (target {TARGETS[given.device]:g})\n")
    vertex = torch.tensor([max(lam.values()) == 1 for lam in sweep.lams])
    print("Difference of a score between the two ways:\n")
    print("| steps of an episode | mean size of a score | at the experts, largest | at other λ, median | largest |")
    print("|---|---|---|---|---|")
    for length in sorted({n for n in (1, 5, 10, 50) if n < given.episode_length} | {given.episode_length}):
        one, two = (sweep.run(way, length)[1] for way in names)
        off = differences(one, two).cpu()
        size = torch.cat([values.abs() for s in two for values in s.scores.values()]).mean()
        inner = off[~vertex]
        print(f"| {length} | {size:.3g} | {off[vertex].max():.1g} | {inner.median():.1g} | {inner.max():.1g} |")


if __name__ == "__main__":
    main()
