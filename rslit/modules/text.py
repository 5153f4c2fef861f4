"""Text-to-text: PPO, RLOO and REINFORCE for causal language models with LoRA (paper, section 3.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from rslit.distributed import mean_over_ranks, world_size
from rslit.language import (
    EvaluationOptions,
    KLOptions,
    LanguagePolicy,
    PolicyOptions,
    Reference,
    SamplingOptions,
    Speaker,
    build_policy,
    gather,
    scatter,
    shard,
    value_head,
)
from rslit.language.ensembles import ensembled
from rslit.modules.pretrained import PretrainedModule
from rslit.modules.text_checks import (
    check_base,
    check_ensembles,
    check_options,
    check_precision,
    warn_negative_kl,
    warn_ratio,
    warn_unmoved,
)
from rslit.modules.text_experience import (
    Advantages,
    Algorithm,
    kl_controller,
    mean_entropy,
    no_loss,
    rollout_numbers,
    timings,
)
from rslit.modules.text_loss import TextLoss
from rslit.modules.text_samples import evaluation_samples, text_samples, training_answers
from rslit.objectives import kl_estimate, sequence_kl
from rslit.rewards import Reward, score_terms
from rslit.rollouts import Experience
from rslit.samples import Samples
from rslit.seeds import generator
from rslit.soup import Lam, LoraStack, Soup

__all__ = ["TextModule"]

_BAR = ("objective/scores", "objective/kl")


class TextModule(PretrainedModule):
    """Reinforcement learning of a causal language model on rewards of whole answers.

    An experience has a row per answer with the fields ``prompts``, ``prompt_mask`` (P,), ``tokens``, ``mask``,
    ``advantages`` (R,), with a KL penalty ``ref_logprobs``, for PPO ``values`` and ``returns``, and ``logprobs`` unless
    a rollout has but one update and nothing else asks for them. Samples are those of
    :func:`rslit.modules.text_samples.text_samples`.

    Attributes:
        tokenizer: The policy's tokenizer.
        context_length: Tokens that prompt and answer may have together; None if the model does not say.
        max_new_tokens: Longest answer, in training or evaluation.
        latest: The answers of the last rollout, with the training rewards as scores.
    """

    task = "text"
    parts: LanguagePolicy
    evaluation: EvaluationOptions

    def __init__(
        self,
        policy: PolicyOptions,
        reward: Reward,
        evaluation_rewards: list[Reward] | None = None,
        initialisation: str | None = None,
        algorithm: Algorithm = "ppo",
        sampling: SamplingOptions | None = None,
        evaluation: EvaluationOptions | None = None,
        kl: KLOptions | None = None,
        epochs: int = 4,
        minibatches: int = 1,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        value_clip: float | None = 0.2,
        value_coefficient: float = 0.1,
        whiten_rewards: bool = False,
        whiten_advantages: bool = True,
        target_kl: float | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Loads the policy.

        Args:
            policy: Base, tokenizer and adapter.
            reward: Reward of an answer.
            evaluation_rewards: Rewards of an answer that evaluations report.
            initialisation: Ingredient folder to continue from; it then is the reference too.
            algorithm: ``ppo`` has a value head and an advantage per token; ``rloo`` compares an answer with the other
                answers to its prompt, ``reinforce`` with the mean of the rollout. The loss is PPO's clipped one for
                all; at the first pass its gradient is REINFORCE's.
            sampling: How answers are sampled in training.
            evaluation: How they are decoded in evaluation.
            kl: The penalty on the distance to the reference.
            epochs: Passes over each rollout.
            minibatches: Minibatches per pass; must divide the number of answers.
            gamma: Discount per token (PPO).
            gae_lambda: λ of the generalised advantage estimate (PPO).
            clip: Clip range of the probability ratio.
            value_clip: Largest change of a value that is trusted (PPO); None does not clip.
            value_coefficient: Weight of the value loss (PPO).
            whiten_rewards: Scale the token rewards of a rollout to variance 1 (PPO).
            whiten_advantages: Scale and shift the advantages of a rollout to variance 1 and mean 0.
            target_kl: Leave out the rest of a rollout's updates once a minibatch has moved by more than 1.5 times
                this, nats per token, over all ranks. None never does.
            optimizer: Optimiser over adapter and value head.
            lr_scheduler: Scheduler, stepped once per Lightning epoch.
        """
        super().__init__(reward, evaluation_rewards, initialisation, epochs, minibatches, optimizer, lr_scheduler)
        self.sampling, self.evaluation = sampling or SamplingOptions(), evaluation or EvaluationOptions()
        self.kl = kl or KLOptions()
        check_options(algorithm, self.sampling, self.kl)
        self.advantages = Advantages(
            algorithm, self.sampling.samples_per_prompt, gamma, gae_lambda, whiten_rewards, whiten_advantages
        )
        estimator = self.kl.estimator if self.kl.place == "loss" and self.kl.coefficient > 0 else None
        self.loss = TextLoss(clip, value_clip, value_coefficient, estimator)
        self.target_kl = target_kl
        self.parts = build_policy(policy)
        self.policy, self.tokenizer = self.parts.model, self.parts.tokenizer
        self.speaker = Speaker(self.parts, self.sampling.temperature)
        config: Any = self.policy.config
        text = config.get_text_config()
        # Beside the policy, not in it: a value head is never interpolated.
        self.value = value_head(self.policy) if algorithm == "ppo" else None
        self.context_length: int | None = getattr(text, "max_position_embeddings", None)
        self.max_new_tokens = max(self.sampling.max_new_tokens, self.evaluation.max_new_tokens)
        if initialisation is not None:
            check_base(initialisation, self.parts.base, self.parts.adapter)
        self.load_initialisation()
        self._reference = Reference(self.policy, self.parts.adapter) if self.kl.coefficient > 0 else None
        # The log-probabilities of the only update then are the old ones, too, and nothing else needs them before.
        self._updates_once = epochs * minibatches == 1 and self.value is None and self._reference is None
        self.controller = kl_controller(self.kl)
        self.latest: Samples | None = None
        self._stopped = False
        self._rollout_stats: dict[str, float] = {}

    # -- training -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rollout(self, batch: Mapping[str, Sequence[Any]]) -> Experience:
        """Answers a batch of prompts and scores the answers.

        Args:
            batch: A batch of :class:`rslit.datamodules.TextDataModule`.

        Raises:
            RslitError: A reward is not finite.
        """
        gather(self.policy)
        clock = [time.perf_counter()]
        stream = (self.global_rank, self.rollouts_done)
        picked, prompts, answers = training_answers(
            self.speaker, self.policy, batch, self.sampling, self.seed, stream, self.device
        )
        clock.append(time.perf_counter())
        samples = text_samples(self.tokenizer, batch, answers, picked)
        scores, samples.scores = score_terms(self.reward, samples, self.rollouts_done)
        scores = scores.to(self.device)
        if self.sampling.missing_eos_penalty is not None:
            scores = scores - self.sampling.missing_eos_penalty * (~answers.finished).float()
        clock.append(time.perf_counter())
        mask, size = answers.mask, -(-len(picked) // self.minibatches)
        rows = {"prompts": prompts.ids, "prompt_mask": prompts.mask, "tokens": answers.tokens, "mask": mask}
        new: dict[str, Tensor] = {}
        entropy = distance = kl = None
        if not self._updates_once:
            own = self.speaker.score_in_parts(self.policy, rows, size, self.value, entropy=True)
            new["logprobs"], entropy = own.logprobs, own.entropy
            if own.values is not None:
                new["values"] = own.values
        clock.append(time.perf_counter())
        if self._reference is not None:
            with self._reference.active(self.policy) as reference:
                new["ref_logprobs"] = self.speaker.score_in_parts(reference, rows, size).logprobs
            distance = sequence_kl(new["logprobs"] - new["ref_logprobs"], mask)
            if self.kl.place == "reward":
                kl = kl_estimate(self.kl.estimator, new["logprobs"], new["ref_logprobs"])
        coefficient = self.controller.coefficient
        new |= self.advantages(scores, kl, coefficient, mask, new.get("values"))
        self._stopped = False
        self.rollouts_done += 1
        clock.append(time.perf_counter())
        paid = None if kl is None else -coefficient * sequence_kl(kl, mask)
        numbers = rollout_numbers(samples, scores, distance, paid, entropy, mask)
        if distance is not None:
            warn_negative_kl(distance, self.rollouts_done)
            self.controller.update(numbers["objective/kl"], len(picked) * world_size())
        self._rollout_stats = {**numbers, "objective/kl_coefficient": coefficient, **timings(clock, int(mask.sum()))}
        self.latest = samples
        scatter(self.policy)
        everything: dict[str, Any] = {**rows, **new}
        return TensorDict(everything, batch_size=[len(picked)], device=self.device)

    def training_step(self, minibatch: Experience, batch_idx: int) -> Tensor:
        """Clipped policy loss, value loss and, where asked for, the KL loss of a minibatch of answers."""
        mask = minibatch["mask"]
        if self._stopped:
            self.log_rollout({} if self._stats else self._rollout_stats, batch_idx, bar=_BAR)  # none: resumed here
            return no_loss(self)
        scored = self.speaker.score(self.policy, minibatch, self.value, entropy=self._updates_once)
        loss, policy, stats = self.loss(scored, minibatch, self.controller.coefficient)
        if scored.entropy is not None:
            self._rollout_stats["objective/entropy"] = mean_entropy(scored.entropy, mask)
        if batch_idx % (self.epochs * self.minibatches) == 0:
            self._rollout_stats["val/ratio_first"] = float(policy.ratio_mean)
            warn_ratio(float(policy.ratio_mean), self.rollouts_done, self.policy)
        if self.target_kl is not None:
            self._stopped = float(mean_over_ranks(policy.approx_kl)) > 1.5 * self.target_kl
        self.log_rollout({**stats, **self._rollout_stats}, batch_idx, bar=_BAR)
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Leaves the weights alone once the target KL is passed: without gradients an optimiser does nothing."""
        if self._stopped:
            optimizer.zero_grad(set_to_none=True)

    def parallelize(self, mesh: Any) -> None:
        """Shards the policy block by block. See :meth:`RewardedModule.parallelize`."""
        shard(self.policy, mesh)
        if self.value is not None:
            shard(self.value, mesh)

    def on_fit_start(self) -> None:
        """Also brings the reference to the policy's device."""
        check_precision(str(self.trainer.precision))
        super().on_fit_start()
        if self._reference is not None:
            self._reference.to(self.device)

    def on_fit_end(self) -> None:
        """Says so if the training changed nothing."""
        warn_unmoved(self.policy_state(), self.fingerprint)

    # -- evaluation -----------------------------------------------------------------------------------------------

    def answer(self, batch: Mapping[str, Sequence[Any]], seed: int, copies: int) -> list[Samples]:
        """See :meth:`PretrainedModule.answer`."""
        gather(self.policy)
        noise = generator(seed, "answers", device=self.device) if self.evaluation.sample else None
        return evaluation_samples(
            self.speaker, self.policy, self.tokenizer, batch, self.evaluation, noise, copies, self.device
        )

    @torch.no_grad()
    def evaluate_ensembles(
        self, batch: Mapping[str, Sequence[Any]], seed: int, soup: Soup, lams: Sequence[Lam]
    ) -> list[Samples]:
        """At every step log-probabilities are interpolated and one token is chosen; see `check_ensembles`."""
        check_ensembles(soup, self.evaluation.num_beams)
        stack = LoraStack(soup.states, soup.adapters, soup.space, device=self.device)
        vertices = stack.coefficients([{name: float(name == own) for name in soup.names} for own in soup.names])
        rows = len(batch["items"])
        together = max(1, self.evaluation.rows // (rows * len(soup.names)))
        samples: list[Samples] = []
        for start in range(0, len(lams), together):
            some = stack.coefficients(lams[start : start + together])
            members = vertices.repeat(len(some), 1).repeat_interleave(rows, 0)
            with stack.per_sample(self.policy, members), ensembled(self.policy, some):
                found = self.answer(batch, seed, len(members) // rows)
            samples += self._scored(found[:: len(soup.names)])
        return samples

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def experience_state(self) -> dict[str, Any]:
        """The KL controller and what was logged of the rollout under way."""
        return {"kl": self.controller.state_dict(), "stats": self._rollout_stats, "stopped": self._stopped}

    def load_experience_state(self, state: Mapping[str, Any]) -> None:
        """Takes them back."""
        self.controller.load_state_dict(state["kl"])
        self._rollout_stats = dict(state["stats"])
        self._stopped = bool(state["stopped"])
