"""A progress bar that fits on a line."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

__all__ = ["RewardedProgressBar"]


class RewardedProgressBar(RichProgressBar):
    """Lightning's Rich bar, with short names and without the logger's version."""

    _SHORT = {"objective/scores": "reward", "objective/kl": "kl", "objective/rlhf_reward": "rlhf"}  # noqa: RUF012

    def __init__(self) -> None:
        """Refreshes once per few steps: drawing costs as much as a small policy's step."""
        super().__init__(refresh_rate=10)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The metrics to show."""
        metrics = super().get_metrics(trainer, pl_module)
        return {self._SHORT.get(k, k): v for k, v in metrics.items() if k != "v_num"}
