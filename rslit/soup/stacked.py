"""Many soups of a small policy at once: one matrix product makes them, one batched forward runs them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rslit.errors import RslitError
from rslit.soup.lam import Lam
from rslit.soup.soup import Soup

__all__ = ["StackedSoup"]

# Elementwise and without weights or state: they act on (M, B, ...) as on (B, ...).
_ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.SiLU, nn.GELU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Identity)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")

_Layers = list[tuple[nn.Module, dict[str, torch.Size]]]


class StackedSoup:
    """A soup at M values of λ, the weights stacked along a new first dimension.

    The weights are the product of Λ (M, N) with the experts' weights (N, P), in float64 and rounded once, so they agree
    with `Soup.state_dict` up to its rounding and no TF32 setting reaches them; vertices are the experts bit for bit. It
    holds M models in memory: meant for policies of up to a few hundred thousand weights. Larger ones are bound by
    memory bandwidth and gain nothing over `Soup.pour`.

    Args:
        soup: The soup.
        lams: M values of λ.
        prefix: Take the weights of one part of the policy only, such as `actor.`; it is cut off the keys.

    Attributes:
        lams: The M exact λ.
        params: Interpolated weights by key, (M, ...) each, in the experts' dtypes and on their devices.
        buffers: Frozen buffers by key, shared by all λ.

    Raises:
        RslitError: There is no λ, one does not fit the soup, its space is delta, or no key begins with the prefix.
    """

    def __init__(self, soup: Soup, lams: Sequence[Lam], *, prefix: str = "") -> None:
        if not lams:
            raise RslitError("a stacked soup needs at least one lam")
        soup.check_pourable()
        self.lams: list[dict[str, Fraction]] = [soup.coefficients(lam) for lam in lams]
        trainable = set(soup.trainable_keys)
        self.params: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        first = next(iter(soup.states.values()))
        for key, tensor in first.items():
            if key.startswith(prefix):
                name = key.removeprefix(prefix)
                if key in trainable:
                    self.params[name] = self._stack([state[key] for state in soup.states.values()])
                else:
                    self.buffers[name] = tensor
        if not self.params:
            raise RslitError(f"no weight of the soup begins with '{prefix}'; the first is '{soup.trainable_keys[0]}'")

    def _stack(self, experts: Sequence[Tensor]) -> Tensor:
        # Matrices are laid out transposed, as a batched product x @ Wᵀ reads them: 1.3 times as fast on a CPU.
        matrix = experts[0].ndim == 2
        rows = [expert.T.contiguous() if matrix else expert for expert in experts]
        theta = torch.stack([row.flatten() for row in rows]).double()
        lam = torch.tensor([[float(value) for value in lam.values()] for lam in self.lams], dtype=torch.float64)
        stacked = (lam.to(theta.device) @ theta).to(experts[0].dtype).view(len(self.lams), *rows[0].shape)
        for m, point in enumerate(self.lams):
            # A product with zeros is not a copy: it turns -0 into 0, and any weight into NaN beside a diverged expert.
            used = [i for i, value in enumerate(point.values()) if value != 0]
            if len(used) == 1:
                stacked[m] = rows[used[0]]
        return stacked.transpose(1, 2) if matrix else stacked

    def forward(self, module: nn.Module, x: Tensor) -> Tensor:
        """Run the module for all M soups, without touching its weights.

        A stack of linear layers and activations (`nn.Sequential`, nested or subclassed without a forward of its own)
        runs as batched matrix products. Any other module runs under `torch.func.vmap`, which has to be able to: no
        in-place change of its buffers, no branch on a tensor's value, no randomness.

        Args:
            module: The policy. Weights and buffers the soup does not have are its own.
            x: Inputs (M, B, ...), one batch per λ.

        Returns:
            What the module returns for each λ, stacked: (M, B, ...).

        Raises:
            RslitError: The first dimension of `x` is not M, or the module lacks a weight of the soup.
        """
        if x.ndim == 0 or x.shape[0] != len(self.lams):
            raise RslitError(
                f"input of shape {tuple(x.shape)} for {len(self.lams)} lams; its first dimension is the lam"
            )
        layers = _linear_stack(module, "")
        if layers is not None and x.ndim >= 2 and x.is_floating_point():
            shapes = {key: shape for _, weights in layers for key, shape in weights.items()}
            if shapes == {key: stacked.shape[1:] for key, stacked in self.params.items()}:
                return self._batched(layers, x)
        own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
        for key, tensor in self.params.items():
            if key not in own or own[key].shape != tensor.shape[1:]:
                raise RslitError(
                    f"the module has no weight '{key}' of shape {tuple(tensor.shape[1:])}; give the experts' policy"
                )

        def run(params: dict[str, Tensor], inputs: Tensor) -> Tensor:
            result: Tensor = functional_call(module, params | self.buffers, (inputs,))
            return result

        stacked: Tensor = vmap(run, randomness="error")(self.params, x)
        return stacked

    __call__ = forward

    def _batched(self, layers: _Layers, x: Tensor) -> Tensor:
        shape = x.shape
        hidden = x.reshape(shape[0], -1, shape[-1])
        for layer, weights in layers:
            match [self.params[key] for key in weights]:
                case []:
                    hidden = layer(hidden)
                case [weight]:
                    hidden = torch.bmm(hidden, weight.transpose(1, 2))
                case [weight, bias]:
                    hidden = torch.baddbmm(bias.unsqueeze(1), hidden, weight.transpose(1, 2))
        return hidden.view(*shape[:-1], hidden.shape[-1])


def _linear_stack(module: nn.Module, prefix: str) -> _Layers | None:
    """Layers of a stack of linear layers and activations, with their weights' shapes; None for anything else."""
    if any(getattr(module, hooks) for hooks in _HOOKS):
        return None
    if type(module) is nn.Linear:
        shapes = {f"{prefix}weight": module.weight.shape}
        return [(module, shapes if module.bias is None else shapes | {f"{prefix}bias": module.bias.shape})]
    if type(module) in _ACTIVATIONS:
        return [(module, {})]
    if type(module).forward is not nn.Sequential.forward:
        return None
    layers: _Layers = []
    for name, child in module.named_children():
        found = _linear_stack(child, f"{prefix}{name}.")
        if found is None:
            return None
        layers += found
    return layers
