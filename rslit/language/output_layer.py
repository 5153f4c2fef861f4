"""Log-probabilities and entropies straight from hidden states, some tokens at a time.

A vocabulary is large: the logits of a batch of answers, their softmax and their gradient take more memory than all
else, and more time than a trunk of 135M parameters. Where the output layer is frozen, as under LoRA, none of them has
to be kept: the gradient with respect to the hidden states is known as soon as the probabilities are.

Notation: B rows, R answer tokens, D hidden size, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LogProbs", "bypassed", "frozen_output_layer"]

# Logits that are there at once: some that stay in a processor's cache, many for a GPU.
_ELEMENTS = {"cpu": 2**23, "cuda": 2**28}
_PLAIN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class LogProbs(torch.autograd.Function):
    """log softmax(h Wᵀ + b)[token] at a temperature, and the entropy of the softmax.

    The gradient d log p / d h = (W[token] - p W) / T is made in the forward pass from the p that is there, so that the
    backward pass is one product per token.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: nn.Linear,
        tokens: Tensor,
        temperature: float,
        suppressed: Tensor,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        """Computes both.

        Args:
            ctx: Of autograd.
            hidden: (B, R, D), what enters the output layer.
            head: The output layer, frozen.
            tokens: int64 (B, R).
            temperature: T, by which logits are divided.
            suppressed: int64, tokens that have no probability.
            entropy: Whether the entropy is wanted.

        Returns:
            Log-probabilities and entropies, float32 (B, R), nats; no entropies, of size 0, unless they are wanted.
        """
        flat, picked = hidden.reshape(-1, hidden.shape[-1]), tokens.reshape(-1)
        logprobs = torch.empty(len(picked), device=flat.device)
        spread = torch.empty(len(picked) if entropy else 0, device=flat.device)
        slope = torch.empty_like(flat) if ctx.needs_input_grad[0] else None
        size = max(1, _ELEMENTS.get(flat.device.type, 2**28) // head.weight.shape[0])
        for start in range(0, len(picked), size):
            part = slice(start, start + size)
            logits = F.linear(flat[part], head.weight, head.bias).float().div_(temperature)
            logits.index_fill_(1, suppressed, -torch.inf)
            logits.sub_(logits.logsumexp(-1, keepdim=True))
            logprobs[part] = logits.gather(1, picked[part, None])[:, 0]
            if slope is None and not entropy:
                continue
            chances = logits.exp()
            if entropy:
                # 0 log 0 is 0
                spread[part] = -(logits.clamp_(min=torch.finfo(torch.float32).min).mul_(chances)).sum(-1)
            if slope is not None:
                mean = chances.to(head.weight.dtype) @ head.weight
                slope[part] = (head.weight[picked[part]] - mean) / temperature
        ctx.save_for_backward(slope)
        spread = spread.view(tokens.shape) if entropy else spread
        ctx.mark_non_differentiable(spread)
        return logprobs.view(tokens.shape), spread

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with respect to the hidden states."""
        (slope,) = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, 1).to(slope.dtype) * slope
        return gradient.view(*gradients[0].shape, -1), None, None, None, None, None


@contextmanager
def bypassed(head: nn.Module) -> Iterator[None]:
    """Lets hidden states through an output layer as they are, for the length of a ``with`` block."""
    head.forward = _identity
    try:
        yield
    finally:
        del head.forward


def frozen_output_layer(model: Any, call: Callable[[], Tensor]) -> nn.Linear | None:
    """A causal language model's output layer, if logits are what it makes of hidden states and it takes no gradient.

    Args:
        model: The model.
        call: Calls it and returns the logits. Asked once for each model: scaled or capped logits (Cohere, Gemma 2) show
            when the layer is bypassed.
    """
    head = model.get_output_embeddings()
    # Adapted, quantised and sharded layers are of other types; hooks (accelerate) replace `forward`.
    if type(head) is not nn.Linear or type(head.weight) is not nn.Parameter or "forward" in vars(head):
        return None
    if any(p.requires_grad for p in head.parameters()):
        return None
    if head not in _PLAIN:
        entered: list[Tensor] = []
        handle = head.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
        try:
            with torch.no_grad(), bypassed(head):
                left = call()
        finally:
            handle.remove()
        _PLAIN[head] = len(entered) == 1 and torch.equal(left, entered[0].to(left.dtype))
    return head if _PLAIN[head] else None


def _identity(hidden: Tensor) -> Tensor:
    return hidden
