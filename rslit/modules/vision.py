"""What captioning, VQA and visual grounding share: answers about images, REINFORCE and cross-entropy."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from tensordict import TensorDict
from torch import Tensor

from rslit.errors import RslitError
from rslit.language import Answers
from rslit.modules.experts_in_turn import Turn, experts_in_turn
from rslit.modules.pretrained import PretrainedModule
from rslit.modules.vision_numbers import baseline_advantages, rollout_numbers
from rslit.objectives import reinforce_loss
from rslit.rewards import Reward, score, score_terms
from rslit.rollouts import Experience
from rslit.samples import Samples
from rslit.seeds import generator
from rslit.soup import Lam, Soup
from rslit.vision.answers import AnswerDecoding, AnswerSampling
from rslit.vision.features import FeatureCache
from rslit.vision.options import VisionOptions
from rslit.vision.policy import VisionPolicy, build_vision_policy

__all__ = ["VisionModule"]

_BAR = ("objective/scores", "loss/cross_entropy")


class VisionModule(PretrainedModule):
    """A model that answers about images, trained by REINFORCE, by cross-entropy, or by both.

    The loss is ``cross_entropy`` times the mean negative log-likelihood of the targets plus ``reinforce`` times the
    REINFORCE loss of sampled answers. Both sum over the tokens of a target or an answer and average over those. With
    ``reinforce: 0`` nothing is sampled: supervised training.

    An experience has a row per image: what the model is given (``pixel_values`` or, with a frozen image encoder,
    ``image_features``; ``input_ids``, ``attention_mask``), for REINFORCE ``tokens``, ``mask`` (G, R) and ``advantages``
    (G,) of G answers, for cross-entropy ``target`` and ``target_mask`` (T,).

    Attributes:
        asks: Column of the batch with what the policy is asked about each image; None: it is asked nothing.
        parts: The policy and what belongs to it.
        latest: The answers of the last rollout, with the training rewards as scores.
    """

    asks: ClassVar[str | None] = None
    parts: VisionPolicy
    evaluation: AnswerDecoding

    def __init__(
        self,
        policy: VisionOptions,
        reward: Reward,
        evaluation_rewards: list[Reward] | None = None,
        initialisation: str | None = None,
        sampling: AnswerSampling | None = None,
        evaluation: AnswerDecoding | None = None,
        reinforce: float = 1.0,
        cross_entropy: float = 0.0,
        max_target_tokens: int = 64,
        prompt: str | None = None,
        minibatches: int = 1,
        feature_cache_gib: float = 2.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        """Loads the policy.

        Args:
            policy: Model, tokenizer, image processor, and what of it is trained.
            reward: Reward of an answer.
            evaluation_rewards: Rewards of an answer that evaluations report.
            initialisation: Ingredient folder to start from.
            sampling: How answers are sampled in training.
            evaluation: How they are decoded in evaluation.
            reinforce: Weight of the REINFORCE loss.
            cross_entropy: Weight of the cross-entropy on the data's targets.
            max_target_tokens: Longer targets are cut off, and then have no end token.
            prompt: What the policy is asked, with {} for the question or expression, such as ``which region does " {} "
                describe?``; default just that. For captioning, which has neither, a text such as ``What does the image
                describe?``; default none.
            minibatches: Optimiser steps per rollout; must divide the number of images.
            feature_cache_gib: Memory for what a frozen image encoder makes of images, GiB; 0 keeps nothing.
            optimizer: Optimiser over what is trained.
            lr_scheduler: Scheduler, stepped once per Lightning epoch.

        Raises:
            RslitError: Both weights are 0, or one is negative; or the prompt does not fit.
        """
        super().__init__(reward, evaluation_rewards, initialisation, 1, minibatches, optimizer, lr_scheduler)
        if min(reinforce, cross_entropy) < 0 or reinforce == cross_entropy == 0:
            raise RslitError(
                "reinforce and cross_entropy must be 0 or above, and one of them above: nothing would train"
            )
        self.sampling, self.evaluation = sampling or AnswerSampling(), evaluation or AnswerDecoding()
        self.reinforce, self.cross_entropy = reinforce, cross_entropy
        if prompt is not None and ("{}" in prompt) != (self.asks is not None):
            fault = f"has no {{}} where the {self.asks} goes; add it" if self.asks else "has {}, but nothing goes there"
            raise RslitError(f"prompt: '{prompt}' {fault}")
        self.prompt, self.max_target_tokens = prompt, max_target_tokens
        self.parts = build_vision_policy(policy)
        self.policy = self.parts.model
        self.load_initialisation()
        self.cache = FeatureCache(self.parts, feature_cache_gib)
        self.latest: Samples | None = None
        self._rollout_stats: dict[str, float] = {}

    # -- what a task says -----------------------------------------------------------------------------------------

    def texts(self, batch: Mapping[str, Sequence[Any]]) -> list[str] | None:
        """What the policy is asked about each image; None: nothing."""
        if self.asks is None:
            return None if self.prompt is None else [self.prompt] * len(batch["items"])
        prompt = "{}" if self.prompt is None else self.prompt
        return [prompt.replace("{}", text) for text in batch[self.asks]]

    @abstractmethod
    def samples(self, batch: Mapping[str, Sequence[Any]], answers: Answers, group: int) -> Samples:
        """Answers as the samples that rewards look at.

        Args:
            batch: A batch of the task's datamodule, N rows.
            answers: N x `group` answers, those to one row side by side.
            group: Answers to each row.
        """

    @abstractmethod
    def targets(self, batch: Mapping[str, Sequence[Any]]) -> list[list[int]]:
        """Tokens of the data's answers, an end token included where the model ends its answers with one."""

    # -- training -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rollout(self, batch: Mapping[str, Sequence[Any]]) -> Experience:
        """Answers about a batch of images and scores the answers; with ``reinforce: 0`` only prepares it."""
        clock = [time.perf_counter()]
        rows: dict[str, Any] = self.cache.encode(batch, self.texts(batch), self.device)
        if self.cross_entropy > 0:
            rows |= self._padded([tokens[: self.max_target_tokens] for tokens in self.targets(batch)])
        self._rollout_stats = {}
        if self.reinforce > 0:
            rows |= self._acted(batch, rows, clock)
        self.rollouts_done += 1
        return TensorDict(rows, batch_size=[len(batch["items"])], device=self.device)

    def _acted(
        self, batch: Mapping[str, Sequence[Any]], rows: Mapping[str, Tensor], clock: list[float]
    ) -> dict[str, Tensor]:
        options, count = self.sampling, len(batch["items"])
        noise = generator(self.seed, "rollout", self.global_rank, self.rollouts_done, device=self.device)
        answers = self._answers(rows, options.samples, options.max_new_tokens, noise)
        plain = self._answers(rows, 1, options.max_new_tokens, None) if options.baseline == "greedy" else None
        clock.append(time.perf_counter())
        samples = self.samples(batch, answers, options.samples)
        scores, samples.scores = score_terms(self.reward, samples, self.rollouts_done)
        greedy = None
        if plain is not None:
            greedy = score(self.reward, self.samples(batch, plain, 1), self.rollouts_done).to(self.device)
        clock.append(time.perf_counter())
        scores = scores.to(self.device).view(count, options.samples)
        self._rollout_stats = rollout_numbers(samples, scores, answers, clock)
        self.latest = samples
        return {
            "tokens": answers.tokens.view(count, options.samples, -1),
            "mask": answers.mask.view(count, options.samples, -1),
            "advantages": baseline_advantages(options.baseline, scores, greedy),
        }

    def _answers(self, rows: Mapping[str, Tensor], group: int, length: int, noise: torch.Generator | None) -> Answers:
        count = group * len(next(iter(rows.values())))
        lengths = torch.full((count,), length, device=self.device)
        options = self.sampling
        how: dict[str, Any] = {"stop_at_eos": options.stop_at_eos, "temperature": options.temperature}
        return self.parts.sample(rows, lengths, noise, group=group, **how)

    def training_step(self, minibatch: Experience, batch_idx: int) -> Tensor:
        """REINFORCE and cross-entropy of a minibatch of images."""
        losses = []
        stats: dict[str, Tensor | float] = dict(self._rollout_stats)
        if self.reinforce > 0:
            tokens, mask = minibatch["tokens"].flatten(0, 1), minibatch["mask"].flatten(0, 1)
            group = minibatch["tokens"].shape[1]
            scored = self.parts.score(minibatch, tokens, mask, group, self.sampling.temperature)
            policy = reinforce_loss(scored.logprobs, minibatch["advantages"].flatten(), mask)
            stats["loss/policy"] = policy
            losses.append(self.reinforce * policy)
        if self.cross_entropy > 0:
            mask = minibatch["target_mask"]
            surprise = -self.parts.score(minibatch, minibatch["target"], mask).logprobs.sum()  # 0 behind the ends
            stats["loss/cross_entropy"] = surprise / mask.sum()  # a token's, nats
            losses.append(self.cross_entropy * surprise / len(mask))
        self.log_rollout(stats, batch_idx, bar=tuple(k for k in _BAR if k in stats))
        return torch.stack(losses).sum()

    def _padded(self, targets: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        width = max(map(len, targets))
        ids = torch.full((len(targets), width), self.parts.pad_id, dtype=torch.int64)
        mask = torch.zeros(len(targets), width, dtype=torch.bool)
        for row, tokens in enumerate(targets):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        return {"target": ids, "target_mask": mask}

    # -- evaluation -----------------------------------------------------------------------------------------------

    def answer(
        self,
        batch: Mapping[str, Sequence[Any]],
        seed: int,
        copies: int,
        ensemble: Sequence[tuple[float, Turn]] | None = None,
    ) -> list[Samples]:
        """See :meth:`PretrainedModule.answer`; `ensemble`: λ and turns of experts that answer instead of the policy."""
        options, count = self.evaluation, len(batch["items"])
        rows = self.cache.encode(batch, self.texts(batch), self.device)
        rows = {name: torch.cat([value] * copies) for name, value in rows.items()}
        lengths = torch.full((copies * count,), options.max_new_tokens, device=self.device)
        noise = generator(seed, "answers", device=self.device) if options.sample else None
        how: dict[str, Any] = {"num_beams": options.num_beams, "ensemble": ensemble}
        answers = self.parts.sample(rows, lengths, noise, copies=copies, **how)
        parts = zip(*(torch.split(column, count) for column in answers), strict=True)
        return [self.samples(batch, Answers(*part), 1) for part in parts]

    @torch.no_grad()
    def evaluate_ensembles(
        self, batch: Mapping[str, Sequence[Any]], seed: int, soup: Soup, lams: Sequence[Lam]
    ) -> list[Samples]:
        """λ one by one, at every step all experts from the beginning of the answer; see `rslit.vision.ensembles`."""
        samples: list[Samples] = []
        with experts_in_turn(self.policy, soup, self.device) as turns:
            for lam in lams:
                members = list(zip(map(float, soup.coefficients(lam).values()), turns, strict=True))
                samples += self._scored(self.answer(batch, seed, 1, members))
        return samples

    def repeated(
        self, batch: Mapping[str, Sequence[Any]], group: int, names: Sequence[str], **answered: Sequence[Any]
    ) -> Samples:
        """Samples of answers side by side with what the batch says about each.

        Args:
            batch: A batch of the task's datamodule.
            group: Answers to each row.
            names: Columns of the batch that rewards look at.
            answered: Columns of the answers.
        """
        rows = [row for row in range(len(batch["items"])) for _ in range(group)]
        fields: dict[str, Any] = {name: [batch[name][row] for row in rows] for name in names}
        return Samples([batch["items"][row] for row in rows], {**fields, **answered})

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def experience_state(self) -> dict[str, Any]:
        """What is logged of the rollout under way."""
        return {"stats": self._rollout_stats}

    def load_experience_state(self, state: Mapping[str, Any]) -> None:
        """Takes it back."""
        self._rollout_stats = dict(state["stats"])
