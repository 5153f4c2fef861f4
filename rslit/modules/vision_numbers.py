"""From scored answers about images to advantages and to the numbers that are logged.

Notation: N images, G answers to each.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rslit.distributed import mean_over_ranks
from rslit.language import Answers
from rslit.modules.numbers import mean_numbers
from rslit.objectives import greedy_advantages, leave_one_out_advantages
from rslit.samples import Samples
from rslit.vision.answers import Baseline

__all__ = ["baseline_advantages", "rollout_numbers"]


def baseline_advantages(baseline: Baseline, scores: Tensor, greedy: Tensor | None) -> Tensor:
    """How much better each answer is than what it is compared with.

    Args:
        baseline: What that is, see :class:`rslit.vision.AnswerSampling`.
        scores: float32 (N, G).
        greedy: float32 (N,), scores of the greedy answers, for that baseline.

    Returns:
        float32 (N, G).
    """
    if baseline == "leave_one_out":
        return leave_one_out_advantages(scores)
    if baseline == "greedy":
        assert greedy is not None, "the module decodes them"
        return greedy_advantages(scores.flatten(), greedy.repeat_interleave(scores.shape[1])).view_as(scores)
    if baseline == "batch_mean":
        return scores - mean_over_ranks(scores.mean())
    return scores


def rollout_numbers(samples: Samples, scores: Tensor, answers: Answers, clock: Sequence[float]) -> dict[str, float]:
    """What to log of a rollout, over all ranks.

    Args:
        samples: The answers, with every reward as a score.
        scores: float32, what the policy is trained on.
        answers: The answers' tokens.
        clock: Times before sampling, after sampling and after the reward.
    """
    columns = {
        "objective/scores": scores,
        "completions/mean_length": answers.mask.sum(1),
        "completions/terminated_fraction": answers.finished,
    }
    spent = {"time/sampling": clock[1] - clock[0], "time/reward": clock[2] - clock[1]}
    return {**mean_numbers(columns, samples), **spent}
