"""Adam's second moments, a stand-in for an expert's Fisher diagonal that costs nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from rslit.distributed import full_tensor
from rslit.errors import RslitError
from rslit.modules.rewarded import RewardedModule

__all__ = ["check_optimizer", "second_moments"]


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimiser that keeps no second moments.

    Raises:
        RslitError: It is neither Adam nor AdamW.
    """
    if not isinstance(optimizer, Adam | AdamW):
        raise RslitError(
            f"SoupCallback.fisher: {type(optimizer).__name__} keeps no second moments; train with Adam or AdamW"
        )


def second_moments(module: RewardedModule, optimizer: Optimizer) -> dict[str, Tensor]:
    """The running means of squared gradients that Adam keeps, for every trainable weight of the policy.

    They are of the training loss's gradients, averaged over a minibatch and clipped as in training, where the Fisher
    information is of single samples' log-probabilities: an approximation, whose fit to RL losses nobody has measured
    here. The bias towards 0 of the first steps is taken off (Kingma & Ba 2015, section 3). A collective under sharding.

    Returns:
        Float32 tensors on the CPU by key; 0 for a weight that never had a gradient.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in module.policy.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state.get(parameter, {})
        if not state:
            found[name] = torch.zeros(parameter.shape)
            continue
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        unbiased = 1 - group["betas"][1] ** float(state["step"])
        found[name] = full_tensor(state["exp_avg_sq"]).to("cpu", torch.float32, copy=True) / unbiased
    return found
