"""The point on a line as something to draw."""

from __future__ import annotations

import mujoco
import torch
from torch import Tensor
from toy_env import PointEnvironment, PointEpisodes


class PosedPointEpisodes(PointEpisodes):
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom type='plane' size='0 0 1'/>"
        "<body><joint type='slide' axis='1 0 0'/><geom size='0.1'/></body></worldbody></mujoco>"
    )
    seconds = 0.1

    def pose(self) -> Tensor:
        return torch.tensor([[float(self.observations[0, 0]), 0, 0.1, 1, 0, 0, 0]])


class PosedPointEnvironment(PointEnvironment):
    """The point on a line as a ball that can be drawn."""

    def episodes(self, seeds: Tensor, *, auto_reset: bool = True) -> PosedPointEpisodes:
        return PosedPointEpisodes(self, seeds, auto_reset)
