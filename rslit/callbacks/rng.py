"""Random number generators in the checkpoint (Lightning leaves them out, #8476)."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from rslit.distributed import gather_states, own_state

__all__ = ["RNGCallback"]


def _current() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    keys: Any = np.random.get_state(legacy=True)  # typed as a union with the new form
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [str(keys[0]), [int(w) for w in keys[1]], *(float(x) for x in keys[2:])],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


class RNGCallback(Callback):
    """Saves the states of python's, numpy's, torch's and CUDA's generators, of every rank, and restores them.

    Only tensors and primitives are stored, so checkpoints load with ``weights_only=True``. Our own modules draw from
    named streams (:mod:`rslit.seeds`) and need none of this; it is for user code that draws from the global generators.
    """

    def __init__(self) -> None:
        """Starts with nothing to restore."""
        self._restore: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The generators of all ranks."""
        return {"ranks": gather_states(_current())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remembers the states; they are put in place when loading, which draws numbers itself, is over."""
        self._restore = own_state(state_dict["ranks"], "random state")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores; `on_train_start` would be too late, the loader's iterator exists by then."""
        if self._restore is None:
            return
        state, self._restore = self._restore, None
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, pos, has_gauss, cached = state["numpy"]
        np.random.set_state((name, np.array(keys, np.uint32), int(pos), int(has_gauss), cached))
        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
