"""After a sweep, shows what chosen λ look like: one animated episode each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from rslit.callbacks.episode_page import Episode, brax_page, episode_page
from rslit.envs import BraxEnvironment, Episodes, PosedEpisodes, Step
from rslit.errors import RslitError
from rslit.front import read_scores
from rslit.front.files import write_bytes
from rslit.modules import InterpolationEvaluator, LocomotionModule
from rslit.objectives import tanh_normal
from rslit.rewards import score
from rslit.samples import Samples
from rslit.soup import Lam, Soup, format_lam
from rslit.soup.lam import coefficients

__all__ = ["EpisodeCallback", "file_names", "play_episode", "start_episode"]

_LONGEST_NAME = 100


class EpisodeCallback(Callback):
    """Writes an animation of one episode for chosen λ when ``validate`` or ``test`` of a sweep is done.

    ``<dirpath>/index.html`` plays all of them side by side, ``<dirpath>/<λ>.html`` one. They are single files that
    need no network. In Brax environments ``<dirpath>/<λ>.brax.html`` is the page of Brax's own renderer, whose scripts
    are loaded from the network when it is opened. Every λ starts from the same first state and acts by the mode of its
    policy. A simulator without bodies to draw gets a warning and no file.
    """

    def __init__(
        self,
        lams: list[dict[str, float]] | None = None,
        seed: int = 0,
        length: int = 200,
        dirpath: str | None = None,
    ) -> None:
        """Takes what to show.

        Args:
            lams: λ, each a mapping from expert to coefficient; default every expert and the uniform soup.
            seed: Seed of the episode's first state.
            length: Steps to show; fewer if the episode ends before.
            dirpath: Folder of the pages; default ``<default_root_dir>/episodes``.

        Raises:
            RslitError: There is no λ or no step to show.
        """
        if lams is not None and not lams:
            raise RslitError("EpisodeCallback.lams is empty; name at least one λ, or leave it out")
        if length < 1:
            raise RslitError(f"EpisodeCallback.length must be at least 1, got {length}")
        if seed < 0:
            raise RslitError(f"EpisodeCallback.seed must be at least 0, got {seed}")
        self.lams = lams
        self.seed = seed
        self.length = length
        self.dirpath = dirpath
        self._lams: list[dict[str, Fraction]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what it cannot show, before anything is evaluated.

        Raises:
            RslitError: The module is no sweep of a locomotion policy, its policy is sharded, or a λ does not fit.
        """
        if not isinstance(pl_module, InterpolationEvaluator) or not isinstance(pl_module.module, LocomotionModule):
            raise RslitError(
                "EpisodeCallback shows an InterpolationEvaluator of a LocomotionModule, not "
                f"{type(getattr(pl_module, 'module', pl_module)).__name__}; leave it out here"
            )
        if pl_module.device_mesh is not None:
            raise RslitError("EpisodeCallback cannot act with a sharded policy; leave it out under this strategy")
        names = list(pl_module.ingredients)
        self._lams = []
        chosen: Sequence[Lam] = self.lams if self.lams is not None else _default(names)
        for k, lam in enumerate(chosen):
            try:
                exact = coefficients(lam, names, extrapolate=pl_module.extrapolate)
            except RslitError as error:
                raise RslitError(f"EpisodeCallback.lams[{k}]: {error}") from None
            if exact not in self._lams:
                self._lams.append(exact)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the pages, once the score table is there."""
        self._write(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the pages, once the score table is there."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, evaluator: LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(evaluator, InterpolationEvaluator), "setup refuses others"
        module = evaluator.module
        assert isinstance(module, LocomotionModule), "setup refuses others"
        soup = Soup.load(evaluator.ingredients, extrapolate=evaluator.extrapolate)
        first = start_episode(module, self.seed)
        if not isinstance(first, PosedEpisodes):
            name = type(module.env).__name__
            rank_zero_warn(f"EpisodeCallback: {name} does not say where its bodies are; no episode was written")
            return
        means = _means(Path(evaluator.out or trainer.default_root_dir) / "scores.parquet", soup)
        root = Path(self.dirpath or Path(trainer.default_root_dir) / "episodes")
        title, lead = f"Soups of {', '.join(soup.names)}: one episode each", self._lead(module)
        shown: list[Episode] = []
        for lam, name in zip(self._lams, file_names(self._lams), strict=True):
            with soup.at(lam, module.policy), trainer.precision_plugin.forward_context():
                episode = play_episode(module, lam, self.seed, self.length)
            episode = replace(episode, means=means.get(format_lam(lam), {}))
            links = [("index", "index.html")]
            if isinstance(module.env, BraxEnvironment):
                page = brax_page(module.env.env, episode.poses, first.seconds)
                write_bytes(root / f"{name}.brax.html", page.encode())
                links.append(("in Brax's own renderer (needs the network)", quote(f"{name}.brax.html")))
            page = episode_page(title, lead, first.model, first.seconds, [replace(episode, links=links)])
            write_bytes(root / f"{name}.html", page.encode())
            shown.append(replace(episode, links=[("larger", quote(f"{name}.html")), *links[1:]]))
        # Last, so that it never names a page that is not there.
        write_bytes(root / "index.html", episode_page(title, lead, first.model, first.seconds, shown).encode())
        rank_zero_info(f"episodes of {len(shown)} λ written to {root / 'index.html'}")

    def _lead(self, module: LocomotionModule) -> str:
        shown = min(self.length, module.env.episode_length)
        return (
            f"The first {shown} of {module.env.episode_length} steps of one episode (seed {self.seed}). Every λ starts "
            "from the same state and acts by the mode of its policy. A reward's sum so far runs with the animation; "
            "its mean score in the sweep is over whole episodes."
        )


def start_episode(module: LocomotionModule, seed: int) -> Episodes:
    """One environment in the first state of a seed, on the module's device."""
    return module.env.episodes(torch.tensor([seed], device=module.device), auto_reset=False)


@torch.no_grad()
def play_episode(module: LocomotionModule, lam: Mapping[str, Fraction], seed: int, length: int) -> Episode:
    """One episode by the mode of the policy that the module holds; ends where the simulator ends it.

    Args:
        module: Its environment says where its bodies are (`rslit.envs.PosedEpisodes`).
        lam: What the policy is called: λ by expert.
        seed: Seed of the first state.
        length: Most steps to play.
    """
    episodes = start_episode(module, seed)
    assert isinstance(episodes, PosedEpisodes), "the caller looked"
    poses, steps = [], list[Step]()
    for _ in range(min(length, module.env.episode_length)):
        location, _ = module.policy(episodes.observations.to(module.device))
        steps.append(episodes.step(tanh_normal.mode(location)))
        poses.append(episodes.pose())
        if bool(steps[-1].terminated[0] | steps[-1].truncated[0]):
            break
    items = [f"episode {seed}, step {t}" for t in range(len(steps))]
    samples = Samples(items, {k: torch.cat([s.terms[k] for s in steps]) for k in steps[0].terms})
    rewards = {r.name: score(r, samples, 0, complete=True).double() for r in module.evaluation_rewards}
    totals = {name: values.cumsum(0).float().cpu() for name, values in rewards.items()}
    return Episode(lam, torch.stack(poses), totals)


def _default(names: Sequence[str]) -> list[dict[str, Fraction]]:
    """Every vertex of the simplex and its middle."""
    vertices = [{name: Fraction(1)} for name in names]
    return [*vertices, {name: Fraction(1, len(names)) for name in names}]


def file_names(lams: Sequence[Mapping[str, Fraction]]) -> list[str]:
    """One name per λ that every file system takes: its label, shortened and told apart by a hash where need be."""
    names: list[str] = []
    for lam in lams:
        label = format_lam(lam)
        name = re.sub(r"[^\w=,+-]", "_", label, flags=re.ASCII)
        if len(name) > _LONGEST_NAME or name.lower() in {other.lower() for other in names}:
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
        names.append(name)
    return names


def _means(path: Path, soup: Soup) -> dict[str, dict[str, float]]:
    """Mean scores of the sweep's soups by label and reward; none without a table of this soup."""
    if not path.is_file():
        return {}
    table = read_scores(path)
    if table.meta.experts != tuple(soup.names) or table.meta.initialisation != soup.initialisation:
        return {}
    frame = table.frame[table.frame["kind"] == "soup"]
    wide = frame.pivot_table(index="point", columns="reward", values="score", aggfunc="mean")
    return {str(label): {str(reward): float(value) for reward, value in row.items()} for label, row in wide.iterrows()}
