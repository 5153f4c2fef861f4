"""A sweep's soup, ready to be poured and played: one model for all visitors, one at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from rslit.callbacks.episodes import file_names
from rslit.demo.expected import ExpectedRewards
from rslit.demo.run_folder import SweepRun
from rslit.modules import RewardedModule
from rslit.soup import Ingredient, LoraStack, export_soup
from rslit.soup.adapters import SPACES
from rslit.soup.checks import base_of

__all__ = ["LiveSoup"]

ExactLam = Mapping[str, Fraction]

# What experts do does not depend on a visitor's λ, and visitors come back to a λ.
_KEPT = 128


class LiveSoup:
    """The model of a sweep at any λ.

    There is one model in memory, whatever the number of visitors. `play` holds a lock while a soup is poured and acts,
    so a second visitor waits for the first one's answer and never acts with the first one's weights. What was played
    is kept for a while.

    Args:
        run: The sweep.

    Attributes:
        run: The sweep.
        module: The task's module.
        experts: Names of the experts, in the order of λ.
        references: What stands beside the soup, by name: the initialisation, if the sweep has one, and each expert, as
            λ over the vertices of the evaluator's soup.
        expected: Expected rewards between the points of the sweep.
        has_base: Whether a soup can be merged into a base model.
    """

    def __init__(self, run: SweepRun) -> None:
        evaluator = run.evaluator
        self.run = run
        self.module: RewardedModule = evaluator.module
        self.experts = tuple(evaluator.ingredients)
        points = zip(evaluator.points, evaluator.lams, strict=True)
        self.references: dict[str, ExactLam] = {kind: lam for (kind, _), lam in points if kind == "initialisation"}
        self.references |= {f"expert {name}": {name: Fraction(1)} for name in self.experts}
        self.expected = ExpectedRewards(run.scores)
        self.has_base = base_of(Ingredient.load(evaluator.ingredients[self.experts[0]]).info) is not None
        self._soup = evaluator.soup
        self._stack: LoraStack | None = None
        if self._soup.space == SPACES[1]:
            device = evaluator.device
            self._stack = LoraStack(self._soup.states, self._soup.adapters, self._soup.space, device=device)
        self._lock = threading.Lock()
        self._played: OrderedDict[Hashable, Any] = OrderedDict()

    def play(self, lam: ExactLam, what: Hashable, act: Callable[[], Any]) -> Any:
        """What the model does at λ.

        Args:
            lam: λ; experts that are not named have none.
            what: What it acts on; the same soup on the same thing is played once.
            act: Lets the module act with the weights it holds.
        """
        key = (frozenset((name, value) for name, value in lam.items() if value), what)
        with self._lock:
            if key not in self._played:
                with self._poured(lam):
                    self._played[key] = act()
                while len(self._played) > _KEPT:
                    self._played.popitem(last=False)
            self._played.move_to_end(key)
            return self._played[key]

    def export(self, lam: ExactLam, merged: bool = False) -> Path:
        """Writes the soup at λ below the sweep's folder.

        Args:
            lam: λ by expert.
            merged: Merge it into the base model; see `rslit.soup.export_soup`.

        Returns:
            The folder.

        Raises:
            RslitError: It cannot be written or merged.
        """
        exact = {name: lam.get(name, Fraction(0)) for name in self.experts}
        (name,) = file_names([exact])
        out = self.run.folder / "soups" / (f"{name}.merged" if merged else name)
        with self._lock:  # a folder has one writer at a time
            return export_soup(self.run.evaluator.ingredients, exact, out, space=self._soup.space, merged=merged)

    @contextmanager
    def _poured(self, lam: ExactLam) -> Iterator[None]:
        full = {name: lam.get(name, Fraction(0)) for name in self._soup.names}
        with torch.no_grad():
            if self._stack is not None:
                with self._stack.per_sample(self.module.policy, self._stack.coefficients([full])):
                    yield
            else:
                with self._soup.at(full, self.module.policy):
                    yield
