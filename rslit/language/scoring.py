"""Log-probabilities and values of given answers, by one teacher-forced pass.

Old and new log-probabilities of PPO, and those of the reference, all come from here: what is computed alike has a
ratio of 1 while the weights are the same.

Notation: B rows, P prompt tokens, R answer tokens, D hidden size, V tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rslit.language.padding import Prompts, positions

__all__ = ["Scored", "score_answers", "value_head"]


class Scored(NamedTuple):
    """What a policy thinks of given answers; behind an answer's end the numbers mean nothing.

    Attributes:
        logprobs: float32 (B, R), nats, of each token given all before it.
        values: float32 (B, R), of the state each token was chosen in; None without a value head.
        entropy: float32 (B, R), nats, of the distribution each token was drawn from; None unless asked for.
    """

    logprobs: Tensor
    values: Tensor | None
    entropy: Tensor | None


def score_answers(
    model: nn.Module,
    prompts: Prompts,
    tokens: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    suppressed: Sequence[int] = (),
    value_head: nn.Module | None = None,
    entropy: bool = False,
) -> Scored:
    """Scores answers under a policy.

    Args:
        model: A causal language model of transformers.
        prompts: B rows, padded on the left.
        tokens: int64 (B, R), the answers, padded on the right.
        mask: bool (B, R), which of them count.
        temperature: Logits are divided by it, as when sampling.
        suppressed: Tokens that the sampler never generates: they have no probability here either.
        value_head: Maps the trunk's last hidden state (B, R, D) to (B, R, 1).
        entropy: Whether to compute the entropy too.
    """
    prompts = prompts.trimmed()
    # The last token of an answer is predicted, but nothing is predicted from it.
    ids = torch.cat([prompts.ids, tokens[:, :-1]], 1)
    own = torch.cat([prompts.mask, mask[:, :-1]], 1)
    kept = tokens.shape[1]
    hidden: list[Tensor] = []
    caller: Any = model
    head: nn.Module = caller.get_output_embeddings()
    # What enters the output layer is what the value head sees; asking for all hidden states would keep them all.
    handle = head.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    try:
        logits = caller(
            input_ids=ids,
            attention_mask=own.long(),
            use_cache=False,
            **_only_last(caller, kept),
            **_positions(caller, own),
        ).logits[:, -kept:]
    finally:
        handle.remove()
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    if suppressed:
        logits = logits.index_fill(-1, torch.tensor(list(suppressed), device=logits.device), -torch.inf)
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - normaliser
    # Padding may be a suppressed token: -inf there would make NaN of every difference.
    logprobs = logprobs.masked_fill(~mask, 0.0)
    values = None
    if value_head is not None:
        values = value_head(hidden[0][:, -kept:].float()).squeeze(-1).float()
    spread = None
    if entropy:
        with torch.no_grad():
            finite = logits.clamp(min=torch.finfo(torch.float32).min)
            spread = normaliser - (logits.softmax(-1) * finite).sum(-1)
    return Scored(logprobs, values, spread)


def value_head(policy: nn.Module) -> nn.Linear:
    """A value head on the trunk: linear, and 0 everywhere at first (PPO checklist of Huang et al., detail 11).

    As wide as what enters the output layer, which is not the hidden size in all models (OPT-350m).
    """
    model: Any = policy
    head = nn.Linear(model.get_output_embeddings().weight.shape[1], 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _unwrapped(model: Any) -> nn.Module:
    base: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(_unwrapped(model).forward).parameters


def _only_last(model: Any, kept: int) -> dict[str, Any]:
    """The vocabulary is large: most models can leave out the logits that nobody asks for."""
    return {"logits_to_keep": kept} if _takes(model, "logits_to_keep") else {}


def _positions(model: Any, mask: Tensor) -> dict[str, Any]:
    return {"position_ids": positions(mask)} if _takes(model, "position_ids") else {}
