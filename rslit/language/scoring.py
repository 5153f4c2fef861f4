"""Log-probabilities and values of given answers, teacher-forced.

Old and new log-probabilities of PPO, and those of the reference, all come from here: what is computed alike has a
ratio of 1 while the weights are the same.

Notation: B rows, P prompt tokens, R answer tokens, D hidden size, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rslit.language.output_layer import LogProbs, bypassed, frozen_output_layer
from rslit.language.padding import Prompts, positions
from rslit.language.shared_prompts import distinct, prompt_cache, shares_prompts, takes

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
        model: A causal language model of transformers, with the same weights for all rows that have the same prompt.
        prompts: B rows, padded on the left.
        tokens: int64 (B, R), the answers, padded on the right.
        mask: bool (B, R), which of them count.
        temperature: Logits are divided by it, as when sampling.
        suppressed: Tokens that the sampler never generates: they have no probability here either.
        value_head: Maps the trunk's last hidden state (B, R, D) to (B, R, 1).
        entropy: Whether to compute the entropy too.
    """
    prompts = prompts.trimmed()
    caller: Any = model
    head = frozen_output_layer(caller, lambda: _whole(caller, prompts, tokens, mask)[0])
    if head is not None:
        hidden = _hidden(caller, head, prompts, tokens, mask)
        never = torch.tensor(list(suppressed), dtype=torch.int64, device=hidden.device)
        logprobs, found = LogProbs.apply(hidden, head, tokens, temperature, never, entropy)  # type: ignore[no-untyped-call]
        spread = found if entropy else None
    else:
        logits, hidden = _whole(caller, prompts, tokens, mask)
        logprobs, spread = _from_logits(logits, tokens, temperature, suppressed, entropy)
    # Padding may be a suppressed token: -inf there would make NaN of every difference.
    logprobs = logprobs.masked_fill(~mask, 0.0)
    values = None if value_head is None else value_head(hidden.float()).squeeze(-1).float()
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


def _hidden(model: Any, head: nn.Module, prompts: Prompts, tokens: Tensor, mask: Tensor) -> Tensor:
    """What enters the output layer for each answer token, (B, R, D); each distinct prompt passes the trunk once."""
    with bypassed(head):
        few, own = distinct(prompts) if shares_prompts(model) else (prompts, None)
        if own is None or len(few.ids) == len(own):
            return _whole(model, prompts, tokens, mask)[0]
        cache, first = prompt_cache(model, few)
        if tokens.shape[1] == 1:
            return first[own]
        cache.batch_select_indices(own)  # gradients of a prompt's keys and values add up
        text = torch.cat([prompts.mask, mask[:, :-1]], 1)
        rest = model(
            input_ids=tokens[:, :-1],
            attention_mask=text.long(),
            position_ids=positions(text)[:, prompts.ids.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        ).logits
        return torch.cat([first[own], rest], 1)


def _whole(model: Any, prompts: Prompts, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the answer tokens and what enters the output layer for them, by a pass over all tokens of all rows."""
    # The last token of an answer is predicted, but nothing is predicted from it.
    ids = torch.cat([prompts.ids, tokens[:, :-1]], 1)
    own = torch.cat([prompts.mask, mask[:, :-1]], 1)
    kept = tokens.shape[1]
    hidden: list[Tensor] = []
    head: nn.Module = model.get_output_embeddings()
    # What enters the output layer is what the value head sees; asking for all hidden states would keep them all.
    handle = head.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    # The vocabulary is large: most models can leave out the logits that nobody asks for.
    last = {"logits_to_keep": kept} if takes(model, "logits_to_keep") else {}
    places = {"position_ids": positions(own)} if takes(model, "position_ids") else {}
    try:
        logits = model(input_ids=ids, attention_mask=own.long(), use_cache=False, **last, **places).logits
    finally:
        handle.remove()
    return logits[:, -kept:], hidden[0][:, -kept:]


def _from_logits(
    logits: Tensor, tokens: Tensor, temperature: float, suppressed: Sequence[int], entropy: bool
) -> tuple[Tensor, Tensor | None]:
    logits = logits.float() / temperature
    if suppressed:
        logits = logits.index_fill(-1, torch.tensor(list(suppressed), device=logits.device), -torch.inf)
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - normaliser
    if not entropy:
        return logprobs, None
    with torch.no_grad():
        finite = logits.clamp(min=torch.finfo(torch.float32).min)
        return logprobs, normaliser - (logits.softmax(-1) * finite).sum(-1)
