"""Random streams named by what they are for, so that nothing needs to remember how far it has drawn."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator", "stream_seed"]


def stream_seed(seed: int, *name: str | int) -> int:
    """A 63-bit seed for the stream `name` of an experiment with seed `seed`.

    The same arguments always give the same number; different ones, independent numbers (SHA-256).

    Args:
        seed: The experiment's seed.
        name: What the stream is for, e.g. ``("rollout", rank, index)``.
    """
    text = "/".join(str(part) for part in (seed, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of the stream `name`; see :func:`stream_seed`."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *name))
