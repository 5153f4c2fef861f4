"""Visual grounding: boxes of what expressions refer to (paper, section 3.4 and appendix F)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rslit.errors import RslitError
from rslit.language import Answers
from rslit.modules.vision import VisionModule
from rslit.samples import Samples
from rslit.vision.box_codecs import BoxCodec
from rslit.vision.box_tokens import BoxTokens

__all__ = ["GroundingModule"]


class GroundingModule(VisionModule):
    """Boxes by location tokens.

    Samples have ``expression``, ``box`` and ``target`` (float32 (B, 4), x0, y0, x1, y1 in pixels of the original image;
    NaN where the answer is no box), ``image_size`` (int64 (B, 2)) and ``image``. With ``cross_entropy: 1``,
    ``reinforce: 5`` and no baseline the loss is the paper's, -(log p(target) + 5 R log p(answer)); the released code's
    first term is not teacher-forced, this one is.
    """

    task = "grounding"
    asks = "expression"

    def __init__(self, *args: Any, codec: BoxCodec, **kwargs: Any) -> None:
        """Loads the policy.

        Args:
            args: See :class:`VisionModule`.
            codec: How boxes are written in tokens.
            kwargs: See :class:`VisionModule`.

        Raises:
            RslitError: The tokenizer has no location tokens, or answers may not be as long as a box.
        """
        super().__init__(*args, **kwargs)
        self.boxes = BoxTokens(codec, self.parts.tokenizer)
        # What stands before and behind every answer of this policy: an empty one is only that.
        frame, ends = self.parts.tokens([""])[0], len(self.parts.eos_ids[:1])
        self._opening, self._ended = frame[: len(frame) - ends], frame[len(frame) - ends :]
        needed = len(self._opening) + self.boxes.length
        lengths = {
            "sampling.max_new_tokens": self.sampling.max_new_tokens,
            "evaluation.max_new_tokens": self.evaluation.max_new_tokens,
            "max_target_tokens": self.max_target_tokens,
        }
        for name, length in lengths.items():
            if length < needed:
                raise RslitError(f"{name}: {length} tokens cannot hold a box of {type(codec).__name__}; give {needed}")

    def samples(self, batch: Mapping[str, Sequence[Any]], answers: Answers, group: int) -> Samples:
        """See :meth:`VisionModule.samples`."""
        found = self.repeated(batch, group, ("expression", "image"))
        sizes = torch.tensor(batch["image_size"]).repeat_interleave(group, 0)
        ids = answers.tokens.cpu().masked_fill(~answers.mask.cpu(), self.parts.pad_id)
        fields = {
            "box": self.boxes.decode(ids, sizes),
            "target": torch.tensor(batch["box"], dtype=torch.float32).repeat_interleave(group, 0),
            "image_size": sizes,
        }
        return Samples(found.items, {**found.fields, **fields})

    def targets(self, batch: Mapping[str, Sequence[Any]]) -> list[list[int]]:
        """The tokens of each box."""
        boxes, sizes = torch.tensor(batch["box"], dtype=torch.float64), torch.tensor(batch["image_size"])
        ids = self.boxes.encode(boxes, sizes, batch["items"]).tolist()
        return [[*self._opening, *row, *self._ended] for row in ids]
