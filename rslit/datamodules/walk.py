"""How rows are dealt out: in training an endless walk through them, in evaluation each of them once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch

from rslit.seeds import generator

__all__ = ["Batch", "EvaluationBatches", "TrainingBatches", "Walker"]

Batch = dict[str, list[Any]]

T = TypeVar("T")


class Walker(Protocol):
    """What a walk asks the datamodule, at the start of every epoch anew."""

    batch_size: int
    rollouts_per_epoch: int | None

    @property
    def seed(self) -> int:
        """The run's seed."""

    @property
    def epoch(self) -> int:
        """The Lightning epoch."""

    @property
    def rank(self) -> int:
        """This process's rank."""

    @property
    def world_size(self) -> int:
        """Number of processes."""


class TrainingBatches(Generic[T]):
    """One Lightning epoch of batches, a stretch of an endless walk through the rows.

    The walk passes over all rows again and again, each time in another order, less what does not fill a batch on every
    rank. Where an epoch begins follows from its number and the orders from the seed, so resuming needs no cursor.
    """

    def __init__(
        self, owner: Walker, rows: Sequence[T], stream: str, collate: Callable[[Sequence[T], int], Batch]
    ) -> None:
        """Takes what to deal out.

        Args:
            owner: The datamodule.
            rows: All rows, enough for a batch on every rank.
            stream: Name of the random stream of the orders; another name is another order.
            collate: Makes a batch of rows; its second argument is the number of the pass, from 0.
        """
        self.owner, self.rows, self.stream, self.collate = owner, rows, stream, collate
        self.per_pass = len(rows) // (owner.world_size * owner.batch_size)

    def __len__(self) -> int:
        return self.owner.rollouts_per_epoch or self.per_pass

    def __iter__(self) -> Iterator[Batch]:
        owner = self.owner
        epoch = owner.epoch
        order: tuple[int, list[int]] = (-1, [])
        for k in range(epoch * len(self), (epoch + 1) * len(self)):
            number, place = divmod(k, self.per_pass)
            if order[0] != number:
                stream = generator(owner.seed, self.stream, number)
                order = number, torch.randperm(len(self.rows), generator=stream).tolist()
            start = (place * owner.world_size + owner.rank) * owner.batch_size
            yield self.collate([self.rows[i] for i in order[1][start : start + owner.batch_size]], number)


class EvaluationBatches(Generic[T]):
    """This rank's held-out rows, batch by batch.

    No DataLoader: Lightning would give it a sampler that repeats rows to even out the ranks, and counts them twice.
    """

    def __init__(self, rows: Sequence[T], batch_size: int, collate: Callable[[Sequence[T]], Batch]) -> None:
        """Takes what to deal out.

        Args:
            rows: This rank's rows.
            batch_size: Rows of a batch; the last may have fewer.
            collate: Makes a batch of rows.
        """
        self.rows, self.batch_size, self.collate = rows, batch_size, collate

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.rows), self.batch_size):
            yield self.collate(self.rows[start : start + self.batch_size])
