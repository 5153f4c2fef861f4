"""Locomotion: PPO on a simulator whose steps carry named reward terms (paper, Section 3.6 and Appendix H).

Notation: B environments, T steps of a rollout, O observation values, A action values, M policies of a stack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from rslit.envs import Environment, Episodes, Step
from rslit.errors import RslitError
from rslit.modules.acting import play, unroll
from rslit.modules.networks import DEFAULT_SCALE, GaussianPolicy, ValueNetwork
from rslit.modules.rewarded import RewardedModule
from rslit.modules.soup_policies import ensembled, stacked
from rslit.objectives import clipped_policy_loss, gae, tanh_normal, value_loss, whiten
from rslit.rewards import Reward, score
from rslit.rollouts import Experience
from rslit.samples import Samples
from rslit.seeds import generator
from rslit.soup import Lam, Soup

__all__ = ["LocomotionModule"]


class LocomotionModule(RewardedModule):
    """PPO for continuous control, with the paper's networks and settings (Table 6) as defaults.

    An experience has B x T rows with the fields ``observations`` (O,), ``raw_actions`` (A,) (before the tanh),
    ``logprobs``, ``advantages``, ``returns`` and ``noise`` (A,) (standard normal, for the entropy's sample).
    Samples of an evaluation are episodes: ``items`` are their seeds, the field ``length`` their steps, and a score is
    the sum of the reward over the episode's steps.
    """

    task = "locomotion"
    policy: GaussianPolicy

    def __init__(
        self,
        env: Environment,
        reward: Reward,
        evaluation_rewards: list[Reward] | None = None,
        initialisation: str | None = None,
        policy_layers: list[int] | None = None,
        value_layers: list[int] | None = None,
        initial_scale: float = DEFAULT_SCALE,
        observation_statistics: bool | None = None,
        unroll_length: int = 10,
        epochs: int = 8,
        minibatches: int = 32,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip: float = 0.3,
        value_coefficient: float = 0.5,
        entropy_coefficient: float = 1e-3,
        reward_scaling: float = 1.0,
        critic_warmup: int = 0,
        staggered_starts: bool = True,
        deterministic_evaluation: bool = True,
        batched_soups: bool = True,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Builds policy and value network for the environment.

        Args:
            env: The simulator.
            reward: Reward of a step, on its terms.
            evaluation_rewards: Rewards of a step that evaluations sum over episodes.
            initialisation: Ingredient folder of the pre-trained policy; None trains from scratch.
            policy_layers: Hidden widths of the policy; default 6 x 512.
            value_layers: Hidden widths of the value network; default 5 x 256.
            initial_scale: Scale of the untrained policy's Gaussian, before the tanh.
            observation_statistics: Gather observation statistics while training. By default only without an
                initialisation: the pre-trained policy's statistics stay frozen.
            unroll_length: T, steps per environment and rollout.
            epochs: Passes over each rollout.
            minibatches: Minibatches per pass; must divide B x T.
            gamma: Discount per step.
            gae_lambda: λ of the generalised advantage estimate.
            clip: Clip range of the probability ratio.
            value_coefficient: Weight of the value loss.
            entropy_coefficient: Weight of the entropy bonus, per nat.
            reward_scaling: Factor on the training reward.
            critic_warmup: Rollouts at the start that train the value network alone. At fine-tuning it starts from
                scratch beside a trained policy, and its first advantages are noise.
            staggered_starts: Cut the first episodes at random times, so that each rollout holds all phases of an
                episode. Otherwise all environments are always at the same one.
            deterministic_evaluation: Evaluate the mode of the policy rather than samples.
            batched_soups: In a sweep, run the episodes of all λ in one batch rather than one λ after the other.
            optimizer: Optimiser over policy and value network.
            lr_scheduler: Scheduler, stepped once per Lightning epoch.
        """
        super().__init__(reward, evaluation_rewards, initialisation, epochs, minibatches, optimizer, lr_scheduler)
        self.env = env
        self.policy = GaussianPolicy(env.observation_size, env.action_size, policy_layers or [512] * 6, initial_scale)
        self.value = ValueNetwork(env.observation_size, value_layers or [256] * 5)
        self.gather_statistics = (initialisation is None) if observation_statistics is None else observation_statistics
        self.unroll_length = unroll_length
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.clip = clip
        self.value_coefficient = value_coefficient
        self.entropy_coefficient = entropy_coefficient
        self.reward_scaling = reward_scaling
        self.critic_warmup = critic_warmup
        self.staggered_starts = staggered_starts
        self.deterministic_evaluation = deterministic_evaluation
        self.batched_soups = batched_soups
        self.load_initialisation()
        self._episodes: Episodes | None = None
        self._start_seeds: Tensor | None = None
        self._pending_statistics: Tensor | None = None
        self._rollout_stats: dict[str, float] = {}

    # -- training -------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Environments without a state to save start anew in every epoch, so that resuming changes nothing."""
        if self._episodes is not None and not self._episodes.resumable:
            self._episodes = None

    def on_train_batch_end(self, outputs: Any, batch: Experience, batch_idx: int) -> None:
        """Adds a rollout's observations to the statistics once it is learned from: acting and learning see the same."""
        if (batch_idx + 1) % (self.epochs * self.minibatches) == 0:
            self._add_pending()

    def _add_pending(self) -> None:
        if self._pending_statistics is not None:
            self.policy.normaliser.update(self._pending_statistics)
            self._pending_statistics = None

    @torch.no_grad()
    def rollout(self, batch: Mapping[str, Tensor]) -> Experience:
        """T steps of B environments with the current policy.

        Args:
            batch: ``seeds`` int64 (B,): where the environments start, used when none are under way.

        Raises:
            RslitError: A reward is not finite, or B x T does not divide into the minibatches.
        """
        began = time.perf_counter()
        self._add_pending()  # a checkpoint between two rollouts is saved just before they are added
        if self._episodes is None:
            self._start_seeds = batch["seeds"].clone()
            self._episodes = self._start(batch["seeds"])
        noise = generator(self.seed, "rollout", self.global_rank, self.rollouts_done, device=self.device)
        steps, observations, raws, logprobs = unroll(
            self.policy, self._episodes, self.unroll_length, noise, self.device
        )
        rewards = self._rewards(steps)
        final = torch.stack([s.final_observations for s in steps], 1).to(self.device)
        ended = torch.stack([s.terminated for s in steps], 1).to(self.device)
        cut = torch.stack([s.truncated for s in steps], 1).to(self.device)
        values, next_values = self._values(observations, final, ended | cut)
        advantages, returns = gae(rewards, values, next_values, ended, cut, self.gamma, self.gae_lambda)
        if self.gather_statistics:
            self._pending_statistics = observations.flatten(0, 1)
        self.rollouts_done += 1
        count = observations.shape[0] * self.unroll_length
        self._rollout_stats = {
            "objective/scores": float(rewards.mean() / self.reward_scaling),
            f"rewards/{self.reward.name}/mean": float(rewards.mean() / self.reward_scaling),
            f"rewards/{self.reward.name}/std": float(rewards.std() / self.reward_scaling),
            "time/rollout_steps_per_second": count / (time.perf_counter() - began),
        }
        rows = {
            "observations": observations,
            "raw_actions": raws,
            "logprobs": logprobs,
            "advantages": advantages,
            "returns": returns,
            "noise": torch.randn(raws.shape, generator=noise, device=self.device),
        }
        return TensorDict({k: v.flatten(0, 1) for k, v in rows.items()}, batch_size=[count], device=self.device)

    def _start(self, seeds: Tensor) -> Episodes:
        elapsed = None
        if self.staggered_starts:
            drawn = generator(self.seed, "elapsed", self.global_rank, self.rollouts_done)
            elapsed = torch.randint(self.env.episode_length, seeds.shape, generator=drawn)
        return self.env.episodes(seeds.to(self.device), elapsed=elapsed)

    def _rewards(self, steps: Sequence[Step]) -> Tensor:
        """The training reward of each step, float32 (B, T)."""
        terms = {k: torch.stack([s.terms[k] for s in steps], 1).flatten() for k in steps[0].terms}
        count = len(next(iter(terms.values()))) // len(steps)
        items = [f"environment {b}, step {t}" for b in range(count) for t in range(len(steps))]
        values = score(self.reward, Samples(items, terms), self.rollouts_done, complete=True)
        return values.view(count, len(steps)).to(self.device) * self.reward_scaling

    def _values(self, observations: Tensor, final: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
        """Values of all observations and of their true successors, float32 (B, T) each."""
        normalise = self.policy.normaliser
        values = self.value(normalise(observations))
        # The successor of a step is the next observation, but where an episode ended and at the rollout's end.
        own = over.clone()
        own[:, -1] = True
        next_values = torch.cat([values[:, 1:], values[:, :1]], 1)
        next_values[own] = self.value(normalise(final[own]))
        return values, next_values

    def training_step(self, minibatch: Experience, batch_idx: int) -> Tensor:
        """PPO's loss on shuffled transitions: clipped policy loss, value loss, entropy bonus."""
        observations = minibatch["observations"]
        location, scale = self.policy(observations)
        logprobs = tanh_normal.log_prob(minibatch["raw_actions"], location, scale)
        advantages = whiten(minibatch["advantages"])
        policy = clipped_policy_loss(logprobs, minibatch["logprobs"], advantages, self.clip)
        value = value_loss(self.value(self.policy.normaliser(observations)), minibatch["returns"])
        entropy = tanh_normal.entropy(location + scale * minibatch["noise"], location, scale).mean()
        stats: dict[str, Tensor | float] = {
            "policy/approxkl_avg": policy.approx_kl,
            "policy/clipfrac_avg": policy.clip_fraction,
            "policy/entropy_avg": entropy,
            "loss/policy_avg": policy.loss,
            "loss/value_avg": value,
            "val/ratio": policy.ratio_mean,
        }
        self.log_rollout({**stats, **self._rollout_stats}, batch_idx, bar=("objective/scores",))
        # Times 0, not left out: under DDP every weight needs a gradient. Adam leaves those alone whose gradient is 0.
        acting = float(self.rollouts_done > self.critic_warmup)
        return acting * (policy.loss - self.entropy_coefficient * entropy) + self.value_coefficient * value

    # -- evaluation -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, batch: Mapping[str, Tensor], seed: int) -> Samples:
        """One episode per seed; scores are sums over its steps. See :meth:`RewardedModule.evaluate`."""

        def policy(observations: Tensor) -> tuple[Tensor, Tensor]:
            location, scale = self.policy(observations[0])
            return location[None], scale[None]

        return self._play(batch["seeds"], 1, policy, seed)[0]

    @torch.no_grad()
    def evaluate_soups(self, batch: Mapping[str, Tensor], seed: int, soup: Soup, lams: Sequence[Lam]) -> list[Samples]:
        """All λ at once: M x B environments in one batch, the policies stacked."""
        if not self.batched_soups:
            return super().evaluate_soups(batch, seed, soup, lams)
        return self._play(batch["seeds"], len(lams), stacked(self.policy, soup, lams), seed)

    @torch.no_grad()
    def evaluate_ensembles(
        self, batch: Mapping[str, Tensor], seed: int, soup: Soup, lams: Sequence[Lam]
    ) -> list[Samples]:
        """The experts' outputs, from which location and scale of the actions come, are interpolated."""
        return self._play(batch["seeds"], len(lams), ensembled(self.policy, soup, lams), seed)

    def _play(
        self, seeds: Tensor, copies: int, policy: Callable[[Tensor], tuple[Tensor, Tensor]], seed: int
    ) -> list[Samples]:
        noise = generator(seed, "actions", device=self.device)

        def act(observations: Tensor) -> Tensor:
            location, scale = policy(observations)
            if not self.deterministic_evaluation:
                # The same noise for every policy of the stack.
                drawn = torch.randn(location.shape[1:], generator=noise, device=self.device)
                location = location + scale * drawn
            return tanh_normal.mode(location)

        return play(self.env, act, seeds, copies, self.evaluation_rewards, self.global_step, self.device)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def experience_state(self) -> dict[str, Any]:
        """The environments under way, where they have a state to save."""
        pending = None if self._pending_statistics is None else self._pending_statistics.cpu()
        if self._episodes is None or self._start_seeds is None or not self._episodes.resumable:
            return {"pending": pending, "stats": self._rollout_stats}
        under_way = {"seeds": self._start_seeds.cpu(), "episodes": self._episodes.state_dict()}
        return {"pending": pending, "stats": self._rollout_stats, **under_way}

    def load_experience_state(self, state: Mapping[str, Any]) -> None:
        """Starts the same environments and takes their state back."""
        self._rollout_stats = dict(state["stats"])
        pending = state["pending"]
        self._pending_statistics = None if pending is None else pending.to(self.device)
        if "seeds" not in state:
            return
        self._start_seeds = state["seeds"]
        try:
            self._episodes = self.env.episodes(state["seeds"].to(self.device))
            self._episodes.load_state_dict(state["episodes"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise RslitError(f"ckpt_path: the checkpoint's environments are not those of env: {error}") from error
