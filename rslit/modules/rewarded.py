"""The base of every task's module: a policy, its objective, its rewards, and how they meet Lightning."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from rslit.distributed import full_tensor, gather_states, own_state, sum_over_ranks
from rslit.errors import RslitError
from rslit.modules.initialisation import kept_keys, load_initialisation
from rslit.rewards import Reward, WeightedSum
from rslit.rollouts import Experience
from rslit.samples import Samples
from rslit.seeds import stream_seed
from rslit.soup import Lam, Soup, fingerprint, is_poured

__all__ = ["RewardedModule"]


class RewardedModule(LightningModule, ABC):
    """What all tasks share: evaluation, logging of rewards, checkpoints, the initialisation and its fingerprint.

    A task derives from it, builds ``self.policy`` in its ``__init__``, then calls :meth:`load_initialisation`, and
    writes :meth:`rollout`, :meth:`training_step` and :meth:`evaluate`. Optimisation is Lightning's automatic one.
    What the policy holds is what a soup interpolates; a value head or a frozen reference model stays outside of it.

    Attributes:
        task: Short name of the task, used in metric names.
        policy: The network that acts.
        rollouts_done: Rollouts since training began, kept in checkpoints.
        samples_done: Environment steps, answers, captions, boxes or images in this process's rollouts, kept too.
        fingerprint: Hash of the policy's weights that training started from; None before ``fit``.
        config: What the command line parsed, for the ingredient's record; empty when built by hand.
    """

    task: ClassVar[str]
    policy: nn.Module

    def __init__(
        self,
        reward: Reward,
        evaluation_rewards: list[Reward] | None = None,
        initialisation: str | None = None,
        epochs: int = 1,
        minibatches: int = 1,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Takes what every task needs.

        Args:
            reward: What the policy is trained on: an expert's reward, or a WeightedSum for MORL.
            evaluation_rewards: What it is evaluated on; by default the training reward (the terms of a WeightedSum).
            initialisation: Ingredient folder whose weights training starts from. None: fresh weights.
            epochs: Passes over each rollout's experience (K).
            minibatches: Minibatches per pass (M).
            optimizer: Optimiser over the trainable weights.
            lr_scheduler: Scheduler, stepped once per Lightning epoch.
        """
        super().__init__()
        self.reward = reward
        terms = reward.rewards if isinstance(reward, WeightedSum) else [reward]
        self.evaluation_rewards = list(evaluation_rewards or terms)
        names = [r.name for r in self.evaluation_rewards]
        if len(set(names)) != len(names):
            raise RslitError(f"evaluation_rewards: names must differ, got {', '.join(names)}")
        self.initialisation = initialisation
        self.epochs = epochs
        self.minibatches = minibatches
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.rollouts_done = self.samples_done = 0
        self.fingerprint: str | None = None
        self.config: dict[str, Any] = {}
        self.strict_loading = False  # frozen weights are not in checkpoints; on_load_checkpoint checks the rest
        self._totals: list[Tensor] = []
        self._stats: list[dict[str, Tensor]] = []
        self._sharded = False

    # -- what a task writes ---------------------------------------------------------------------------------------

    @abstractmethod
    def rollout(self, batch: Any) -> Experience:
        """Lets the policy act under ``no_grad``, scores what it did and computes advantages; counts `rollouts_done`."""

    @abstractmethod
    def training_step(self, minibatch: Experience, batch_idx: int) -> Tensor:
        """The loss of one minibatch of an experience."""

    @abstractmethod
    def evaluate(self, batch: Any, seed: int) -> Samples:
        """Acts on a batch and scores it with every evaluation reward.

        Args:
            batch: A batch of the evaluation loader.
            seed: Seed of the sampling noise. The same for every λ: common random numbers.

        Returns:
            Samples whose ``scores`` hold each evaluation reward, float32 (B,), NaN where it does not apply.
        """

    def evaluate_soups(self, batch: Any, seed: int, soup: Soup, lams: Sequence[Lam]) -> list[Samples]:
        """Evaluates the soup at every λ on the same batch and noise: poured one at a time, or as a task knows better.

        Args:
            batch: A batch of the evaluation loader.
            seed: Seed of the sampling noise, the same for every λ.
            soup: Experts of this policy, on the module's device.
            lams: The λ.

        Returns:
            What :meth:`evaluate` gives, per λ.
        """
        samples = []
        for lam in lams:
            with soup.at(lam, self.policy):
                samples.append(self.evaluate(batch, seed))
        return samples

    def evaluate_ensembles(self, batch: Any, seed: int, soup: Soup, lams: Sequence[Lam]) -> list[Samples]:
        """Evaluates ensembles: the experts' predictions are interpolated, which costs a forward pass of each.

        Args and result are those of :meth:`evaluate_soups`.

        Raises:
            RslitError: The task or the experts cannot.
        """
        raise RslitError(f"ensemble: {type(self).__name__} has no ensembles of predictions; take it out")

    def experience_state(self) -> dict[str, Any]:
        """Per-rank state of the sampler (simulators under way, controllers) for checkpoints: tensors and primitives."""
        return {}

    def load_experience_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`experience_state` gave."""

    # -- the policy's weights -------------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The run's seed, as ``seed_everything`` set it; 0 if nobody did."""
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))

    @property
    def task_class(self) -> str:
        """Import path of the task's class, which ingredients and checkpoints carry."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @property
    def trainable_keys(self) -> list[str]:
        """Names of the policy's weights that training changes, sorted."""
        return sorted(name for name, p in self.policy.named_parameters() if p.requires_grad)

    def policy_state(self) -> dict[str, Tensor]:
        """The policy's trainable weights and its buffers, whole and on the CPU. A collective under sharding."""
        state, keep = self.policy.state_dict(), kept_keys(self.policy)
        return {k: full_tensor(v).to("cpu", copy=True) for k, v in state.items() if k in keep}

    def load_initialisation(self) -> None:
        """Puts the initialisation's weights and buffers into the policy; to be called when the policy is built.

        Raises:
            RslitError: The ingredient is missing, broken, of another task, or of another shape.
        """
        if self.initialisation is not None:
            load_initialisation(self.policy, self.initialisation, self.task_class)

    def ingredient_record(self) -> dict[str, Any]:
        """What a task adds to the ``config`` of its ingredients."""
        return {}

    def ingredient_files(self, state: Mapping[str, Tensor]) -> dict[str, bytes]:
        """More files of an ingredient's folder by name, for the weights `state`, so that others can load it too."""
        return {}

    # -- Lightning ------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Shards policy and the rest under ``ModelParallelStrategy`` (FSDP2); nothing to do otherwise."""
        if self.device_mesh is not None and not self._sharded:
            self._sharded = True
            self.parallelize(self.device_mesh["data_parallel"])

    def parallelize(self, mesh: Any) -> None:
        """Shards each direct submodule as one FSDP2 unit; a task with large models shards their blocks as well."""
        from torch.distributed.fsdp import fully_shard

        for child in self.children():
            fully_shard(child, mesh=mesh)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser over what requires a gradient, and its scheduler if there is one."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.lr_scheduler(optimizer)}

    def on_fit_start(self) -> None:
        """Takes the fingerprint of what training starts from; a resumed run keeps the one in its checkpoint."""
        if self.fingerprint is None:
            self.fingerprint = fingerprint(self.policy_state())

    def log_rollout(self, stats: Mapping[str, Tensor | float], batch_idx: int, bar: tuple[str, ...] = ()) -> None:
        """Collects a minibatch's numbers and logs their means once per rollout.

        Args:
            stats: Scalars by metric name; none for a minibatch that was left out.
            batch_idx: Index of the minibatch within the Lightning epoch.
            bar: Metrics that the progress bar shows.
        """
        if stats:
            self._stats.append({k: torch.as_tensor(v).detach() for k, v in stats.items()})
        if (batch_idx + 1) % (self.epochs * self.minibatches):
            return
        means = {
            key: float(torch.stack([s[key] for s in self._stats]).cpu().double().mean()) for key in self._stats[-1]
        }
        self._stats.clear()
        # Straight to the loggers: Lightning would write a value that is logged once per rollout again at every step.
        for logger in self.loggers:
            logger.log_metrics(means, step=self.global_step)
        for key in bar:
            self.log(key, means[key], prog_bar=True, logger=False)

    def _evaluation_step(self, batch: Any, batch_idx: int) -> Samples:
        samples = self.evaluate(batch, stream_seed(self.seed, "evaluation", batch_idx))
        scores = torch.stack([samples.scores[r.name].double() for r in self.evaluation_rewards])
        self._totals.append(torch.stack([scores.nansum(1), (~scores.isnan()).double().sum(1)]))
        return samples

    def _log_evaluation(self, stage: str) -> None:
        none = torch.zeros(2, len(self.evaluation_rewards), dtype=torch.float64, device=self.device)
        total, count = sum_over_ranks(torch.stack([none, *self._totals]).sum(0))
        self._totals.clear()
        for k, reward in enumerate(self.evaluation_rewards):
            self.log(f"{stage}/{self.task}/{reward.name}", (total[k] / count[k]).float(), sync_dist=True)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Samples]:
        """Evaluates; the means are logged as ``val/<task>/<reward>``. Callbacks get the ``samples``."""
        return {"samples": self._evaluation_step(batch, batch_idx)}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Samples]:
        """Evaluates; the means are logged as ``test/<task>/<reward>``. Callbacks get the ``samples``."""
        return {"samples": self._evaluation_step(batch, batch_idx)}

    def predict_step(self, batch: Any, batch_idx: int) -> Samples:
        """Evaluates and returns the samples with their scores."""
        return self.evaluate(batch, stream_seed(self.seed, "evaluation", batch_idx))

    def on_validation_epoch_end(self) -> None:
        """Logs the means over all batches and ranks."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Logs the means over all batches and ranks."""
        self._log_evaluation("test")

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps trainable weights and buffers, and adds our own state (tensors and primitives)."""
        if is_poured(self.policy):
            raise RslitError("a checkpoint was asked for while a soup is poured into the policy: save outside of it")
        if "state_dict" in checkpoint:
            keep = kept_keys(self)
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in keep}
        checkpoint["rslit"] = {
            "task": self.task_class,
            "reward": self.reward.name,
            "fingerprint": self.fingerprint,
            "rollouts_done": self.rollouts_done,
            "samples_done": self.samples_done,
            "ranks": gather_states(self.experience_state()),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is one of this task and reward, and takes our own state back.

        Raises:
            RslitError: It is of another program, task, reward or policy, or of another number of processes.
        """
        own = checkpoint.get("rslit")
        if own is None:
            raise RslitError("ckpt_path: the checkpoint was not written by rslit")
        for key, mine in (("task", self.task_class), ("reward", self.reward.name)):
            if own[key] != mine:
                raise RslitError(f"ckpt_path: the checkpoint is of {key} '{own[key]}', this run of '{mine}'")
        if "state_dict" in checkpoint:
            differ = sorted(set(checkpoint["state_dict"]) ^ kept_keys(self))
            if differ:
                raise RslitError(f"ckpt_path: the checkpoint's weights are not this module's ({', '.join(differ[:3])})")
        self.fingerprint = own["fingerprint"]
        self.rollouts_done, self.samples_done = own["rollouts_done"], own.get("samples_done", 0)
        self.load_experience_state(own_state(own["ranks"], "sampler state"))
