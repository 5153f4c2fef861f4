"""Caption rewards of a self-critical batch against pycocoevalcap's scorers on the same captions.

    python benchmarks/caption_rewards.py --images 18 --samples 5 --batches 30

Prints a Markdown table: milliseconds a batch, the median over the batches; both sides score every batch in turn, within
one process. pycocoevalcap gets captions that are tokenised already and takes its document frequencies from the batch;
ours tokenises them and has its document frequencies. *New images*: no reference was seen before, as in a first epoch.
*Seen images*: other captions of the same images, as in later ones. No batch has captions of another, and a share of
`--repeats` of the samples of an image repeat another one. METEOR's two processes are warmed up first.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

from rslit.rewards.bleu import BleuReward
from rslit.rewards.caption import CaptionReward
from rslit.rewards.cider import CiderReward, DocumentFrequencies
from rslit.rewards.meteor import MeteorReward
from rslit.rewards.meteor_process import find_java, meteor_process
from rslit.rewards.rouge import RougeReward

KINDS, THINGS, LOOKS, VERBS, PLACES = (
    line.split()
    for line in (
        "man woman dog cat horse boy girl child bird zebra giraffe elephant sheep cow bear player group couple",
        "surfboard wave table pizza train bus toilet sink frisbee field racket ball kitchen oven plate bench kite",
        "red blue green large small young old white black brown wooden empty busy grassy snowy",
        "riding holding eating standing sitting playing watching walking flying looking jumping laying",
        "on in near with under beside behind through over",
    )
)

Batch = tuple[list[str], list[list[str]]]
Scorer = Callable[[Batch], object]


def sentence(rng: random.Random) -> str:
    """A caption of 7 to 18 words, as COCO's are."""
    words = ["a", rng.choice(LOOKS), rng.choice(KINDS), rng.choice(["is", "that is", ""]), rng.choice(VERBS)]
    for _ in range(rng.randrange(1, 4)):
        words += [rng.choice(PLACES), rng.choice(["a", "the", "some"]), rng.choice(["", rng.choice(LOOKS)])]
        words.append(rng.choice(THINGS))
    return " ".join(" ".join(words).split())


def sampled(rng: random.Random, references: Sequence[str], samples: int, repeats: float) -> list[str]:
    """What a policy might say: a reference with up to three words changed."""
    texts: list[str] = []
    while len(texts) < samples:
        words = rng.choice(references).split()
        for _ in range(rng.randrange(1, 4)):
            words[rng.randrange(len(words))] = rng.choice(THINGS + KINDS + LOOKS)
        texts.append(rng.choice(texts) if texts and rng.random() < repeats else " ".join(words))
    return texts


def batches(rng: random.Random, images: Sequence[list[str]], arguments: argparse.Namespace) -> list[Batch]:
    """Captions of the images, batch by batch."""
    result = []
    for start in range(0, len(images), arguments.images):
        some = images[start : start + arguments.images]
        texts = [text for refs in some for text in sampled(rng, refs, arguments.samples, arguments.repeats)]
        result.append((texts, [refs for refs in some for _ in range(arguments.samples)]))
    return result


def theirs(scorer: Callable[..., tuple[object, Sequence[float]]]) -> Scorer:
    """The straightforward use of one of pycocoevalcap's: an image for each caption."""

    def run(batch: Batch) -> None:
        texts, references = batch
        scorer(dict(enumerate(references)), {i: [text] for i, text in enumerate(texts)})

    return run


def ours(*rewards: CaptionReward) -> Scorer:
    """Some of our rewards, one after the other."""
    return lambda batch: [reward.values(*batch) for reward in rewards]


def in_turn(contenders: Sequence[Scorer], work: Sequence[Batch]) -> list[float]:
    """Median milliseconds a batch of each; who goes first changes from batch to batch."""
    times: list[list[float]] = [[] for _ in contenders]
    for number, batch in enumerate(work):
        for place in range(len(contenders))[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            contenders[place](batch)
            times[place].append(1e3 * (time.perf_counter() - start))
    return [statistics.median(values) for values in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=18)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=30, help="batches for METEOR before its clock starts")
    parser.add_argument("--repeats", type=float, default=0.0, help="share of samples that repeat another one")
    arguments = parser.parse_args()
    rng = random.Random(0)

    def world(count: int) -> list[list[str]]:
        return [[sentence(rng) for _ in range(5)] for _ in range(count * arguments.images)]

    os.environ["PATH"] = f"{find_java().parent}{os.pathsep}{os.environ['PATH']}"  # pycocoevalcap calls `java`
    bleu, rouge, cider, meteor = Bleu(4), Rouge(), Cider(), Meteor()
    their_bleu = theirs(lambda *batch: bleu.compute_score(*batch, verbose=0))
    their_rouge, their_cider = theirs(rouge.compute_score), theirs(cider.compute_score)
    our_cider = CiderReward()
    our_cider.set_document_frequencies(DocumentFrequencies.count(world(100)))
    our_bleu, our_rouge = (BleuReward(1), BleuReward(4)), RougeReward()
    rows: dict[str, tuple[Scorer, Scorer]] = {
        "BLEU-1 and BLEU-4": (their_bleu, ours(*our_bleu)),
        "ROUGE-L": (their_rouge, ours(our_rouge)),
        "CIDEr-D": (their_cider, ours(our_cider)),
        "these three": (
            lambda batch: (their_bleu(batch), their_rouge(batch), their_cider(batch)),
            ours(*our_bleu, our_rouge, our_cider),
        ),
        "METEOR": (theirs(meteor.compute_score), ours(MeteorReward())),
    }
    java = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=False).stderr.split('"')[1]
    print(
        f"{arguments.images} x {arguments.samples} captions, {arguments.repeats:.0%} repeated, 5 references each; ",
        end="",
    )
    print(f"Python {platform.python_version()}, Java {java}, {len(os.sched_getaffinity(0))} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print(
        "| rewards | pycocoevalcap ms | ours ms, new images | times | pycocoevalcap ms | ours ms, seen images | times |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, contenders in rows.items():
        in_turn(contenders, batches(rng, world(arguments.warm_up if name == "METEOR" else 1), arguments))
        images = world(arguments.batches)
        cells = []
        for _ in ("new", "seen"):
            their, our = in_turn(contenders, batches(rng, images, arguments))
            cells.append(f"{their:.1f} | {our:.2f} | {their / our:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    meteor.meteor_p.stdin.close()
    meteor_process().close()


if __name__ == "__main__":
    main()
