"""Rollouts as a sized loader, so that Lightning's automatic optimisation does the rest.

    batch --module.rollout--> Experience (n rows) --K epochs x M shuffled minibatches--> training_step

The loader has a length: without one Lightning prefetches a batch, and a rollout would come from the policy one version
too old. The number of minibatches is the same for every rollout and on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from rslit.errors import RslitError
from rslit.seeds import generator

__all__ = ["Actor", "Batches", "Experience", "RolloutLoader"]

Experience = TensorDict
"""What a rollout yields: tensors with a common first dimension of n rows (transitions, or whole samples). Each task's
module documents its fields."""


class Actor(Protocol):
    """The side of a module that a :class:`RolloutLoader` needs."""

    rollouts_done: int
    """Rollouts so far in the whole training, counted up by ``rollout`` and kept in checkpoints."""

    samples_done: int
    """Rows of all experiences so far, counted up by the loader and kept in checkpoints."""

    def rollout(self, batch: Any) -> Experience:
        """Lets the policy act on `batch`, scores it and computes advantages."""
        ...


class Batches(Sized, Protocol):
    """A sized iterable of what ``rollout`` takes: prompts, images, or seeds of episodes."""

    def __iter__(self) -> Iterator[Any]: ...


class RolloutLoader:
    """Turns each batch into an experience and yields it as K epochs of M shuffled minibatches.

    The order of rows is drawn from (seed, rank, rollout, epoch) alone, so resuming at the end of an epoch needs nothing
    saved. A checkpoint in the middle of one carries the experience itself.

    Args:
        batches: What to act on. One Lightning epoch is one pass over it.
        actor: The module; its policy acts with the weights it has when the minibatch before has been stepped.
        epochs: K, passes over each experience.
        minibatches: M, minibatches per pass; the rows of an experience must divide by it.
        seed: Seed of the order.
        rank: This process's rank, for an order of its own.
        precision: Context in which the actor acts: what the Trainer enters around training steps, so that old and new
            log-probabilities are computed alike.

    Raises:
        RslitError: `epochs` or `minibatches` is below 1, or the rows do not divide by `minibatches`.
    """

    def __init__(
        self,
        batches: Batches,
        actor: Actor,
        *,
        epochs: int = 1,
        minibatches: int = 1,
        seed: int = 0,
        rank: int = 0,
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        for name, value in (("epochs", epochs), ("minibatches", minibatches)):
            if value < 1:
                raise RslitError(f"{name} must be at least 1, got {value}")
        self.batches = batches
        self.actor = actor
        self.epochs = epochs
        self.minibatches = minibatches
        self.seed = seed
        self.rank = rank
        self.precision = precision
        self._done = 0  # minibatches yielded in this pass over `batches`
        self._experience: Experience | None = None
        self._drawn: tuple[tuple[int, int, int], Tensor] | None = None  # the order of the pass under way

    @property
    def per_rollout(self) -> int:
        """Minibatches, and so optimiser steps, per rollout: K x M."""
        return self.epochs * self.minibatches

    def __len__(self) -> int:
        return len(self.batches) * self.per_rollout

    def __iter__(self) -> Iterator[Experience]:
        if self._done == len(self):  # Lightning drops the iterator after the last minibatch, without exhausting it
            self._done, self._experience = 0, None
        skip, carried = divmod(self._done, self.per_rollout)
        for index, batch in enumerate(self.batches):
            if index < skip or (index == skip and carried and self._experience is None):
                continue
            if not (index == skip and carried):
                with self.precision():
                    self._experience = self.actor.rollout(batch)
                self.actor.samples_done += self._experience.shape[0]
            for inner in range(carried if index == skip else 0, self.per_rollout):
                self._done += 1
                yield self._minibatch(inner)

    def _minibatch(self, inner: int) -> Experience:
        assert self._experience is not None
        rows = self._experience.shape[0]
        if rows % self.minibatches:
            raise RslitError(
                f"an experience of {rows} rows does not divide into {self.minibatches} minibatches: "
                f"change minibatches, or the number of environments or prompts"
            )
        epoch, k = divmod(inner, self.minibatches)
        size = rows // self.minibatches
        order = self._order(rows, self.actor.rollouts_done, epoch)
        return self._experience[order[k * size : (k + 1) * size].to(self._experience.device or "cpu")]

    def _order(self, rows: int, rollout: int, epoch: int) -> Tensor:
        if self._drawn is None or self._drawn[0] != (rows, rollout, epoch):
            stream = generator(self.seed, "order", self.rank, rollout, epoch)
            self._drawn = (rows, rollout, epoch), torch.randperm(rows, generator=stream)
        return self._drawn[1]

    def state_dict(self) -> dict[str, Any]:
        """Position within the epoch: empty between epochs, else with the experience under way. Lightning calls it."""
        if self._done == 0 or self._done == len(self) or self._experience is None:
            return {}
        rows = {key: value.cpu() for key, value in self._experience.items()}
        return {"done": self._done, "experience": rows, "rows": self._experience.shape[0]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` gave."""
        if state:
            self._done = int(state["done"])
            self._experience = TensorDict(state["experience"], batch_size=[int(state["rows"])])
