"""Simulators for locomotion: Brax, Gymnasium and MO-Gymnasium behind one small protocol."""

from rslit.envs.base import ENERGY, Environment, Episodes, PosedEpisodes, Step
from rslit.envs.brax import BraxEnvironment
from rslit.envs.gymnasium import GymnasiumEnvironment

__all__ = ["ENERGY", "BraxEnvironment", "Environment", "Episodes", "GymnasiumEnvironment", "PosedEpisodes", "Step"]
