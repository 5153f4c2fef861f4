"""A sweep that chooses its λ itself, one after the other, within a budget."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from rslit.distributed import gather_states
from rslit.errors import RslitError
from rslit.front.search import LamSearch
from rslit.modules.interpolation import InterpolationEvaluator
from rslit.modules.rewarded import RewardedModule
from rslit.modules.sweep_points import SweepPoint
from rslit.soup import format_lam

__all__ = ["SearchEvaluator"]


class SearchEvaluator(InterpolationEvaluator):
    """Evaluates the λ that a search asks for under ``validate`` or ``test`` and writes ``scores.parquet``.

    It begins with the experts and the uniform soup; then each λ is where a model of the scores so far expects the most:
    for the weighted sum of a preference, or for the front's hypervolume (:mod:`rslit.front.search`). Batches are kept,
    so that every λ meets the same items and the same noise.
    """

    def __init__(
        self,
        module: RewardedModule,
        ingredients: dict[str, str],
        budget: int,
        preference: dict[str, float] | None = None,
        initialisation: str | None = None,
        morl: list[str] | None = None,
        out: str | None = None,
        space: str | None = None,
    ) -> None:
        """Takes what to search.

        Args:
            module: The task's module, with its evaluation rewards.
            ingredients: Folder of each expert's ingredient, by the expert's name.
            budget: How many soups are evaluated, the experts and the uniform soup included; never more.
            preference: Weights by reward, each reward rescaled to 0 at the worst and 1 at the best expert; rewards left
                out weigh 0. None searches the front.
            initialisation: Ingredient folder of what the experts started from, to be evaluated too.
            morl: Ingredient folders of MORL solutions, to be evaluated too.
            out: Folder of ``scores.parquet``; default the trainer's ``default_root_dir``.
            space: Where LoRA experts are interpolated: ``factors`` or ``delta``.
        """
        count = len(ingredients)
        uniform: dict[str, Any] = dict.fromkeys(ingredients, Fraction(1, max(count, 1)))
        corners: list[dict[str, Any]] = [{name: int(name == own) for name in ingredients} for own in ingredients]
        super().__init__(
            module,
            ingredients,
            [*corners, uniform],
            initialisation=initialisation,
            morl=morl,
            out=out,
            space=space,
            budget=budget,
        )
        names = [reward.name for reward in module.evaluation_rewards]
        unknown = [name for name in preference or {} if name not in names]
        if unknown:
            raise RslitError(f"preference: '{unknown[0]}' is no evaluation reward; weigh {', '.join(names)}")
        self.preference = preference
        LamSearch(count, budget, self._weights())  # refuses before anything is loaded
        self._kept: list[tuple[Any, int]] = []

    def _weights(self) -> list[float] | None:
        if self.preference is None:
            return None
        return [self.preference.get(reward.name, 0.0) for reward in self.module.evaluation_rewards]

    def _step(self, batch: Any, batch_idx: int) -> Any:
        self._kept.append((batch, batch_idx))
        return super()._step(batch, batch_idx)

    def _finish(self) -> None:
        kept, self._kept = self._kept, []
        # A process without a batch of its own searches along with the others.
        if not self.trainer.sanity_checking and any(gather_states(bool(kept))):
            self._run(kept)
        super()._finish()

    def _run(self, kept: list[tuple[Any, int]]) -> None:
        """Asks, evaluates and tells until the budget is spent; every process comes to the same λ."""
        assert self._loaded is not None, "setup loads"
        everything, begun, meta, seed = self._loaded
        points = list(begun)
        search = LamSearch(len(self.ingredients), self.budget, self._weights())
        try:
            while (lam := search.ask()) is not None:
                named = dict(zip(self.ingredients, lam, strict=True))
                label = format_lam(named)
                index = next((k for k, point in enumerate(points) if point.label == label), None)
                if index is None:
                    index = len(points)
                    points.append(SweepPoint("soup", label, named))
                    # The rows of a step are numbered by the points it evaluates: only the new one.
                    self._loaded = (everything, [points[-1]], meta, seed)
                    before = len(self._rows)
                    for batch, batch_idx in kept:
                        # Lightning enters the precision around its own steps alone.
                        with self.trainer.precision_plugin.val_step_context():
                            super()._step(batch, batch_idx)
                    self._rows[before:] = [(index, *row[1:]) for row in self._rows[before:]]
                search.tell(lam, *self._scores(index))
        finally:
            self._loaded = (everything, points, meta, seed)
        if self.preference is not None:
            best = dict(zip(self.ingredients, search.best(), strict=True))
            rank_zero_info(f"best λ for the preference: {format_lam(best)}, of {len(search.lams)} evaluated")

    def _scores(self, index: int) -> tuple[list[float], list[float]]:
        """Mean and standard error of each reward at a point, over the items of all processes."""
        own = [(name, scores) for at, name, _, scores in self._rows if at == index]
        found: dict[str, list[float]] = {name: [] for name in self._rewards}
        for rank in gather_states(own):
            for name, scores in rank:
                found[name] += scores
        means, errors = [], []
        for scores in found.values():
            values = np.array(scores)
            values = values[np.isfinite(values)]
            means.append(float(values.mean()) if len(values) else float("nan"))
            errors.append(float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0)
        return means, errors
