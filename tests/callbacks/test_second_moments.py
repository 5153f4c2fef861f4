"""Second moments written beside ingredients: those of Adam, and good for `rslit soup --fisher`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from test_soup_callback import CAUTIOUS, RISKY, build, fit

from rslit.callbacks import SoupCallback
from rslit.cli import main
from rslit.errors import RslitError
from rslit.soup import Ingredient


class Squares(Callback):
    """Adam's second moment of every weight of the policy, from the gradients themselves, bias taken off."""

    def __init__(self) -> None:
        self.squares: dict[str, torch.Tensor] = {}
        self.steps = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.steps += 1
        policy: Any = pl_module.policy
        for name, parameter in policy.named_parameters():
            square = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.square()
            before = self.squares.get(name, torch.zeros_like(parameter))
            self.squares[name] = (0.999 * before + 0.001 * square).detach()


def test_they_are_adams_and_a_soup_weighs_by_them(tmp_path: Path) -> None:
    folders = []
    for reward in (RISKY, CAUTIOUS):
        script, module = Squares(), build(reward)
        module.gather_statistics = False  # as when fine-tuning: else the experts do not belong together
        fit(tmp_path / reward.name, SoupCallback(fisher=True), module, script)
        last = tmp_path / reward.name / "ingredients" / "last"
        found = load_file(last / "fisher.safetensors")
        assert sorted(found) == Ingredient.load(last).info.trainable_keys
        for key, moment in found.items():
            torch.testing.assert_close(moment, script.squares[key] / (1 - 0.999**script.steps), rtol=1e-4, atol=1e-12)
            assert moment.max() > 0
        folders.append(str(last))
    lam = "risky=1/2,cautious=1/2"
    assert main(["soup", "--ingredients", *folders, "--lam", lam, "--out", str(tmp_path / "out"), "--fisher"]) == 0


def test_without_adam_it_is_refused_before_training(tmp_path: Path) -> None:
    module = build()
    module.optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.01)
    with pytest.raises(RslitError, match="SGD keeps no second moments; train with Adam or AdamW"):
        fit(tmp_path, SoupCallback(fisher=True), module)
    assert not (tmp_path / "ingredients").exists()
