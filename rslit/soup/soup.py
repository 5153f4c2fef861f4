"""Soups: weights interpolated between experts (Ramé et al. 2023, section 2.1: θ_λ = Σ λ_i θ_i)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.soup.adapters import SPACES, Adapter
from rslit.soup.blend import FLOATS, blend, local_shard, steps
from rslit.soup.checks import adapter_of, check_ingredients, check_lora, check_states, resolve_space
from rslit.soup.ingredient import Ingredient
from rslit.soup.lam import Lam, coefficients
from rslit.soup.poured import pouring
from rslit.soup.rounding import PourReport, Rounding
from rslit.soup.streaming import stored_report, stream_states

__all__ = ["Soup"]

M = TypeVar("M", bound=nn.Module)


class Soup:
    """Experts to interpolate between.

    Every soup is computed anew from the experts, in float32 (float64 for float64 experts) whatever they are stored in,
    and rounded once at the end. At a vertex (one λ is 1) it is the expert bit for bit; a weight on which the experts
    agree stays bit for bit what it is for every λ; and the bits depend on the experts' names, not on the order in
    which experts or λ are given.

    LoRA experts have two spaces. In `factors` (the default, and the paper's) A and B are interpolated entry by entry:
    a soup is an adapter like the experts', and all of this class works. In `delta` the products s B A are: a soup has a
    higher rank than the experts and fits into no adapter of theirs, so it is not poured but evaluated per sample
    (`LoraStack`) or exported.

    Args:
        states: State dict by expert name. The tensors are borrowed: do not change them while the soup lives.
        trainable_keys: Weights to interpolate; all other tensors are frozen buffers, equal in all experts. None takes
            every floating tensor.
        extrapolate: Allow λ outside [0, 1].
        ingredients: Where the states come from, by expert name; `Soup.load` gives it.
        space: Where to interpolate: "weights", or for LoRA "factors" or "delta"; None chooses the first that applies.
        adapters: PEFT's adapter config by expert name, if the experts are LoRA.

    Attributes:
        states: The experts' tensors by name and key.
        trainable_keys: The weights that are interpolated, in the order of the first expert.
        ingredients: The ingredients by expert name if the soup was loaded from disk, else empty.
        extrapolate: Whether λ may leave [0, 1].
        space: Where the soup interpolates, to be named in every result.
        adapters: Adapter configs by expert name; empty without LoRA.

    Raises:
        RslitError: Keys, shapes, dtypes or frozen buffers differ, two experts are the same weights, or adapters cannot
            be interpolated in the space.
    """

    def __init__(
        self,
        states: Mapping[str, Mapping[str, Tensor]],
        *,
        trainable_keys: Collection[str] | None = None,
        extrapolate: bool = False,
        ingredients: Mapping[str, Ingredient] | None = None,
        space: str | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        if not states or not all(states.values()):
            raise RslitError("a soup needs at least one expert, and every expert a weight; give state dicts by name")
        first = next(iter(states.values()))
        if trainable_keys is None:
            trainable_keys = [key for key in first if first[key].is_floating_point()]
        lacking = [key for key in trainable_keys if key not in first]
        if lacking or not trainable_keys:
            missing = f"weight '{lacking[0]}'" if lacking else "floating weight"
            raise RslitError(f"expert '{next(iter(states))}' has no {missing}; name the keys to interpolate")
        self.ingredients = dict(ingredients or {})
        self.extrapolate = extrapolate
        self.states = {name: {key: tensor.detach() for key, tensor in state.items()} for name, state in states.items()}
        self._trainable = frozenset(trainable_keys)
        self.trainable_keys = [key for key in first if key in self._trainable]
        self._storages = {t.untyped_storage().data_ptr() for state in self.states.values() for t in state.values()} - {
            0
        }
        self.adapters = {name: dict(adapters[name]) for name in states if name in adapters} if adapters else {}
        self.space = resolve_space(space, self.names, self.adapters)
        sources = {name: str(i.path) for name, i in self.ingredients.items()}
        if self.adapters:
            check_lora(self.states, self.adapters, self.space, sources)
        check_states(self.states, self._trainable, sources, self.space)

    @classmethod
    def load(
        cls,
        paths: Sequence[str | Path] | Mapping[str, str | Path],
        *,
        extrapolate: bool = False,
        space: str | None = None,
    ) -> Soup:
        """Open ingredients as a soup. Weights stay on disk (memory-mapped) until they are poured.

        Args:
            paths: Folders of ingredients, which give the experts' names, or folders by name.
            extrapolate: Allow λ outside [0, 1].
            space: Where to interpolate; None is "weights", or "factors" if the ingredients are LoRA.

        Raises:
            RslitError: An ingredient cannot be read, two have one name, or they do not belong together: different
                tasks, bases, initialisations or trainable weights, or anything the constructor refuses.
        """
        if isinstance(paths, str | Path):
            raise RslitError(f"{paths}: give a list of ingredients, not one path")
        ingredients: dict[str, Ingredient] = {}
        named = paths.items() if isinstance(paths, Mapping) else ((None, path) for path in paths)
        for given, path in named:
            ingredient = Ingredient.load(path)
            name = given or ingredient.info.expert
            if name in ingredients:
                both = f"{ingredients[name].path} and {path}"
                raise RslitError(f"{both} are both called '{name}'; give names, as {{'a': path, 'b': path}}")
            ingredients[name] = ingredient
        if not ingredients:
            raise RslitError("a soup needs at least one ingredient; give their folders")
        configs = {name: adapter_of(ingredient.info) for name, ingredient in ingredients.items()}
        adapters = {name: config for name, config in configs.items() if config is not None}
        check_ingredients(ingredients, resolve_space(space, ingredients, adapters))
        return cls(
            {name: ingredient.state_dict() for name, ingredient in ingredients.items()},
            trainable_keys=next(iter(ingredients.values())).info.trainable_keys,
            extrapolate=extrapolate,
            ingredients=ingredients,
            space=space,
            adapters=adapters,
        )

    @property
    def names(self) -> list[str]:
        """The experts' names, in the order given."""
        return list(self.states)

    @property
    def initialisation(self) -> str | None:
        """Fingerprint of the weights all experts started from; None for experts in memory, or if theirs differ."""
        known = {ingredient.info.initialisation for ingredient in self.ingredients.values()}
        return known.pop() if len(known) == 1 else None

    def coefficients(self, lam: Lam) -> dict[str, Fraction]:
        """Exact λ of every expert, checked; see `rslit.soup.lam.coefficients`.

        Raises:
            RslitError: λ does not fit this soup.
        """
        return coefficients(lam, self.names, extrapolate=self.extrapolate)

    def state_dict(self, lam: Lam) -> dict[str, Tensor]:
        """The soup at λ as new tensors, in the experts' dtypes and on their devices, frozen buffers included.

        Raises:
            RslitError: λ does not fit this soup, or its space is delta.
        """
        self.check_pourable()
        first = next(iter(self.states.values()))
        out = {key: torch.empty_like(tensor, memory_format=torch.contiguous_format) for key, tensor in first.items()}
        self.pour(lam, out)
        return out

    def pour(self, lam: Lam, out: Mapping[str, Tensor]) -> None:
        """Write the soup at λ into live tensors, without a temporary of the model's size.

        Args:
            lam: λ by expert name.
            out: Targets by key, of any floating dtype and on any device; a DTensor (FSDP2) gets its rank's shard.
                Keys the soup does not have are left alone.

        Raises:
            RslitError: λ does not fit this soup; a key is missing, a shape differs, a frozen buffer's dtype differs,
                a target is an expert's own memory, or the space is delta. Nothing has been written then.
        """
        self.check_pourable()
        chain = steps(self.coefficients(lam))
        first = next(iter(self.states.values()))
        for key, tensor in first.items():
            self._check_target(key, tensor, out)
        with torch.no_grad():
            for key in first:
                names = [name for name, _ in chain] if key in self._trainable else self.names[:1]
                target, parts = local_shard(key, out[key], [self.states[name][key] for name in names])
                blend(target, parts, [weight for _, weight in chain])

    def _check_target(self, key: str, expert: Tensor, out: Mapping[str, Tensor]) -> None:
        if key not in out:
            raise RslitError(
                f"the module has no weight '{key}' that the soup has; pour into the policy the experts are of"
            )
        target = out[key]
        if target.shape != expert.shape:
            shapes = f"{tuple(expert.shape)} in the soup, {tuple(target.shape)} in the module"
            raise RslitError(f"shapes of '{key}' differ: {shapes}; pour into the policy the experts are of")
        if target.dtype != expert.dtype and not (target.dtype in FLOATS and expert.dtype in FLOATS):
            raise RslitError(f"dtypes of '{key}' differ: {expert.dtype} in the soup, {target.dtype} in the module")
        if not hasattr(target, "placements") and target.untyped_storage().data_ptr() in self._storages:
            raise RslitError(f"'{key}' of the module is the memory of an expert; build the soup from cloned weights")

    @contextmanager
    def at(self, lam: Lam, module: M) -> Iterator[M]:
        """Hold the soup at λ in `module` for the length of a `with` block, then put its own weights back bit for bit.

        Weights and buffers of the module that the soup does not have stay as they are. To go through many λ, `pour`
        into the module again inside the block.

        Args:
            lam: λ by expert name.
            module: Where to pour; its parameters and buffers are named as in the experts.

        Yields:
            The module.

        Raises:
            RslitError: As for `pour`, or the module (or a part of it) already holds a soup.
        """
        self.check_pourable()
        live = dict(module.named_parameters(remove_duplicate=False)) | dict(
            module.named_buffers(remove_duplicate=False)
        )
        first = next(iter(self.states.values()))
        with pouring(module):
            own = {key: local_shard(key, live[key], [])[0].clone() for key in first if key in live}
            try:
                self.pour(lam, live)
                yield module
            finally:
                with torch.no_grad():
                    for key, tensor in own.items():
                        local_shard(key, live[key], [])[0].copy_(tensor)

    def stream(
        self, lam: Lam, out_path: str | Path, *, dtype: torch.dtype | None = None, rounding: Rounding | None = None
    ) -> None:
        """Write the soup at λ as a safetensors file, a few megabytes at a time: for models larger than memory.

        The bytes are those of `save_file(soup.state_dict(lam), path, metadata={"format": "pt"})`.

        Args:
            lam: λ by expert name.
            out_path: The file; it appears when complete.
            dtype: Floating dtype for the interpolated weights; None keeps the experts'.
            rounding: Takes in every weight written; give `Rounding(soup.coefficients(lam))` to report on it.

        Warns:
            UserWarning: In float16 or bfloat16, if the effective λ is off or the rounding error large.

        Raises:
            RslitError: λ does not fit this soup, `dtype` is no floating dtype, the file cannot be written, or the space
                is delta.
        """
        self.check_pourable()
        exact, path = self.coefficients(lam), Path(out_path)
        stream_states(self.states, self._trainable, exact, path, dtype=dtype, rounding=rounding)

    def report(self, lam: Lam, *, dtype: torch.dtype | None = None) -> PourReport:
        """Where the soup at λ ends up once rounded to the dtype it is stored in.

        Args:
            lam: λ by expert name.
            dtype: Floating dtype of the stored weights; None is the experts'.

        Raises:
            RslitError: λ does not fit this soup, or its space is delta.
        """
        self.check_pourable()
        return stored_report(self.states, self.trainable_keys, self.coefficients(lam), dtype)

    def check_pourable(self) -> None:
        """Refuse to be poured, written or stacked as weights of the experts' shapes.

        Raises:
            RslitError: The space is delta.
        """
        if self.space == SPACES[1]:
            raise RslitError(
                "a soup in space delta has a higher rank than its experts' adapters and cannot be poured into one; "
                "evaluate it per sample (rslit.soup.LoraStack), export it (rslit soup --space delta) or use space "
                "factors"
            )
