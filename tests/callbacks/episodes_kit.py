"""The point on a line as something to draw, and sweeps that draw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from toy_posed import PosedPointEnvironment as PosedPointEnvironment

from rslit.callbacks import EpisodeCallback
from rslit.datamodules import LocomotionDataModule
from rslit.modules import InterpolationEvaluator, LocomotionModule
from rslit.rewards import TermsReward
from rslit.soup import IngredientInfo, dtype_name, fingerprint, write_ingredient

RISKY = TermsReward({"x_velocity": 1.0}, "risky")
CAUTIOUS = TermsReward({"x_velocity": 1.0, "energy": -1.0}, "cautious")


def module_of(env: Any, seed: int = 0) -> LocomotionModule:
    torch.manual_seed(seed)
    return LocomotionModule(env, RISKY, [RISKY, CAUTIOUS], policy_layers=[8], value_layers=[8])


def ingredients(env: Any, root: Path) -> dict[str, str]:
    """Experts with weights of their own and the same initialisation; their folders by name."""
    start, folders = module_of(env).policy_state(), {}
    for k, name in enumerate(("risky", "cautious")):
        module = module_of(env, seed=k + 1)
        state = module.policy_state()
        info = IngredientInfo(
            name,
            module.task_class,
            name,
            0,
            fingerprint(start),
            module.trainable_keys,
            dtype_name(state, module.trainable_keys),
        )
        write_ingredient(root / name, state, info)
        folders[name] = str(root / name)
    return folders


def trainer_of(root: Path, *callbacks: EpisodeCallback) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        callbacks=list(callbacks),
    )


def sweep(root: Path, env: Any, callback: EpisodeCallback, verb: str = "validate", **evaluator: Any) -> dict[str, Any]:
    """Runs a sweep over λ = 1, 1/2, 0 with the callback; returns the experts' states by name."""
    folders = ingredients(env, root / "ingredients")
    model = InterpolationEvaluator(module_of(env), folders, **{"lattice": 2, **evaluator})
    trainer = trainer_of(root, callback)
    getattr(trainer, verb)(model, LocomotionDataModule(eval_episodes=3), verbose=False)
    return {name: module_of(env, seed=k + 1).policy_state() for k, name in enumerate(folders)}


def poured(env: Any, states: dict[str, Any], lam: dict[str, float]) -> LocomotionModule:
    """θ_λ = Σ λ_i θ_i by hand."""
    module = module_of(env)
    own = module.policy_state()
    keys = module.trainable_keys
    mixed = {k: sum(w * states[n][k] for n, w in lam.items()) if k in keys else v for k, v in own.items()}
    module.policy.load_state_dict(mixed)
    return module
