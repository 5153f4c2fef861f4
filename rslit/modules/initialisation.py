"""Putting an initialisation's weights into a policy."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import nn

from rslit.errors import RslitError
from rslit.soup import Ingredient

__all__ = ["load_initialisation"]


def load_initialisation(policy: nn.Module, path: str, task_class: str, trainable_keys: Collection[str]) -> None:
    """Loads an ingredient's weights and buffers into a policy of the same task and sizes.

    Args:
        policy: The policy, as it was built.
        path: Ingredient folder.
        task_class: Import path of the task's class, which the ingredient must carry too.
        trainable_keys: Names of the policy's weights that training changes.

    Raises:
        RslitError: The ingredient is missing, broken, of another task, or of another shape.
    """
    ingredient = Ingredient.load(Path(path))
    if ingredient.info.task != task_class:
        raise RslitError(f"initialisation: {path} is of task {ingredient.info.task}, this is {task_class}")
    new, own = ingredient.state_dict(), policy.state_dict()
    weights = dict(policy.named_parameters())
    wanted = {k for k in own if k in trainable_keys or k not in weights}
    if wanted != set(new):
        odd = ", ".join(sorted(wanted ^ set(new))[:3])
        raise RslitError(f"initialisation: {path} has not this policy's weights ({odd}, ...)")
    for key, value in new.items():
        if own[key].shape != value.shape:
            raise RslitError(
                f"initialisation: {key} is {tuple(value.shape)} in {path} and "
                f"{tuple(own[key].shape)} in the policy; give both the same sizes"
            )
    policy.load_state_dict(new, strict=False)
