"""Images per second of self-critical training of captioners, and where the time goes: sampling, reward, update.

    python benchmarks/captioning.py

CaptioningModule and CaptioningDataModule under Lightning's Trainer, with drawn scenes in COCO's files: 18 images x 5
captions a step (the paper's Table 2), leave-one-out baseline, RAdam, gradients clipped at norm 1, TensorBoard's logger.
Two captioners: `small` is that of rslit.scenes.models, `real` has Swin-tiny and GPT-2 small at 224 pixels. Their
weights are random, so cross-entropy teaches them to speak before: what a reward costs depends on what is said.

Contenders take turns within one training, a step each: every caption reward alone, all five weighted, and one without
kept features. The image encoder is frozen; the features that are kept are made before the clock starts, but no image
was captioned before and no reference was read: a reward's share is the largest it can be. METEOR's Java is warmed up.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # how long torch's idle threads spin: as `rslit` sets it

import torch
import transformers
from _captioners import CAPTIONERS, fit, save_fresh, teach
from _turns import machine
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from rslit.datamodules import CaptioningDataModule, KarpathyCaptions
from rslit.modules import CaptioningModule
from rslit.rewards import BleuReward, CiderReward, MeteorReward, Reward, RougeReward, WeightedSum
from rslit.rewards.caption_tokens import words
from rslit.scenes import World, write_world
from rslit.scenes.models import world_texts
from rslit.vision.answers import AnswerSampling
from rslit.vision.features import FeatureCache
from rslit.vision.options import VisionOptions
from rslit.vision.rows import CaptionRow
from rslit.warnings import quiet

TARGET = 0.15
WARM_UP = 2  # steps that do not count: the optimiser makes its moments
PHASES = ("sampling", "reward", "update", "images", "other")
CIDER, ALL, BARE = "CIDEr-D", "all five", "CIDEr-D, no features kept"


class Contender(NamedTuple):
    """What a step is trained with.

    Attributes:
        name: For the table.
        reward: The training reward.
        keeps: Whether the features of images are kept.
    """

    name: str
    reward: Reward
    keeps: bool = True


def contenders() -> list[Contender]:
    """Who takes turns."""
    rewards: dict[str, Reward] = {
        "BLEU-1": BleuReward(1),
        "BLEU-4": BleuReward(4),
        "ROUGE-L": RougeReward(),
        CIDER: CiderReward(),
        "METEOR": MeteorReward(),
    }
    everything = WeightedSum([*rewards.values()], [1 / len(rewards)] * len(rewards), "all")
    alone = [Contender(name, reward) for name, reward in rewards.items()]
    return [*alone, Contender(ALL, everything), Contender(BARE, rewards[CIDER], keeps=False)]


class TimedCache(FeatureCache):
    """A feature cache that knows how long its last batch took, seconds."""

    seconds = 0.0

    def encode(
        self, batch: Mapping[str, Sequence[Any]], texts: Sequence[str] | None, device: torch.device
    ) -> dict[str, Tensor]:
        """See the base class."""
        began = time.perf_counter()
        rows = super().encode(batch, texts, device)
        self.seconds = time.perf_counter() - began
        return rows


class Board(TensorBoardLogger):
    """TensorBoard's logger; keeps the latest metrics, and the seconds that they took to log."""

    seconds = 0.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.latest: dict[str, float] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """See the base class."""
        began = time.perf_counter()
        super().log_metrics(metrics, step)
        self.latest = dict(metrics)
        self.seconds = time.perf_counter() - began


class Turns(Callback):
    """Gives each step to the next contender and takes its times.

    A step is timed from the end of the one before to its own end, so nothing is left out. Its update lasts from the end
    of the rollout: forward and backward pass, clipping and the optimiser, without the logger.

    Args:
        group: Who takes turns.
        caches: Of features, by whether they are kept.
        board: The trainer's logger.
        others: Rows that are not trained on, to warm METEOR up with.
        warm_up: Batches of captions that METEOR scores before the clock starts.

    Attributes:
        steps: Of each contender: seconds by phase and in `total`, `tokens` (mean of a caption) and `distinct` (share of
            captions that were not said before about the same image).
    """

    def __init__(
        self,
        group: Sequence[Contender],
        caches: Mapping[bool, TimedCache],
        board: Board,
        others: Sequence[CaptionRow],
        warm_up: int,
    ) -> None:
        self.group, self.caches, self.board = group, caches, board
        self.others, self.warm_up = others, warm_up
        self.steps: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in group}
        self.done = -WARM_UP
        self.began = self.acted = 0.0

    @property
    def turn(self) -> Contender:
        """Whose step it is."""
        return self.group[self.done % len(self.group)]

    def begin(self, module: CaptioningModule) -> None:
        """Begins a step, before Lightning asks for its rollout."""
        module.reward, module.cache = self.turn.reward, self.caches[self.turn.keeps]
        self.began = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Makes the features and warms METEOR up."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        for batch in data.batches():
            self.caches[True].encode(batch, pl_module.texts(batch), pl_module.device)
        rng, count = random.Random(0), data.batch_size * pl_module.sampling.samples
        for _ in range(self.warm_up):
            said = [rng.choice(row.captions) for row in rng.choices(self.others, k=count)]
            MeteorReward().values(said, [row.captions for row in rng.choices(self.others, k=count)])
        # CIDEr has read all references to count its documents; of COCO's 566,000 hardly any would still be known.
        words.cache_clear()
        self.begin(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The rollout is over."""
        self.acted = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The step is over."""
        end = time.perf_counter()
        reward, samples, metrics = self.turn.reward, pl_module.latest, self.board.latest
        terms = reward.rewards if isinstance(reward, WeightedSum) else [reward]
        assert set(samples.scores) == {term.name for term in terms}, "this rollout was another contender's"
        if self.done >= 0:
            images = pl_module.cache.seconds
            spent = {
                "sampling": metrics["time/sampling"] - images,
                "reward": metrics["time/reward"],
                "update": end - self.acted - self.board.seconds,
                "images": images,
            }
            total = end - self.began
            said = set(zip(samples.items, samples["caption"], strict=True))
            about = {"tokens": metrics["completions/mean_length"], "distinct": len(said) / len(samples)}
            other = total - sum(spent.values())
            self.steps[self.turn.name].append({**spent, "other": other, "total": total, **about})
        self.done += 1
        self.begin(pl_module)


def measure(kind: str, given: argparse.Namespace, root: Path) -> float:
    """Prints the table of one captioner and returns the largest share that a reward has."""
    captioner, group = CAPTIONERS[kind], contenders()
    rounds, lessons = given.rounds or captioner.rounds, given.lessons or captioner.lessons
    steps = WARM_UP + rounds * len(group)
    school = captioner.pupils * min(lessons, captioner.lessons // 10)  # images to learn to speak from: ten passes
    images = school + steps * given.images
    say(f"{kind}: {images} images, {lessons} supervised steps")
    write_world(root / "world", World(images, 1, 1, captioner.pixels))
    source = KarpathyCaptions(str(root / "world"))
    save_fresh(kind, world_texts(root / "world"), root / "fresh")
    sizes = {"batch_size": captioner.pupils, "rollouts_per_epoch": lessons}
    primer = CaptioningDataModule(source, train_part=(0.0, school / images), **sizes)
    taught = teach(captioner, root / "fresh", primer, root)

    say(f"{kind}: {steps} steps of self-critical training")
    module = CaptioningModule(
        VisionOptions(str(taught), trained=["decoder.*"]),
        group[0].reward,
        [contender.reward for contender in group[:-1]],  # which get their document frequencies
        sampling=AnswerSampling(given.samples, captioner.tokens),
        optimizer=lambda parameters: torch.optim.RAdam(parameters, lr=captioner.rate),
    )
    caches = {keeps: TimedCache(module.parts, 2.0 * keeps) for keeps in (True, False)}
    board = Board(root)
    turns = Turns(group, caches, board, primer.rows("train"), given.warm_up)
    data = CaptioningDataModule(source, train_part=(school / images, 1.0), batch_size=given.images)
    fit(module, data, root, logger=board, callbacks=[turns])

    trained = sum(p.numel() for p in module.policy.parameters() if p.requires_grad) / 1e6
    references = module.parts.tokens([caption for row in data.rows("train") for caption in row.captions])
    every = [step for found in turns.steps.values() for step in found]
    tokens, distinct = (statistics.fmean(step[name] for step in every) for name in ("tokens", "distinct"))
    print(f"\n## {kind}: {captioner.what}, {captioner.pixels} pixels, {trained:.1f} million weights trained\n")
    print(f"{given.images} images x {given.samples} captions of {tokens:.1f} tokens on average, at most ", end="")
    print(
        f"{captioner.tokens} (references: {statistics.fmean(map(len, references)):.1f}), {distinct:.0%} of them ",
        end="",
    )
    print(f"said once; {rounds} steps of each, torch {torch.__version__}, {machine()}\n")
    return table(turns.steps, given.images)


def table(steps: Mapping[str, Sequence[Mapping[str, float]]], images: int) -> float:
    """Prints medians over the steps and returns the largest share that a reward has."""
    heads = ["", "images/s", "lowest to highest", "step ms", *(f"{name} ms" for name in PHASES), "reward, highest"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    rates, shares = {}, {}
    for name, found in steps.items():
        speeds = [images / step["total"] for step in found]
        parts = {phase: [step[phase] / step["total"] for step in found] for phase in PHASES}
        rates[name], shares[name] = statistics.median(speeds), statistics.median(parts["reward"])
        cells = [name, f"{rates[name]:.2f}", f"{min(speeds):.2f} to {max(speeds):.2f}"]
        cells.append(f"{1e3 * statistics.median(step['total'] for step in found):.0f}")
        for phase, share in parts.items():
            milliseconds = 1e3 * statistics.median(step[phase] for step in found)
            cells.append(f"{milliseconds:.1f} ({statistics.median(share):.1%})")
        print(f"| {' | '.join(cells)} | {max(parts['reward']):.1%} |")
    worst = max(shares, key=lambda name: shares[name])
    print(f"\nlargest share of a reward: {shares[worst]:.1%}, {worst} (target at most {TARGET:.0%}): ", end="")
    print("PASS" if shares[worst] <= TARGET else "FAIL")
    print(f"images/s with features kept / without: {rates[CIDER] / rates[BARE]:.2f}", flush=True)
    return shares[worst]


def say(line: str) -> None:
    """Tells what is under way."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure the captioners one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CAPTIONERS), default=list(CAPTIONERS))
    parser.add_argument("--images", type=int, default=18, help="of a step (%(default)s)")
    parser.add_argument("--samples", type=int, default=5, help="captions of an image (%(default)s)")
    for name, what in (("rounds", "steps of each contender"), ("lessons", "supervised steps before")):
        defaults = ", ".join(f"{kind} {getattr(captioner, name)}" for kind, captioner in CAPTIONERS.items())
        parser.add_argument(f"--{name}", type=int, help=f"{what} ({defaults})")
    parser.add_argument("--warm-up", type=int, default=30, help="batches that METEOR scores before (%(default)s)")
    given = parser.parse_args()
    quiet()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    worst = 0.0
    for kind in given.models:
        with tempfile.TemporaryDirectory() as root:
            worst = max(worst, measure(kind, given, Path(root)))
    verdict = "PASS" if worst <= TARGET else "FAIL"
    print(f"\nlargest share of a reward in all: {worst:.1%} (target at most {TARGET:.0%}): {verdict}")


if __name__ == "__main__":
    main()
