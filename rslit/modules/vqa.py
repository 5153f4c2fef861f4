"""Visual question answering (paper, section 3.5 and appendix G)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rslit.errors import RslitError
from rslit.language import Answers
from rslit.modules.vision import VisionModule
from rslit.samples import Samples
from rslit.vision.families.base import token_ids

__all__ = ["VqaModule"]

# Answers of people hold typing errors and rare signs: some that the tokenizer cannot write are no fault.
_UNWRITABLE = 0.1


class VqaModule(VisionModule):
    """Answers to questions about images. Samples have ``question``, ``answer``, ``answers`` and ``image``."""

    task = "vqa"
    asks = "question"

    def setup(self, stage: str) -> None:
        """Before training, checks that the policy's vocabulary fits the training answers.

        Raises:
            RslitError: More than a tenth of them has words that the tokenizer does not know.
        """
        data: Any = getattr(self._trainer, "datamodule", None)
        if stage == "fit" and data is not None and self.parts.tokenizer.unk_token_id is not None:
            self._check_vocabulary([row.answers for row in data.rows("train")])

    def _check_vocabulary(self, answers: Sequence[Sequence[str]]) -> None:
        counts = Counter(answer for several in answers for answer in several)
        texts, unknown = list(counts), self.parts.tokenizer.unk_token_id
        unwritable = [
            text for text, ids in zip(texts, token_ids(self.parts.tokenizer, texts), strict=True) if unknown in ids
        ]
        share = sum(counts[text] for text in unwritable) / counts.total()
        if share > _UNWRITABLE:
            most = max(unwritable, key=lambda text: counts[text])
            raise RslitError(
                f"policy.base: its tokenizer cannot write {share:.0%} of the training answers, such as '{most}'; give "
                "a model, or policy.processor, whose vocabulary fits the answers"
            )

    def samples(self, batch: Mapping[str, Sequence[Any]], answers: Answers, group: int) -> Samples:
        """See :meth:`VisionModule.samples`."""
        said = self.parts.text(answers.tokens, answers.mask)
        return self.repeated(batch, group, ("question", "answers", "image"), answer=said)

    def targets(self, batch: Mapping[str, Sequence[Any]]) -> list[list[int]]:
        """One annotator's answer to each question, as the datamodule chose it."""
        return self.parts.tokens(batch["target"])
