"""What a sweep evaluates: soups over λ, the initialisation, MORL solutions, and experts on their way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from rslit.errors import RslitError
from rslit.soup import Ingredient, Soup, fingerprint, fisher_mean, format_lam, load_fisher
from rslit.soup.adapters import Adapter
from rslit.soup.checks import adapter_of, origin

__all__ = ["SweepPoint", "SweepPoints", "distinct"]


@dataclass(frozen=True)
class SweepPoint:
    """One policy to evaluate: a row of the score table's `point` column.

    Attributes:
        kind: `soup`, `initialisation`, `morl` or `trajectory`.
        label: Its name.
        lam: λ over every state of the stack, experts and others; states left out weigh 0.
        mu: Weights of the rewards, of MORL.
        state: The one state it is, where that is not what λ interpolates.
    """

    kind: str
    label: str
    lam: Mapping[str, Fraction]
    mu: Mapping[str, float] | None = None
    state: str | None = None


class SweepPoints:
    """Collects the points of a sweep, and the states that they are made of.

    Attributes:
        points: The points so far.
        states: State dict by name: the experts', and one for each other policy.
        adapters: Adapter config by the same names, of LoRA.
    """

    def __init__(self, soup: Soup, lams: Sequence[Mapping[str, Fraction]]) -> None:
        """Begins with the soups of the experts."""
        self._soup = soup
        self.states: dict[str, Mapping[str, Tensor]] = dict(soup.states)
        self.adapters: dict[str, Adapter] = dict(soup.adapters)
        self.points = [SweepPoint("soup", format_lam(lam), lam) for lam in lams]
        self._morl: list[Ingredient] = []
        self._seen = {fingerprint(state): name for name, state in self.states.items()}

    def average_by_fisher(self) -> None:
        """Replaces every soup by the Fisher-weighted average at its λ, a state of its own (`rslit.soup.fisher`).

        Raises:
            RslitError: An ingredient has no Fisher, or λ is negative somewhere.
        """
        soup = self._soup
        fishers = {name: load_fisher(ingredient) for name, ingredient in soup.ingredients.items()}
        for k, point in enumerate(self.points):
            if point.kind == "soup" and max(point.lam.values()) != 1:
                name = f"fisher {point.label}"
                mean = fisher_mean(soup.states, soup.trainable_keys, point.lam, fishers)
                # Frozen buffers are the experts'.
                first = next(iter(soup.states.values()))
                self.states[name] = {**first, **{key: value.to(first[key].dtype) for key, value in mean.items()}}
                if self.adapters:
                    self.adapters[name] = next(iter(self.adapters.values()))
                self.points[k] = replace(point, state=name)

    def add_initialisation(self, path: str) -> None:
        """Adds what the experts started from.

        Raises:
            RslitError: They did not start from it.
        """
        start = Ingredient.load(path)
        begun = {ingredient.info.initialisation for ingredient in self._soup.ingredients.values()}
        if fingerprint(start.state_dict()) not in begun:
            raise RslitError(f"initialisation: the experts did not start from {path}; give what they started from")
        self._add("initialisation", "initialisation", start)

    def add_morl(self, path: str, rewards: Sequence[str]) -> None:
        """Adds a MORL solution, or an expert: all weight on one reward.

        Raises:
            RslitError: It has no weighting of the rewards, or is a stranger.
        """
        ingredient = Ingredient.load(path)
        info = ingredient.info
        mu = info.config.get("mu")
        if mu is None and info.reward in rewards:
            mu = {info.reward: 1.0}  # an expert is MORL with all weight on its own reward
        if mu is None:
            raise RslitError(
                f"morl: {path} was trained on '{info.reward}', no weighting of the rewards; name MORL solutions"
            )
        unknown = [name for name in mu if name not in rewards]
        if unknown:
            raise RslitError(
                f"morl: {path} weighs '{unknown[0]}', which is no evaluation reward; add it to those of module"
            )
        self._check_origin(f"morl: {path}", ingredient)
        mu = {str(k): float(v) for k, v in mu.items()}
        self._morl.append(ingredient)
        self._add("morl", "mu " + ",".join(f"{k}={v:g}" for k, v in mu.items()), ingredient, mu)

    def add_trajectory(self, expert: str, folder: str) -> None:
        """Adds an expert on its way: the ingredients `epoch=…` that `SoupCallback.every_n_epochs` left.

        Raises:
            RslitError: There is no such expert or no such ingredient, or one is a stranger.
        """
        if expert not in self._soup.names:
            raise RslitError(f"trajectories: '{expert}' is no expert; name one of {', '.join(self._soup.names)}")
        found = sorted(Path(folder).glob("epoch=*"))
        if not found:
            raise RslitError(
                f"trajectories: {folder} has no ingredients epoch=…; train '{expert}' with SoupCallback.every_n_epochs"
            )
        for path in found:
            ingredient = Ingredient.load(path)
            self._check_origin(f"trajectories: {path}", ingredient)
            self._add("trajectory", f"{expert} step {ingredient.info.step}", ingredient)

    def check_unique(self) -> None:
        """Refuses a soup or MORL solution that comes twice."""
        for kind, key in (("soup", "lattice"), ("morl", "morl")):
            labels = [point.label for point in self.points if point.kind == kind]
            twice = next((label for label in labels if labels.count(label) > 1), None)
            if twice is not None:
                raise RslitError(
                    f"{key}: '{twice}' comes twice; evaluate each point once, in a table of its own if need be"
                )

    def costs(self) -> dict[str, dict[str, int | None]]:
        """Trainings behind soup and MORL, and what they sampled; None where an ingredient does not say."""
        given = {"soup": list(self._soup.ingredients.values()), "morl": self._morl}
        costs: dict[str, dict[str, int | None]] = {"trainings": {}, "samples": {}}
        for kind, found in given.items():
            samples = [ingredient.info.config.get("samples") for ingredient in found]
            known = [int(count) for count in samples if count is not None]
            costs["trainings"][kind] = len(found)
            costs["samples"][kind] = sum(known) if len(known) == len(found) else None
        return costs

    def _check_origin(self, what: str, ingredient: Ingredient) -> None:
        experts = {name: one.info for name, one in self._soup.ingredients.items()}
        begun = {info.initialisation for info in experts.values()}
        # The initialisation, an ingredient of WiSE, comes from elsewhere.
        begins = {self._seen[start] for start in begun if start in self._seen}
        origins = {origin(info, self._soup.space) for name, info in experts.items() if name not in begins}
        if origin(ingredient.info, self._soup.space) not in origins:
            raise RslitError(f"{what} has another task or initialisation than the experts; train it from the same")

    def _add(self, kind: str, label: str, ingredient: Ingredient, mu: Mapping[str, float] | None = None) -> None:
        """A state that is there already (MORL with all weight on one reward) is evaluated under its first name."""
        state, adapter = ingredient.state_dict(), adapter_of(ingredient.info)
        name = self._seen.setdefault(fingerprint(state), f"{label} #{len(self.states)}")
        self.states.setdefault(name, state)
        if adapter is not None:
            self.adapters.setdefault(name, adapter)
        self.points.append(SweepPoint(kind, label, {name: Fraction(1)}, mu))


def distinct(lams: Sequence[dict[str, Fraction]]) -> tuple[list[dict[str, Fraction]], list[int]]:
    """The λ that differ, in order, and the place of each λ among them."""
    found: dict[tuple[Fraction, ...], int] = {}
    places = [found.setdefault(tuple(lam.values()), len(found)) for lam in lams]
    return [lams[places.index(place)] for place in range(len(found))], places
