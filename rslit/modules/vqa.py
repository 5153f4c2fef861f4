"""Visual question answering (paper, section 3.5 and appendix G)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rslit.language import Answers
from rslit.modules.vision import VisionModule
from rslit.samples import Samples

__all__ = ["VqaModule"]


class VqaModule(VisionModule):
    """Answers to questions about images. Samples have ``question``, ``answer``, ``answers`` and ``image``."""

    task = "vqa"
    asks = "question"

    def samples(self, batch: Mapping[str, Sequence[Any]], answers: Answers, group: int) -> Samples:
        """See :meth:`VisionModule.samples`."""
        said = self.parts.text(answers.tokens, answers.mask)
        return self.repeated(batch, group, ("question", "answers", "image"), answer=said)

    def targets(self, batch: Mapping[str, Sequence[Any]]) -> list[list[int]]:
        """One annotator's answer to each question, as the datamodule chose it."""
        return self.parts.tokens(batch["target"])
