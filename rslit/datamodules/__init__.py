"""Data of each task, in the field's own formats."""

from rslit.datamodules.base import RewardedDataModule
from rslit.datamodules.locomotion import LocomotionDataModule

__all__ = ["LocomotionDataModule", "RewardedDataModule"]
