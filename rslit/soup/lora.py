"""Many soups of LoRA experts in one batch: every sample has its own λ, and no weight is ever merged.

For experts i with factors A_i, B_i and scalings s_i, a layer W and a sample x with coefficients λ,

    delta:    y = W x + Σ_i λ_i s_i B_i A_i x
    factors:  y = W x + s (Σ_i λ_i B_i) (Σ_j λ_j A_j) x = W x + s Σ_i B_i λ_i u,   u = Σ_j λ_j A_j x

Both are two matrix products with the experts' factors stacked, whatever the number of experts, and something small
per sample in between: the block of expert i of z = A_stack x is scaled by λ_i, or all blocks are mixed into u and
scaled. The base stays as it is, in its own precision; the LoRA part is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rslit.errors import RslitError
from rslit.soup.adapters import SPACES, Adapter, check_factors, live_key, lora_layers
from rslit.soup.lam import Lam
from rslit.soup.poured import pouring

__all__ = ["LoraStack", "linear_at"]

M = TypeVar("M", bound=nn.Module)

# Mixing R stacked ranks by one (R, R) matrix per sample is one kernel instead of three, but reads R² numbers per
# sample: on a CPU the two meet between 64 and 128 when decoding.
_SMALL = 64

_Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]


@dataclass(frozen=True)
class _Layer:
    """One layer's factors of all experts, stacked: A (R, d_in) and s B (d_out, R), with R the sum of the ranks."""

    a: Tensor
    b: Tensor
    ranks: tuple[int, ...]


class LoraStack:
    """LoRA experts of one base, stacked so that a batch can hold samples of any number of soups.

    Args:
        states: Weights by expert name, under PEFT's live names.
        adapters: Adapter config by expert name.
        space: "factors" (A and B interpolated entry by entry, the paper's) or "delta" (the products interpolated).
        device: Where the stack lives; layers on another device get a copy there while in use.
        dtype: What the LoRA part is stored and computed in.

    Attributes:
        names: The experts, in the order of the coefficients' columns.
        space: The space.
        layers: Paths of the LoRA layers in the base model.

    Raises:
        RslitError: An adapter is more than plain LoRA on linear layers, experts have different layers, or, in space
            factors, different ranks or scalings.
    """

    def __init__(
        self,
        states: Mapping[str, Mapping[str, Tensor]],
        adapters: Mapping[str, Adapter],
        space: str = "factors",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if space not in SPACES:
            raise RslitError(f"space '{space}': LoRA experts are interpolated in space {' or '.join(SPACES)}")
        lacking = [name for name in states if name not in adapters]
        if lacking or not states:
            raise RslitError(f"expert '{lacking[0]}' has no adapter config" if lacking else "a stack needs an expert")
        labels = {name: f"expert '{name}'" for name in states}
        found = {name: lora_layers(state, adapters[name], labels[name]) for name, state in states.items()}
        self.names, self.space = list(states), space
        first = next(iter(found.values()))
        for name, layers in found.items():
            if layers.keys() != first.keys():
                path = sorted(layers.keys() ^ first.keys())[0]
                raise RslitError(f"{labels[self.names[0]]} and {labels[name]} differ in having LoRA on '{path}'")
        if space == "factors":
            check_factors(found, labels)
        self._layers: dict[str, _Layer] = {}
        for path in first:
            a = [states[name][live_key(path, "A")].detach().to(device, dtype) for name in self.names]
            b = [states[name][live_key(path, "B")].detach().to(device, dtype) for name in self.names]
            scaled = [factor * found[name][path].scaling for factor, name in zip(b, self.names, strict=True)]
            self._layers[path] = _Layer(torch.cat(a), torch.cat(scaled, 1), tuple(factor.shape[0] for factor in a))

    @property
    def layers(self) -> list[str]:
        """Paths of the LoRA layers in the base model."""
        return list(self._layers)

    def coefficients(self, lams: Sequence[Lam]) -> Tensor:
        """λ by name as rows of a float64 tensor (len(lams), N); an expert left out has λ = 0. λ is not checked."""
        return torch.tensor([[float(lam.get(name, 0)) for name in self.names] for lam in lams], dtype=torch.float64)

    def shape(self, path: str) -> tuple[int, int]:
        """(d_out, d_in) of a layer."""
        layer = self._layers[path]
        return layer.b.shape[0], layer.a.shape[1]

    def delta(self, path: str, coefficients: Tensor) -> Tensor:
        """What the soup adds to a layer's weight, dense.

        Args:
            path: The layer.
            coefficients: λ (N,) in the order of `names`.

        Returns:
            (d_out, d_in), as `nn.Linear` lays a weight out.
        """
        layer = self._layers[path]
        lam = coefficients.to(layer.a)
        if self.space == "factors":
            (outputs, inputs), rank = self.shape(path), layer.ranks[0]
            a = torch.einsum("n,nri->ri", lam, layer.a.view(-1, rank, inputs))
            return torch.einsum("n,onr->or", lam, layer.b.view(outputs, -1, rank)) @ a
        return layer.b * _repeated(lam, layer.ranks) @ layer.a

    @contextmanager
    def per_sample(self, model: M, coefficients: Tensor) -> Iterator[M]:
        """Give every sample of the batches that `model` sees its own soup, for the length of a `with` block.

        A PEFT model's own adapters are switched off meanwhile. The first dimension of what the model is given must be
        a multiple k of the rows: row i serves samples i k ... i k + k - 1, as beam search and `num_return_sequences`
        lay copies out. It holds for `forward` and for `generate`, and everything is undone at the end. The added part
        is exact for inference; gradients pass through it to the input, not to the experts.

        Args:
            model: A PEFT model around the experts' base, or the bare base.
            coefficients: λ (rows, N), a column per expert in the order of `names`.

        Yields:
            The model.

        Raises:
            RslitError: The coefficients have another shape or are not finite, the model lacks a layer of the experts
                or has it in another shape, or it holds a soup already; in the block, a batch is no multiple of the
                rows.
        """
        if coefficients.ndim != 2 or coefficients.shape[1] != len(self.names) or not coefficients.shape[0]:
            shape, names = tuple(coefficients.shape), ", ".join(self.names)
            raise RslitError(f"coefficients of shape {shape}; give one row per sample and a column for each of {names}")
        if not torch.isfinite(coefficients).all():
            raise RslitError("coefficients hold a value that is not finite")
        routed = [path for path in self._layers if "experts" in path.split(".")]
        if routed:
            raise RslitError(
                f"the rows of '{routed[0]}' are routed tokens, not samples; export the soup and evaluate it"
            )
        targets = {path: linear_at(model, path, self.shape(path)) for path in self._layers}
        prepared: dict[tuple[object, ...], Tensor] = {}
        with pouring(model), ExitStack() as undo:
            for tuner in model.modules():
                if hasattr(tuner, "_disable_adapters"):
                    undo.callback(setattr, tuner, "_disable_adapters", tuner._disable_adapters)
                    setattr(tuner, "_disable_adapters", True)  # noqa: B010  # PEFT's, unknown to torch's types
            for path, linear in targets.items():
                layer = self._layers[path]
                device = next((p.device for p in linear.parameters()), layer.a.device)
                key = (layer.ranks, device)
                if key not in prepared:  # once for all layers and all tokens
                    prepared[key] = self._prepare(coefficients.to(device, layer.a.dtype), layer.ranks)
                hook = _hook(path, layer.a.to(device), layer.b.to(device), prepared[key], self.space, len(self.names))
                undo.callback(linear.register_forward_hook(hook).remove)
            yield model

    def _prepare(self, lam: Tensor, ranks: tuple[int, ...]) -> Tensor:
        """What a hook multiplies by: see `_hook`."""
        if self.space == "delta":
            return _repeated(lam, ranks).unsqueeze(1)
        if sum(ranks) > _SMALL:
            return lam[:, None, :, None]
        # v = (λ λᵀ ⊗ I) z mixes the blocks and scales them in one product.
        return torch.kron(lam.unsqueeze(2) * lam.unsqueeze(1), torch.eye(ranks[0], dtype=lam.dtype, device=lam.device))


def _repeated(lam: Tensor, ranks: tuple[int, ...]) -> Tensor:
    """λ (..., N) with each column repeated as often as the expert has ranks: (..., R)."""
    return lam.repeat_interleave(torch.tensor(ranks, device=lam.device), dim=-1)


def _hook(path: str, a: Tensor, b: Tensor, lam: Tensor, space: str, experts: int) -> _Hook:
    """Adds the LoRA part to a linear layer's output.

    Args:
        path: The layer, for messages.
        a: (R, d_in).
        b: (d_out, R), scaled.
        lam: (rows, 1, R) to multiply by in space delta; in space factors (rows, R, R) to mix by, or (rows, 1, N, 1) to
            multiply by.
        space: The space.
        experts: N.
    """
    rows, (stacked, inputs), transposed = lam.shape[0], a.shape, b.t()

    def mixed(z: Tensor) -> Tensor:
        if space == "delta":
            return z * lam
        if lam.ndim == 3:
            return torch.bmm(z, lam)
        blocks = z.view(rows, -1, experts, stacked // experts)
        return (blocks * lam).sum(2, keepdim=True).mul(lam).view(rows, -1, stacked)

    def hook(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
        x: Tensor = given[0]
        if x.shape[0] % rows:
            raise RslitError(f"'{path}' got a batch of {x.shape[0]} for coefficients of {rows} rows; give a multiple")
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return add(x, output)
        return add(x, output)

    def add(x: Tensor, output: Tensor) -> Tensor:
        # A linear layer's output is its own, so it is added to in place; in a half precision the sum is rounded once.
        # A sample's copies and tokens lie in one piece, so that `rows` in front is a view.
        v = mixed(F.linear(x.to(a.dtype).reshape(rows, -1, inputs), a))
        if output.dtype == a.dtype and output.is_contiguous():
            output.view(-1, output.shape[-1]).addmm_(v.view(-1, stacked), transposed)
            return output
        return output.add_(F.linear(v, b).view(output.shape))

    return hook


def linear_at(model: nn.Module, path: str, shape: tuple[int, int]) -> nn.Module:
    """The base's linear layer at `path`, below PEFT's wrappers.

    Args:
        model: A PEFT model, or the bare base.
        path: The layer's path in the base.
        shape: (d_out, d_in) that it must have.

    Raises:
        RslitError: There is no such layer, it has another shape, or an adapter is merged into it.
    """
    name = type(model).__name__
    # By name, since peft may not be there: every transformers model has a `base_model` and can have a `peft_config`.
    wrapped = any(kind.__name__ == "PeftModel" for kind in type(model).__mro__)
    try:
        module = model.get_submodule(f"base_model.model.{path}" if wrapped else path)
    except AttributeError:
        raise RslitError(f"{name} has no layer '{path}' that the experts have; give the experts' base model") from None
    while hasattr(module, "base_layer"):
        if getattr(module, "merged", False):
            raise RslitError(f"an adapter is merged into '{path}' of {name}; unmerge it first")
        module = module.get_submodule("base_layer")
    found = _shape(module)
    if found != shape:
        raise RslitError(
            f"'{path}' of {name} is {found or type(module).__name__}, (out, in) of the experts' adapters is {shape}; "
            "give the experts' base model"
        )
    return module


def _shape(module: Any) -> tuple[int, int] | None:
    """(d_out, d_in) of a linear layer, quantised ones and GPT-2's Conv1D included; None for anything else."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.out_features), int(module.in_features)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
        return int(module.nf), int(module.weight.shape[0])
    return None
