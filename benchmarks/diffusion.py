"""Text-to-image: training against diffusers' own loop, kept latents against none, a sweep against loading for each λ.

    python benchmarks/diffusion.py

Training: images/s of TextToImageModule under Lightning's Trainer, of the same with latents and embeddings kept, and of
the loop of diffusers' examples/text_to_image/train_text_to_image.py. The same on all sides: pipeline, trained weights
(the paper's cross-attention, and all), batches of images that are read from PNG files and made smaller, AdamW,
gradients clipped at norm 1, float32, TensorBoard. Without prompt dropout, which that loop does not have.

Sweep: 11 λ between two experts, with InterpolationEvaluator, which loads the pipeline once, against
DiffusionPipeline.from_pretrained of the poured pipeline for each λ. Images of both are compared.

Models, all with random weights: `real` has VAE and text encoder of Stable Diffusion 1.5 and a UNet of `--width`;
`quarter` is Stable Diffusion 1.5 with a quarter of the width everywhere, so that its parts have the shares of a step
that they have there; `pixel` is the pixel-space model of rslit.scenes. Each contender is a process of its own that
sleeps until it is its turn. `--tiny` tries the command out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _diffusion_shapes import SHAPES, TRAINED, Shape, shape_of
from _turns import Contender, machine, match, report

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
RATE = 1e-5
WARM_UP = 2  # steps that do not count; of those that keep latents the first pass over the images, if it is longer
STEPS, GUIDANCE = 4, 7.5  # of drawing
NAMES = {
    "rslit": "rslit",
    "loop": "diffusers' loop",
    "kept": "rslit, latents and embeddings kept",
    "once": "rslit, pipeline loaded once",
    "reloaded": "diffusers, poured pipeline loaded for each λ",
}
SLOWER, FASTER = 0.97, 1.5  # targets: at least so many times the images/s of the loop; of rslit with nothing kept
PARTS = {"vae": "VAE", "text": "text encoder", "unet": "UNet, forward and backward"}


def contend(given: argparse.Namespace, shape: Shape) -> None:
    """Be one contender."""
    import torch
    from _diffusion_loop import Reloaded
    from _diffusion_loop import training as their_training
    from _diffusion_ours import Once, training

    from rslit.diffusion.load import quiet as without_bars
    from rslit.warnings import quiet

    quiet()
    with tempfile.TemporaryDirectory() as logs, without_bars():
        given.logs = Path(logs)
        if given.contender == "loop":
            their_training(given, RATE, shape.steps, WARM_UP, shape.pixels)
        elif given.contender in ("rslit", "kept"):
            training(given, RATE, shape.steps, WARM_UP)
        else:
            batch = json.loads((given.folder / "sweep.json").read_text())
            runner: Any = Once(given.folder, given.logs) if given.contender == "once" else Reloaded(given.folder)
            runner.sweep({name: values[:1] for name, values in batch.items()}, 1, 1, GUIDANCE)
            report(what=f"torch {torch.__version__}")
            while True:
                began = time.perf_counter()
                images = runner.sweep(batch, given.lams, STEPS, GUIDANCE)
                seconds = time.perf_counter() - began
                np.save(given.folder / f"images-{given.contender}.npy", images)
                report(seconds=seconds, loading=runner.loading)


# -- the matches ------------------------------------------------------------------------------------------------------


def ratios(contenders: dict[str, Contender], slow: str, fast: str) -> list[float]:
    """How many times as fast `fast` is, round by round."""
    pairs = zip(contenders[slow].rounds, contenders[fast].rounds, strict=True)
    return [theirs["seconds"] / ours["seconds"] for theirs, ours in pairs]


def verdict(what: str, found: Sequence[float], target: float | None, note: str = "") -> str:
    """One line, with the target if there is one."""
    middle = statistics.median(found)
    line = f"{what}: {middle:.2f} ({min(found):.2f} to {max(found):.2f})"
    if target is not None:
        line += f" (target at least {target:g}): {'PASS' if middle >= target else 'FAIL'}"
    return line + note


def head(contenders: dict[str, Contender], columns: str) -> None:
    """The head of a table."""
    print(f"{len(next(iter(contenders.values())).rounds)} rounds, {machine()}\n")
    print(f"| | with | {columns} | CPU s | peak MB |\n|{'---|' * (columns.count('|') + 5)}")


def train(kind: str, shape: Shape, trained: str, make: Callable[[str], Contender], given: argparse.Namespace) -> None:
    """The match of training: a table and its ratios."""
    names = [name for name in ("rslit", "loop", "kept") if name in given.contenders]
    contenders = match({name: lambda name=name: make(name) for name in names}, given.rounds)
    counts = {contender.ready["trained"] for contender in contenders.values()}
    assert len(counts) == 1, f"contenders train {counts} weights"
    print(f"\n## {kind}, training {trained}: {shape.what}\n")
    size = f"{shape.pixels} pixels, batches of {shape.batch}, {shape.steps} steps a round"
    print(f"{size}, {counts.pop() / 1e6:.2f} million weights trained, ", end="")
    head(contenders, "images/s, median | lowest to highest | step ms")
    images = shape.batch * shape.steps
    for name, contender in contenders.items():
        seconds = [r["seconds"] for r in contender.rounds]
        rates = [images / s for s in seconds]
        cpu = statistics.median(r["cpu"] for r in contender.rounds)
        step = 1e3 * statistics.median(seconds) / shape.steps
        figures = f"{statistics.median(rates):.2f} | {min(rates):.2f} to {max(rates):.2f} | {step:.0f} | {cpu:.1f}"
        print(f"| {NAMES[name]} | {contender.ready['what']} | {figures} | {contender.rounds[-1]['peak']:.0f} |")
    if {"rslit", "loop"} <= contenders.keys():
        print(
            "\n"
            + verdict("rslit / diffusers' loop", ratios(contenders, "loop", "rslit"), None if given.tiny else SLOWER)
        )
    if {"rslit", "kept"} <= contenders.keys():
        costs = json.loads((given.folder / kind / "costs.json").read_text())
        counted = f"; by arithmetic alone {saved(costs, trained):.2f}"
        target = FASTER if shape.vae and not given.tiny else None
        print("\n" + verdict("kept / not kept", ratios(contenders, "rslit", "kept"), target, counted), flush=True)


def sweep(kind: str, shape: Shape, make: Callable[[str], Contender], given: argparse.Namespace) -> None:
    """The match of the sweep: a table, its ratio, and whether the images are the same."""
    names = [name for name in ("once", "reloaded") if name in given.contenders]
    contenders = match({name: lambda name=name: make(name) for name in names}, given.sweep_rounds)
    print(f"\n## {kind}, sweep: {shape.what}\n")
    print(f"{given.lams} λ × {shape.prompts} images of {shape.pixels} pixels, {STEPS} denoising steps, ", end="")
    head(contenders, "s, median | lowest to highest | of it loading, s")
    for name, contender in contenders.items():
        seconds = [r["seconds"] for r in contender.rounds]
        loading, cpu = (statistics.median(r[key] for r in contender.rounds) for key in ("loading", "cpu"))
        figures = f"{statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} | {loading:.2f}"
        peak = contender.rounds[-1]["peak"]
        print(f"| {NAMES[name]} | {contender.ready['what']} | {figures} | {cpu:.1f} | {peak:.0f} |")
    if len(contenders) < 2:
        return
    ours, theirs = (np.load(given.folder / kind / f"images-{name}.npy").astype(int) for name in names)
    assert ours.shape == theirs.shape, f"images of shape {ours.shape} and {theirs.shape}"
    apart, distinct = int(abs(ours - theirs).max()), len({images.tobytes() for images in ours})
    assert apart <= 1, f"images differ by up to {apart} grey levels"
    print("\n" + verdict("loaded once: times as fast", ratios(contenders, "reloaded", "once"), None))
    change = abs(ours[0] - ours[-1]).mean()
    print(f"\nimages differ by at most {apart} grey levels of 255; ", end="")
    print(f"{distinct} different sets for {given.lams} λ, the experts' {change:.1f} grey levels apart", flush=True)


def saved(costs: dict[str, float], trained: str) -> float:
    """How many times as fast keeping latents and embeddings is, if only arithmetic takes time."""
    return (costs["vae"] + costs["text"] + costs[trained]) / costs[trained]


def arithmetic(given: argparse.Namespace) -> None:
    """What the parts of a training step cost, and so what can be saved."""
    print("\n## Arithmetic of a training step\n\nGFLOP an image, counted (matrix products, convolutions).\n")
    print(f"| | pixels | trained | {' | '.join(PARTS.values())} | kept / not kept |\n|{'---|' * 7}")
    for kind in [*given.models, "full"]:
        costs = json.loads((given.folder / kind / "costs.json").read_text())
        shape = json.loads((given.folder / kind / "complete.json").read_text())["shape"]
        name = shape["what"] if kind == "full" else kind
        for trained in TRAINED:
            total = costs["vae"] + costs["text"] + costs[trained]
            cells = [f"{costs[part]:.2f} ({costs[part] / total:.0%})" for part in ("vae", "text", trained)]
            print(f"| {name} | {shape['pixels']} | {trained} | {' | '.join(cells)} | {saved(costs, trained):.2f} |")


def main() -> None:
    """Hold the matches, or be one contender in one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--trained", nargs="+", choices=TRAINED, default=list(TRAINED), dest="all_trained")
    parser.add_argument("--contenders", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=5, help="of training")
    parser.add_argument("--sweep-rounds", type=int, default=2)
    parser.add_argument("--batches", type=int, default=4, help="that differ")
    parser.add_argument("--lams", type=int, default=11)
    parser.add_argument("--width", type=int, help="of the UNet of `real`, a multiple of 32 (64)")
    parser.add_argument("--pixels", type=int, help="of the images of `real`, a multiple of 64 (128)")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the command out")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench-diffusion", help="models and images")
    parser.add_argument("--verbose", action="store_true", help="show what the contenders print on stderr")
    for name in ("contender", "model", "trained"):
        parser.add_argument(f"--{name}-of-contender", dest=name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = [f"--{name}={getattr(given, name)}" for name in ("width", "pixels") if getattr(given, name)]
    sizes += ["--tiny"] * given.tiny
    if given.contender is not None:
        contend(given, shape_of(given.model, given.width, given.pixels, given.tiny))
        return
    setup = [sys.executable, str(HERE.with_name("_diffusion_setup.py"))]
    numbers = [f"--batches={given.batches}", f"--lams={given.lams}"]
    subprocess.run([*setup, str(given.folder / "full")], check=True, stdout=sys.stderr)
    for kind in given.models:
        folder, shape = given.folder / kind, shape_of(kind, given.width, given.pixels, given.tiny)
        subprocess.run([*setup, str(folder), f"--model={kind}", *sizes, *numbers], check=True, stdout=sys.stderr)
        own = [sys.executable, str(HERE), *sizes, f"--folder={folder}", f"--model-of-contender={kind}"]
        own += [f"--rounds={given.rounds}", f"--lams={given.lams}"]

        def make(name: str, trained: str = TRAINED[0], own: list[str] = own) -> Contender:
            which = [f"--contender-of-contender={name}", f"--trained-of-contender={trained}"]
            return Contender([*own, *which], given.verbose)

        if {"rslit", "loop", "kept"} & set(given.contenders):
            for trained in given.all_trained:
                train(kind, shape, trained, lambda name, trained=trained: make(name, trained), given)
        if {"once", "reloaded"} & set(given.contenders):
            sweep(kind, shape, make, given)
    arithmetic(given)


if __name__ == "__main__":
    main()
