"""How many soups of a locomotion policy act at once: their weights stacked, or their experts' outputs interpolated.

Notation: M values of λ, N experts, B environments, O observation values, A action values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rslit.modules.networks import GaussianPolicy
from rslit.soup import Lam, Soup, StackedSoup

__all__ = ["ensembled", "stacked"]

Acting = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From observations (M, B, O) to location and scale of the actions, (M, B, A) each."""


def stacked(policy: GaussianPolicy, soup: Soup, lams: Sequence[Lam]) -> Acting:
    """Every λ's own weights."""
    stack = StackedSoup(soup, lams, prefix="net.")
    _take_statistics(policy, soup)

    def act(observations: Tensor) -> tuple[Tensor, Tensor]:
        return policy.distribution(stack.forward(policy.net, policy.normaliser(observations)))

    return act


def ensembled(policy: GaussianPolicy, soup: Soup, lams: Sequence[Lam]) -> Acting:
    """The experts' outputs, from which location and scale of the actions come, interpolated by each λ."""
    vertices = [{name: float(name == own) for name in soup.names} for own in soup.names]
    experts = StackedSoup(soup, vertices, prefix="net.")
    weights = torch.tensor([[float(value) for value in soup.coefficients(lam).values()] for lam in lams])
    _take_statistics(policy, soup)

    def act(observations: Tensor) -> tuple[Tensor, Tensor]:
        every = policy.normaliser(observations).flatten(0, 1).expand(len(soup.names), -1, -1)
        outputs = experts.forward(policy.net, every).view(len(soup.names), *observations.shape[:2], -1)
        return policy.distribution(torch.einsum("mn,nmbo->mbo", weights.to(outputs), outputs))

    return act


def _take_statistics(policy: GaussianPolicy, soup: Soup) -> None:
    """Takes the experts' statistics of observations, not those of the policy that happens to be in the module."""
    buffers = {k: v for k, v in next(iter(soup.states.values())).items() if k not in soup.trainable_keys}
    policy.load_state_dict(buffers, strict=False)
