"""How a vision-language policy answers, in training and in evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rslit.errors import RslitError

__all__ = ["AnswerDecoding", "AnswerSampling", "Baseline"]

Baseline = Literal["leave_one_out", "greedy", "batch_mean", "none"]


@dataclass
class AnswerSampling:
    """How answers are sampled in training.

    Attributes:
        samples: Answers to each image (with its question or expression).
        max_new_tokens: Longest answer.
        temperature: Logits are divided by it.
        baseline: What an answer's reward is compared with: the mean of the other answers to the image (self-critical
            training with a leave-one-out baseline, the paper's captioning), the greedy answer (Rennie et al. 2017), the
            mean of the rollout, or nothing (the paper's visual grounding).
        stop_at_eos: Whether an end token ends an answer.
    """

    samples: int = 5
    max_new_tokens: int = 20
    temperature: float = 1.0
    baseline: Baseline = "leave_one_out"
    stop_at_eos: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.samples < 1 or self.max_new_tokens < 1 or not self.temperature > 0:
            raise RslitError("sampling: samples and max_new_tokens must be at least 1, temperature above 0")
        if self.baseline == "leave_one_out" and self.samples < 2:
            raise RslitError("sampling.baseline: leave_one_out needs at least 2 samples; raise sampling.samples")


@dataclass
class AnswerDecoding:
    """How answers are decoded in evaluation.

    Attributes:
        max_new_tokens: Longest answer.
        num_beams: Beams of a search; 1 is greedy.
        sample: Sample instead, with the same noise for every λ.
        rows: Answers decoded side by side in a sweep of LoRA experts, over all λ: a matter of memory.
    """

    max_new_tokens: int = 20
    num_beams: int = 1
    sample: bool = False
    rows: int = 256

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.max_new_tokens, self.num_beams, self.rows) < 1:
            raise RslitError("evaluation: max_new_tokens, num_beams and rows must be at least 1")
        if self.sample and self.num_beams > 1:
            raise RslitError("evaluation: beams are for decoding without sampling; give one of the two")
