"""Writes the policy as an ingredient while it trains."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save
from torch import Tensor

from rslit.callbacks.second_moments import check_optimizer, second_moments
from rslit.errors import RslitError
from rslit.modules.rewarded import RewardedModule
from rslit.rewards import WeightedSum
from rslit.soup import IngredientInfo, dtype_name, write_ingredient
from rslit.soup.fisher import FISHER

__all__ = ["SoupCallback"]


class SoupCallback(Callback):
    """Writes ingredients into ``<dirpath>/``: ``last``, ``best`` by a named score, and a trajectory ``epoch=0012``.

    ``last`` is written after every epoch, before the checkpoint of that epoch, so a run that is killed and resumed
    leaves the same ingredients as one left alone. The trajectory covers the whole run with at most `keep` snapshots:
    when it outgrows them, every second one goes and the interval doubles.
    """

    def __init__(
        self,
        every_n_epochs: int = 0,
        dirpath: str | None = None,
        expert: str | None = None,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        keep: int = 10,
        initialisation: bool = False,
        fisher: bool = False,
    ) -> None:
        """Takes what to write and where.

        Scores are those of the epoch's validation; an epoch without one has no scores and is never the best.

        Args:
            every_n_epochs: Interval of the trajectory in epochs; 0 keeps none.
            dirpath: Folder of the ingredients; default ``<default_root_dir>/ingredients``.
            expert: The expert's name, which λ refers to; default the training reward's name.
            monitor: Logged score that `best` goes by, e.g. ``val/locomotion/risky``; None writes no `best`.
            mode: Whether more is better.
            keep: Largest number of snapshots in the trajectory.
            initialisation: Also write what training starts from, as ``initialisation``: for tasks whose experts start
                from a model of the hub rather than from an ingredient.
            fisher: Also write Adam's second moments as the Fisher diagonal that ``rslit soup --fisher`` weighs by:
                ``fisher.safetensors``, in float32, of the trainable weights.
        """
        if every_n_epochs < 0 or keep < 2:
            raise RslitError("SoupCallback: every_n_epochs must be at least 0 and keep at least 2")
        self.every_n_epochs = every_n_epochs
        self.dirpath = dirpath
        self.expert = expert
        self.monitor = monitor
        self.mode = mode
        self.keep = keep
        self.initialisation = initialisation
        self.fisher = fisher
        self.best_score: float | None = None
        self._validated = False

    def _root(self, trainer: Trainer) -> Path:
        return Path(self.dirpath) if self.dirpath else Path(trainer.default_root_dir) / "ingredients"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a module that it cannot write, before anything is trained."""
        if not isinstance(pl_module, RewardedModule):
            raise RslitError(f"SoupCallback writes the policy of a RewardedModule, not {type(pl_module).__name__}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the initialisation, unless the run is resumed: then it is there."""
        assert isinstance(pl_module, RewardedModule)
        if self.fisher:
            check_optimizer(trainer.optimizers[0])
        if not self.initialisation or trainer.global_step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        state = pl_module.policy_state()  # a collective: on every rank
        if trainer.is_global_zero:
            info = self._info(trainer, pl_module, state, {})
            info = dataclasses.replace(info, expert="initialisation", reward="initialisation")
            path = self._root(trainer) / "initialisation"
            write_ingredient(path, state, info, pl_module.ingredient_files(state))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers that this epoch has scores."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what is due."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector
            return
        assert isinstance(pl_module, RewardedModule)
        state = pl_module.policy_state()  # a collective: on every rank
        moments = second_moments(pl_module, trainer.optimizers[0]) if self.fisher else None  # another one
        logged = trainer.callback_metrics if self._validated else {}
        scores = {k: float(v) for k, v in logged.items() if k.startswith(f"val/{pl_module.task}/")}
        better = self._is_better(trainer)
        if not trainer.is_global_zero:
            return
        root, epoch = self._root(trainer), trainer.current_epoch + 1
        info = self._info(trainer, pl_module, state, {k.split("/", 2)[2]: v for k, v in scores.items()})
        names = ["last"] + (["best"] if better else [])
        if self.every_n_epochs and epoch % self._interval(epoch) == 0:
            names.append(f"epoch={epoch:04d}")
        files = pl_module.ingredient_files(state) | ({} if moments is None else {FISHER: save(moments)})
        for name in names:
            write_ingredient(root / name, state, info, files)
        self._thin(root, epoch)

    def _is_better(self, trainer: Trainer) -> bool:
        validated, self._validated = self._validated, False
        if self.monitor is None or not validated:
            return False
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(k for k in trainer.callback_metrics if k.startswith("val/"))) or "none so far"
            raise RslitError(f"SoupCallback.monitor: no score '{self.monitor}' was logged; there are: {known}")
        value = float(trainer.callback_metrics[self.monitor])
        sign = 1 if self.mode == "max" else -1
        if math.isnan(value) or (self.best_score is not None and sign * value <= sign * self.best_score):
            return False
        self.best_score = value
        return True

    def _interval(self, epoch: int) -> int:
        interval = max(1, self.every_n_epochs)
        while epoch // interval > self.keep:
            interval *= 2
        return interval

    def _thin(self, root: Path, epoch: int) -> None:
        if not self.every_n_epochs:
            return
        interval = self._interval(epoch)
        for folder in root.glob("epoch=*"):
            number = folder.name.removeprefix("epoch=")
            if number.isdigit() and int(number) % interval:
                shutil.rmtree(folder)

    def _info(
        self, trainer: Trainer, module: RewardedModule, state: dict[str, Tensor], scores: dict[str, float]
    ) -> IngredientInfo:
        reward = module.reward
        config: dict[str, Any] = {"seed": module.seed, "run": module.config, **module.ingredient_record()}
        # Every rank has as many rows.
        config["samples"] = module.samples_done * trainer.world_size
        if isinstance(reward, WeightedSum):
            config["mu"] = {r.name: w for r, w in zip(reward.rewards, reward.weights, strict=True)}
        assert module.fingerprint is not None, "on_fit_start took it"
        return IngredientInfo(
            expert=self.expert or reward.name,
            task=module.task_class,
            reward=reward.name,
            step=trainer.global_step,
            initialisation=module.fingerprint,
            trainable_keys=module.trainable_keys,
            dtype=dtype_name(state, module.trainable_keys),
            scores=scores,
            config=config,
        )

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.best_score = state_dict["best_score"]
