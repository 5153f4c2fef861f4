"""Which of a module's tensors are kept on disk, and how an initialisation's come back into a policy."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from rslit.errors import RslitError
from rslit.soup import Ingredient

__all__ = ["kept_keys", "load_initialisation"]


def kept_keys(module: nn.Module) -> set[str]:
    """Names of the trainable weights and of the buffers; of tied weights only the first name.

    Under an adapter only its weights: buffers are then the frozen base's (Florence-2's table of positions).
    """
    weights = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    return trainable if hasattr(module, "peft_config") else trainable | (set(module.state_dict()) - weights)


def load_initialisation(policy: nn.Module, path: str, task_class: str) -> None:
    """Loads an ingredient's weights and buffers into a policy of the same task and sizes.

    Args:
        policy: The policy, as it was built.
        path: Ingredient folder.
        task_class: Import path of the task's class, which the ingredient must carry too.

    Raises:
        RslitError: The ingredient is missing, broken, of another task, or of another shape.
    """
    ingredient = Ingredient.load(Path(path))
    if ingredient.info.task != task_class:
        raise RslitError(f"initialisation: {path} is of task {ingredient.info.task}, this is {task_class}")
    new, own = ingredient.state_dict(), policy.state_dict()
    wanted = kept_keys(policy)
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
