"""The bridge from weight space to reward space: evaluates a lattice of λ, the initialisation and MORL solutions."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from rslit.distributed import gather_states
from rslit.errors import RslitError
from rslit.front import Front, ScoreMeta, ScoreRows, ScoreTable, plot_front, write_scores
from rslit.modules.rewarded import RewardedModule
from rslit.modules.sweep_points import SweepPoint, SweepPoints, distinct
from rslit.samples import Samples
from rslit.seeds import stream_seed
from rslit.soup import Soup, lattice

__all__ = ["InterpolationEvaluator"]


class InterpolationEvaluator(LightningModule):
    """Evaluates soups under ``validate`` or ``test`` and writes ``scores.parquet``.

    For every batch each point is evaluated on the same items and the same sampling noise. Points are the soups over the
    lattice (the experts are its vertices), the initialisation and the MORL solutions. Nothing is trained.
    """

    def __init__(
        self,
        module: RewardedModule,
        ingredients: dict[str, str],
        lattice: int | list[dict[str, float]] = 10,
        initialisation: str | None = None,
        morl: list[str] | None = None,
        trajectories: dict[str, str] | None = None,
        extrapolate: bool = False,
        out: str | None = None,
        space: str | None = None,
        ensemble: bool = False,
        budget: int = 500,
        fisher: bool = False,
    ) -> None:
        """Takes what to evaluate.

        Args:
            module: The task's module, with its evaluation rewards.
            ingredients: Folder of each expert's ingredient, by the expert's name.
            lattice: Parts H of the lattice of λ = k/H, or a list of λ, each a mapping from expert to coefficient.
            initialisation: Ingredient folder of what the experts started from, to be evaluated too.
            morl: Ingredient folders of MORL solutions (or of experts: all weight on one reward), to be evaluated too.
            trajectories: By expert, the folder of its run's ingredients: those of its way there (``epoch=…``, which
                ``SoupCallback.every_n_epochs`` leaves) are evaluated too, for the paths of the paper's Figure 2.
            extrapolate: Allow λ outside [0, 1].
            out: Folder of ``scores.parquet``; default the trainer's ``default_root_dir``.
            space: Where LoRA experts are interpolated: ``factors`` (A and B entry by entry, the default) or ``delta``
                (their products).
            ensemble: Interpolate the experts' predictions instead of their weights, where the task can: what soups are
                compared with by ``rslit front --beside``. The table's space is then ``predictions``.
            fisher: Average by the experts' Fishers rather than interpolate (:mod:`rslit.soup.fisher`). The table's
                space is then ``fisher``.
            budget: How many soups it may come to at most; a lattice of more is refused before anything runs.
        """
        super().__init__()
        if len(ingredients) < 2 and not isinstance(lattice, list):
            raise RslitError("ingredients: a sweep interpolates at least two experts")
        self.module = module
        self.ingredients = dict(ingredients)
        self.lattice = lattice
        self.initialisation = initialisation
        self.morl = list(morl or [])
        self.trajectories = dict(trajectories or {})
        self.extrapolate = extrapolate
        self.out = out
        self.space = space
        self.ensemble = ensemble
        self.budget = budget
        self.fisher = fisher
        if fisher and (ensemble or space == "delta"):
            raise RslitError("fisher: averages weights or LoRA factors; take ensemble and space delta out")
        if isinstance(lattice, int) and lattice > 0:
            self._check_budget(len(ingredients), lattice)
        if ensemble and (initialisation or morl or trajectories):
            raise RslitError(
                "ensemble: of experts alone; leave initialisation, morl and trajectories to the sweep of weights"
            )
        self._loaded: tuple[Soup, list[SweepPoint], ScoreMeta, int] | None = None
        self._rows: list[tuple[int, str, list[Any], list[float]]] = []
        self._sharded = False

    def _check_budget(self, experts: int, parts: int) -> None:
        def points(parts: int) -> int:
            return comb(parts + experts - 1, experts - 1)

        if points(parts) > self.budget:
            fits = max((p for p in range(1, parts) if points(p) <= self.budget), default=None)
            finest = f"at most {fits} parts ({points(fits)} soups)" if fits else "a list of λ"
            raise RslitError(
                f"lattice: {parts} parts over {experts} experts are {points(parts)} soups, more than the budget of "
                f"{self.budget}; take {finest}, a SearchEvaluator, or a larger budget"
            )

    # -- what to evaluate -----------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Opens all ingredients and checks that they belong together, before anything runs."""
        self.module.setup(stage)
        self._load()

    @property
    def _rewards(self) -> tuple[str, ...]:
        return tuple(r.name for r in self.module.evaluation_rewards)

    def configure_model(self) -> None:
        """Shards the task's module under ``ModelParallelStrategy`` (FSDP2); soups are poured into the shards."""
        if self.device_mesh is not None and not self._sharded:
            self._sharded = True
            self.module.parallelize(self.device_mesh["data_parallel"])

    def _load(self) -> None:
        soup = Soup.load(self.ingredients, extrapolate=self.extrapolate, space=self.space)
        task = next(iter(soup.ingredients.values())).info.task
        if task != self.module.task_class:
            raise RslitError(f"ingredients are of task {task}, module is {self.module.task_class}: name their task")
        gathered = SweepPoints(soup, self._lams(soup))
        if self.fisher:
            gathered.average_by_fisher()
        if self.initialisation is not None:
            gathered.add_initialisation(self.initialisation)
        for path in self.morl:
            gathered.add_morl(path, self._rewards)
        for expert, folder in self.trajectories.items():
            gathered.add_trajectory(expert, folder)
        gathered.check_unique()
        # One soup over everything lets a task evaluate all points in one batch: what is no expert is a vertex.
        everything = Soup(
            gathered.states,
            trainable_keys=soup.trainable_keys,
            extrapolate=self.extrapolate,
            space=soup.space,
            adapters=gathered.adapters,
        )
        seeds = {i.info.config.get("seed", 0) for i in soup.ingredients.values()}
        meta = ScoreMeta(
            task=self.module.task,
            rewards=self._rewards,
            experts=tuple(soup.names),
            space="predictions" if self.ensemble else "fisher" if self.fisher else soup.space,
            initialisation=soup.initialisation,
            trained_on={name: i.info.reward for name, i in soup.ingredients.items()},
            extras=gathered.costs(),
        )
        self._loaded = (everything, gathered.points, meta, int(min(seeds)))

    def _lams(self, soup: Soup) -> list[dict[str, Fraction]]:
        if isinstance(self.lattice, int):
            return [dict(zip(soup.names, lam, strict=True)) for lam in lattice(len(soup.names), self.lattice)]
        return [soup.coefficients(lam) for lam in self.lattice]

    # -- evaluation -----------------------------------------------------------------------------------------------

    def _to_device(self) -> None:
        """Brings the experts to the policy's device, which ``setup`` runs too early to know."""
        assert self._loaded is not None, "setup loads"
        if self.device.type == "cpu":
            return  # memory-mapped files stay so
        soup, points, meta, seed = self._loaded
        states = {name: {k: v.to(self.device) for k, v in state.items()} for name, state in soup.states.items()}
        moved = Soup(
            states,
            trainable_keys=soup.trainable_keys,
            extrapolate=self.extrapolate,
            space=soup.space,
            adapters=soup.adapters,
        )
        self._loaded = (moved, points, meta, seed)

    def on_validation_start(self) -> None:
        """Brings the experts to the policy's device."""
        self._to_device()

    def on_test_start(self) -> None:
        """Brings the experts to the policy's device."""
        self._to_device()

    @property
    def points(self) -> list[tuple[str, str]]:
        """Kind and label of every point, in the order in which a step gives samples."""
        assert self._loaded is not None, "setup loads"
        return [(point.kind, point.label) for point in self._loaded[1]]

    @property
    def soup(self) -> Soup:
        """Everything that is evaluated as one soup: what is no expert is a vertex beside them."""
        assert self._loaded is not None, "setup loads"
        return self._loaded[0]

    @property
    def meta(self) -> ScoreMeta:
        """What its score table is about."""
        assert self._loaded is not None, "setup loads"
        return self._loaded[2]

    @property
    def lams(self) -> list[dict[str, Fraction]]:
        """λ of every point in `soup`, in the order of `points`."""
        assert self._loaded is not None, "setup loads"
        soup, points, _, _ = self._loaded
        shares = [point.lam if point.state is None else {point.state: Fraction(1)} for point in points]
        return [{name: lam.get(name, Fraction(0)) for name in soup.names} for lam in shares]

    def _step(self, batch: Any, batch_idx: int) -> list[Samples]:
        assert self._loaded is not None, "setup loads"
        soup, _, _, seed = self._loaded
        noise = stream_seed(seed, "evaluation", batch_idx)
        evaluate = self.module.evaluate_ensembles if self.ensemble else self.module.evaluate_soups
        # One policy under two names (an expert is MORL with all weight on its reward) is evaluated once.
        lams, places = distinct(self.lams)
        once = evaluate(batch, noise, soup, lams)
        found = [once[place] for place in places]
        for index, samples in enumerate(found):
            for name, values in samples.scores.items():
                self._rows.append((index, name, list(samples.items), values.double().tolist()))
        return found

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, list[Samples]]:
        """Evaluates every point on one batch; callbacks get the ``samples`` of each."""
        return {"samples": self._step(batch, batch_idx)}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, list[Samples]]:
        """Evaluates every point on one batch; callbacks get the ``samples`` of each."""
        return {"samples": self._step(batch, batch_idx)}

    def on_validation_epoch_end(self) -> None:
        """Writes the score table and logs the front."""
        self._finish()

    def on_test_epoch_end(self) -> None:
        """Writes the score table and logs the front."""
        self._finish()

    def _finish(self) -> None:
        rows, self._rows = [row for rank in gather_states(self._rows) for row in rank], []
        if self.trainer.sanity_checking or not self.trainer.is_global_zero or not rows:
            return
        table = self._table(rows)
        path = Path(self.out or self.trainer.default_root_dir) / "scores.parquet"
        write_scores(table, path)
        self._log(table)
        count = table.frame["item"].nunique()
        rank_zero_info(f"{len(table.frame)} scores of {count} items written to {path}")

    def _table(self, rows: list[tuple[int, str, list[Any], list[float]]]) -> ScoreTable:
        assert self._loaded is not None, "setup loads"
        _, points, meta, seed = self._loaded
        collected = ScoreRows(meta)
        for index, reward, items, scores in rows:
            point = points[index]
            lam = {k: float(v) for k, v in point.lam.items()} if point.kind == "soup" else None
            collected.add(seed, point.kind, point.label, items, reward, scores, lam=lam, mu=point.mu)
        return collected.table()

    def _log(self, table: ScoreTable) -> None:
        """Each reward along the lattice, and a figure of the front, in TensorBoard."""
        soup = Front.from_table(table, "soup")
        for logger in self.loggers:
            for step, row in enumerate(soup.scores):
                logger.log_metrics(
                    {f"sweep/{name}": float(row[k]) for k, name in enumerate(table.meta.rewards)}, step=step
                )
            if isinstance(logger, TensorBoardLogger) and len(table.meta.rewards) > 1:
                others = {k: Front.from_table(table, k) for k in table.kinds()}
                figure = plot_front(soup, morl=others.get("morl"), initialisation=others.get("initialisation"))
                logger.experiment.add_figure("front", figure, close=False)
