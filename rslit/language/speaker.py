"""A policy's tokens in and out: what sampling and scoring have to agree on is said once, here.

Notation: B rows, P prompt tokens, R answer tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rslit.language.generation import Answers, generate
from rslit.language.load import LanguagePolicy
from rslit.language.padding import Prompts, left_pad
from rslit.language.scoring import Scored, score_answers

__all__ = ["Speaker"]


class Speaker:
    """Samples and scores answers with one temperature and one set of suppressed tokens.

    Args:
        parts: The policy and its tokens.
        temperature: Logits are divided by it.
    """

    def __init__(self, parts: LanguagePolicy, temperature: float) -> None:
        self.pad_id = parts.pad_id
        self.temperature = temperature
        self.eos_ids = parts.eos_ids
        # A sampled placeholder would be taken for padding by whoever reads the tokens.
        self.suppressed = () if parts.pad_id in parts.eos_ids else (parts.pad_id,)

    def prompts(self, tokens: Sequence[Sequence[int]], device: torch.device) -> Prompts:
        """A batch of prompts, padded on the left."""
        return left_pad(tokens, self.pad_id, device)

    def answer(
        self,
        model: nn.Module,
        prompts: Prompts,
        lengths: Tensor,
        noise: torch.Generator | None = None,
        copies: int = 1,
        num_beams: int = 1,
        stop_at_eos: bool = True,
        group: int = 1,
        heard: Callable[[Tensor], None] | None = None,
    ) -> Answers:
        """Generates an answer per row, ended by an end token or not; see :func:`rslit.language.generate`."""
        return generate(
            model,
            prompts,
            lengths,
            pad_id=self.pad_id,
            eos_ids=self.eos_ids if stop_at_eos else (),
            suppressed=self.suppressed,
            temperature=self.temperature,
            noise=noise,
            copies=copies,
            group=group,
            num_beams=num_beams,
            heard=heard,
        )

    def answer_in_parts(
        self,
        model: nn.Module,
        prompts: Prompts,
        lengths: Tensor,
        size: int,
        noise: torch.Generator,
        stop_at_eos: bool,
        group: int = 1,
    ) -> Answers:
        """The same, `size` rows at a time: the keys and values of all of them may not fit."""
        group = group if size % group == 0 else 1  # a part holds whole groups
        parts = [
            self.answer(model, Prompts(*some), rows, noise, stop_at_eos=stop_at_eos, group=group)
            for *some, rows in zip(*(torch.split(column, size) for column in (*prompts, lengths)), strict=True)
        ]
        width = max(part.tokens.shape[1] for part in parts)

        def wide(x: Tensor, fill: int) -> Tensor:
            return torch.nn.functional.pad(x, (0, width - x.shape[1]), value=fill)

        return Answers(
            torch.cat([wide(part.tokens, self.pad_id) for part in parts]),
            torch.cat([wide(part.mask, False) for part in parts]),
            torch.cat([part.finished for part in parts]),
        )

    def score(
        self,
        model: nn.Module,
        rows: Mapping[str, Tensor],
        value_head: nn.Module | None = None,
        entropy: bool = False,
    ) -> Scored:
        """Scores answers in one pass.

        Args:
            model: The policy.
            rows: ``prompts``, ``prompt_mask`` (B, P), ``tokens``, ``mask`` (B, R).
            value_head: See :func:`rslit.language.score_answers`.
            entropy: See there.
        """
        return score_answers(
            model,
            Prompts(rows["prompts"], rows["prompt_mask"]),
            rows["tokens"],
            rows["mask"],
            temperature=self.temperature,
            suppressed=self.suppressed,
            value_head=value_head,
            entropy=entropy,
        )

    def score_in_parts(
        self,
        model: nn.Module,
        rows: Mapping[str, Tensor],
        size: int,
        value_head: nn.Module | None = None,
        entropy: bool = False,
    ) -> Scored:
        """The same, `size` rows at a time: the activations of all of them may not fit.

        Rows of like length go together, so that little padding is computed.
        """
        order = rows["prompt_mask"].sum(1).argsort(stable=True)
        parts = [
            self.score(model, {k: v[part] for k, v in rows.items()}, value_head, entropy)
            for part in torch.split(order, size)
        ]
        back = order.argsort()
        return Scored(
            torch.cat([p.logprobs for p in parts])[back],
            torch.cat([p.values for p in parts if p.values is not None])[back] if value_head is not None else None,
            torch.cat([p.entropy for p in parts if p.entropy is not None])[back] if entropy else None,
        )
