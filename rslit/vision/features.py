"""What a frozen image encoder makes of images, kept so that it looks at each image once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rslit.vision.policy import VisionPolicy

__all__ = ["FeatureCache"]


class FeatureCache:
    """Batches of a policy, with the features of images seen before.

    Epochs, the λ of a sweep and several questions about one image then take neither decoding of images nor passes of
    the encoder. Features are kept on the CPU in the encoder's dtype; beyond `gib` those that were used longest ago go.
    With an image encoder that is trained nothing is kept.

    Args:
        parts: The policy.
        gib: Memory for features, GiB; 0 keeps nothing.
    """

    def __init__(self, parts: VisionPolicy, gib: float) -> None:
        self.parts = parts
        self.limit = int(gib * 2**30)
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0

    def encode(
        self, batch: Mapping[str, Sequence[Any]], texts: Sequence[str] | None, device: torch.device
    ) -> dict[str, Tensor]:
        """A batch of the policy for a batch of a datamodule.

        Args:
            batch: Has ``items`` and ``image``.
            texts: What the policy is asked about each image; None: nothing.
            device: Where the batch goes.
        """
        from rslit.vision.images import load_images  # Pillow

        if not self.parts.frozen_encoder:
            return self.parts.encode(load_images(batch), texts, device)
        names = [str(image) for image in batch["image"]]
        first = {name: names.index(name) for name in dict.fromkeys(names)}
        fresh = {name: row for name, row in first.items() if name not in self._held}
        found = {name: self._held[name] for name in first if name in self._held}
        if fresh:
            some = {key: [batch[key][row] for row in fresh.values()] for key in batch}
            pixels = self.parts.pixels(load_images(some), device)
            with torch.no_grad():
                found |= zip(fresh, self.parts.look(pixels).cpu(), strict=True)
        features = torch.stack([found[name] for name in names]).to(device)
        for name in first:
            self._keep(name, found[name])
        return {"image_features": features, **self.parts.ask(texts, len(names), device)}

    def _keep(self, name: str, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if size > self.limit:
            return
        if name not in self._held:
            self._bytes += size
            self._held[name] = features.clone()  # not a view that keeps its whole batch alive
        self._held.move_to_end(name)
        while self._bytes > self.limit:
            _, gone = self._held.popitem(last=False)
            self._bytes -= gone.numel() * gone.element_size()
