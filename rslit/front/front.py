"""A front: scores of the policies over λ (or μ), with dominance, hypervolume and LMC slack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rslit.errors import RslitError
from rslit.front.arrays import score_array
from rslit.front.lmc import expert_points, slack_matrix
from rslit.front.scores import ScoreTable
from rslit.front.statistics import mean_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Front"]


class Front:
    """M points with K rewards each, higher is better; with λ when they are a soup.

    Args:
        scores: (M, K), finite, each reward in its own unit.
        lams: λ (M, N), finite, rows sum to 1; None for points that are no soup.
        rewards: K names; `reward 1`, `reward 2`, ... if left out.
        experts: N names; `expert 1`, `expert 2`, ... if left out.
        labels: M names of the points; from λ if left out.

    Raises:
        RslitError: A shape does not fit, a score is not finite, or a λ does not sum to 1.

    Example:
        >>> front = Front([[1.0, 0.0], [0.6, 0.7], [0.0, 1.0]], lams=[[1, 0], [0.5, 0.5], [0, 1]])
        >>> front.nondominated().tolist()
        [True, True, True]
        >>> round(front.hypervolume([0.0, 0.0]), 2)
        0.42
        >>> front.lmc_slack().round(2).tolist()
        [[0.0, 0.0], [0.1, 0.2], [0.0, 0.0]]
    """

    def __init__(
        self,
        scores: ArrayLike,
        lams: ArrayLike | None = None,
        rewards: Sequence[str] | None = None,
        experts: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.scores: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
        if self.scores.ndim != 2 or self.scores.size == 0:
            raise RslitError(f"scores of shape {self.scores.shape} are no front; give (points, rewards), neither empty")
        points, k = self.scores.shape
        self.rewards = _names("reward", rewards, k)
        bad = np.argwhere(~np.isfinite(self.scores))
        if len(bad):
            raise RslitError(
                f"score of reward '{self.rewards[bad[0][1]]}' at point {bad[0][0]} is "
                f"{self.scores[tuple(bad[0])]}; a front needs finite scores"
            )
        self.lams: NDArray[np.float64] | None = None
        self.experts: tuple[str, ...] = ()
        if lams is not None:
            self.lams = np.asarray(lams, dtype=np.float64)
            if self.lams.ndim != 2 or len(self.lams) != points:
                raise RslitError(f"λ of shape {self.lams.shape} do not fit {points} points; give (points, experts)")
            if not (np.abs(self.lams.sum(axis=1) - 1) < 1e-6).all():
                raise RslitError("some λ does not sum to 1; give interpolation coefficients of all experts")
            self.experts = _names("expert", experts, self.lams.shape[1])
        self.labels = self._labels() if labels is None else _names("point", labels, points)

    @classmethod
    def from_table(cls, table: ScoreTable, kind: str = "soup") -> Front:
        """Front of the mean scores, over the seeds and over the items that all points share.

        Raises:
            RslitError: The table has no such kind, or its points share no item.
        """
        array = score_array(table, kind)
        soup = kind == "soup"
        return cls(
            mean_scores(array.values),
            lams=array.weights if soup else None,
            rewards=table.meta.rewards,
            experts=table.meta.experts if soup else None,
            labels=array.points,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def nondominated(self) -> NDArray[np.bool_]:
        """Mask (M,): no other point is at least as good on every reward and better on one. Equal points stay."""
        return np.asarray(moocore.is_nondominated(self.scores, maximise=True, keep_weakly=True), dtype=np.bool_)

    def hypervolume(self, reference: ArrayLike) -> float:
        """Volume dominated by the front above the reference point, exact (moocore).

        Points that are not better than the reference on every reward add nothing: see `outside`. There is no default
        reference: the choice decides which fronts win, so make it before looking and report it.

        Args:
            reference: (K,), in the rewards' units.

        Returns:
            The product of the rewards' units.

        Raises:
            RslitError: The reference is not K finite numbers.
        """
        return float(moocore.hypervolume(self.scores, ref=self._reference(reference), maximise=True))

    def outside(self, reference: ArrayLike) -> int:
        """Number of points that are not strictly better than the reference (K,) on every reward.

        Raises:
            RslitError: The reference is not K finite numbers.
        """
        return int((~(self.scores > self._reference(reference)).all(axis=1)).sum())

    def expert_points(self) -> NDArray[np.int64]:
        """Index (N,) of each expert among the points.

        Raises:
            RslitError: The front has no λ, or lacks an expert.
        """
        return expert_points(self._soup(), self.experts)

    def has_experts(self) -> bool:
        """Whether the front is a soup with all its experts among the points."""
        try:
            self.expert_points()
        except RslitError:
            return False
        return True

    def lmc_slack(self) -> NDArray[np.float64]:
        """LMC slack (M, K) = score(λ) - Σ_i λ_i score(expert i), in the rewards' units; Hypothesis 1 says >= 0.

        Raises:
            RslitError: The front has no λ, or lacks an expert (a vertex of λ).
        """
        return np.asarray(slack_matrix(self._soup(), self.experts) @ self.scores)

    def to_frame(self) -> pd.DataFrame:
        """One row per point: `point`, `lam.<expert>`, a column per reward, `nondominated`, `slack.<reward>`.

        λ columns are there for a soup, slack columns when all experts are among the points too.
        """
        columns: dict[str, Any] = {"point": list(self.labels)}
        if self.lams is not None:
            columns |= {f"lam.{expert}": self.lams[:, n] for n, expert in enumerate(self.experts)}
        columns |= {reward: self.scores[:, k] for k, reward in enumerate(self.rewards)}
        columns["nondominated"] = self.nondominated()
        if self.has_experts():
            slack = self.lmc_slack()
            columns |= {f"slack.{reward}": slack[:, k] for k, reward in enumerate(self.rewards)}
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None, rewards: Sequence[str] | None = None) -> Axes:
        """Draw two rewards of the front: soup in λ order with its chord, dominated points hollow.

        Args:
            ax: Where to draw; a new figure's axes if left out (`ax.figure.savefig(...)` writes it).
            rewards: The two rewards to draw; the first two if left out.

        Raises:
            RslitError: Not two rewards of the front.
        """
        from rslit.front.plots import draw_front, new_axes

        return draw_front(new_axes() if ax is None else ax, self, rewards=rewards)

    def _soup(self) -> NDArray[np.float64]:
        if self.lams is None:
            raise RslitError("the front has no λ, so no experts to interpolate; give lams=")
        return self.lams

    def _labels(self) -> tuple[str, ...]:
        if self.lams is None:
            return tuple(f"point {m + 1}" for m in range(len(self.scores)))
        return tuple(
            ",".join(f"{expert}={value:.4g}" for expert, value in zip(self.experts, row, strict=True))
            for row in self.lams
        )

    def _reference(self, reference: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(reference, dtype=np.float64)
        if array.shape != (len(self.rewards),) or not np.isfinite(array).all():
            raise RslitError(
                f"reference {array.tolist()} does not fit; give one finite number for each of {', '.join(self.rewards)}"
            )
        return array


def _names(word: str, names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{word} {number + 1}" for number in range(count))
    if len(names) != count:
        raise RslitError(f"{len(names)} {word} names were given for {count} {word}s; give one each")
    return tuple(names)
