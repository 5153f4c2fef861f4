"""What modules share whose policy is a pre-trained model, with or without an adapter: sweeps and ingredients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rslit.modules.rewarded import RewardedModule
from rslit.rewards import score
from rslit.samples import Samples
from rslit.soup import Lam, LoraStack, Soup, adapter_files

__all__ = ["PretrainedModule"]


class _Parts(Protocol):
    """What is known of a policy's origin."""

    @property
    def base(self) -> dict[str, str]:
        """Name and fingerprint of the base."""

    @property
    def adapter(self) -> dict[str, Any] | None:
        """PEFT's adapter configuration; None without one."""


class _Decoding(Protocol):
    """How answers are decoded in evaluation."""

    rows: int


class PretrainedModule(RewardedModule):
    """A policy that answers, made of a base of Hugging Face.

    Attributes:
        parts: The policy's base and adapter.
        evaluation: How answers are decoded in evaluation; ``rows`` is how many side by side.
    """

    parts: _Parts
    evaluation: _Decoding

    @abstractmethod
    def answer(self, batch: Mapping[str, Sequence[Any]], seed: int, copies: int) -> list[Samples]:
        """Answers a batch as often as asked, all side by side, without scores.

        Args:
            batch: A batch of the task's datamodule.
            seed: Seed of the sampling noise, which all copies share.
            copies: Copies of the batch, one after the other, whose weights may differ.
        """

    @torch.no_grad()
    def evaluate(self, batch: Mapping[str, Sequence[Any]], seed: int) -> Samples:
        """One answer per row. See :meth:`RewardedModule.evaluate`."""
        return self._scored(self.answer(batch, seed, 1))[0]

    @torch.no_grad()
    def evaluate_soups(
        self, batch: Mapping[str, Sequence[Any]], seed: int, soup: Soup, lams: Sequence[Lam]
    ) -> list[Samples]:
        """LoRA experts: all λ in one batch, each answer with the λ of its row; no weight is merged. Others: poured."""
        if not soup.adapters:
            return super().evaluate_soups(batch, seed, soup, lams)
        stack = LoraStack(soup.states, soup.adapters, soup.space, device=self.device)
        rows = len(batch["items"])
        together = max(1, self.evaluation.rows // rows)
        samples: list[Samples] = []
        for start in range(0, len(lams), together):
            coefficients = stack.coefficients(lams[start : start + together]).repeat_interleave(rows, 0)
            with stack.per_sample(self.policy, coefficients):
                samples += self._scored(self.answer(batch, seed, len(coefficients) // rows))
        return samples

    def _scored(self, found: list[Samples]) -> list[Samples]:
        for samples in found:
            for reward in self.evaluation_rewards:
                samples.scores[reward.name] = score(reward, samples, self.global_step)
        return found

    def ingredient_record(self) -> dict[str, Any]:
        """Base and adapter, by which soups and exports know what the weights belong to."""
        record: dict[str, Any] = {"base": self.parts.base}
        return record if self.parts.adapter is None else {**record, "adapter": self.parts.adapter}

    def ingredient_files(self, state: Mapping[str, Tensor]) -> dict[str, bytes]:
        """A LoRA ingredient is a PEFT adapter folder too."""
        return {} if self.parts.adapter is None else adapter_files(state, self.parts.adapter)
