"""Ensembles of vision-language policies: predictions are interpolated instead of weights (paper, Figure 4(c)).

Each expert may look at the image in its own way, so the ensemble has a decoder of each. It keeps no keys and values:
beams are told apart by their tokens alone, and each step passes the whole answer through every expert.

Notation: N images with their texts, K beams, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from rslit.language.padding import positions
from rslit.vision.families.base import Decoder

__all__ = ["Ensemble", "Members"]


Members = Sequence[tuple[float, Callable[[], AbstractContextManager[Any]]]]
"""Of each expert λ, and what puts its weights into the policy when it is entered."""


class Ensemble(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """Predicts tokens with log-probabilities Σ_n λ_n log p_n, up to the constant that makes them a distribution.

    To `rslit.language.generate` it is a causal language model.

    Args:
        policy: The model whose weights the members change in turn.
        members: The experts.
        decoder: Makes a decoder with the weights that are in the policy, each row K times.
    """

    main_input_name = "input_ids"

    def __init__(self, policy: nn.Module, members: Members, decoder: Callable[[], Decoder]) -> None:
        super().__init__(PretrainedConfig())
        self.policy = policy
        self.members: list[tuple[float, Callable[[], AbstractContextManager[Any]], Decoder]] = []
        for weight, acting in members:
            if weight:
                with acting():
                    self.members.append((weight, acting, decoder()))

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        """All tokens, at every step; transformers leaves masks away that are all ones."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return {"input_ids": input_ids, "attention_mask": mask}

    def generate(self, *args: Any, **settings: Any) -> Any:
        """Transformers' ``generate`` without a cache."""
        settings["generation_config"].use_cache = False
        return GenerationMixin.generate(self, *args, **settings)  # type: ignore[arg-type]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> CausalLMOutput:
        """Logits (N K, 1, V) of the next token."""
        places = positions(attention_mask)
        mixed: Any = 0
        for weight, acting, decoder in self.members:
            with acting():
                out = decoder(input_ids, attention_mask, places, logits_to_keep=1, use_cache=False)
            mixed = mixed + weight * torch.log_softmax(out.logits[:, -1:].float(), -1)
        return CausalLMOutput(logits=mixed)
