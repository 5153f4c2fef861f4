"""Answers per second of training a language model: rslit's RLOO against TRL's GRPO, and where our time goes.

    python benchmarks/text_training.py --rounds 5 --epochs 1 2 --betas 0 0.04

The same on both sides: SmolLM2-135M-Instruct in float32, a fresh LoRA adapter (rank 16 on q, k, v, o), 8 prompts (the
same in every round), 4 answers to each, 24 new tokens in every answer (an end token does not end it), all 32 answers in
every update, VADER as the reward, AdamW, gradients clipped at norm 1, nothing saved or logged. A round is one
generation with its updates (`--epochs`: TRL's `num_iterations`), timed from the end of one generation's last update to
the end of the next one's. Each contender is a process of its own that sleeps until it is its turn; the first round does
not count.

TRL gets a virtual environment of its own (`--peer-venv`, built on the first run; its packages come from pip's index).
`trl` has gradient checkpointing off, as ours; `trl-default` leaves it on, as TRL does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _turns import Contender, machine, match, peer_python, report

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
BASE = ROOT / "models" / "smollm2-135m-instruct"
PEER = ["trl==1.16.0", "torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "vaderSentiment==3.3.2"]
LORA = {"r": 16, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
RATE = 1e-5
WARM_UP = 1
CONTENDERS = {
    "rslit": "rslit, RLOO",
    "trl": "TRL, GRPO",
    "trl-default": "TRL, GRPO, gradient checkpointing",
    "floor": "arithmetic floor",
}
SIZES = ("task", "prompts", "group", "tokens", "rounds")
PHASES = ("generation", "reward", "policy", "reference", "update")
TARGET = 1.5


def options(doc: str | None) -> argparse.ArgumentParser:
    """What a match and all its contenders are told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["reviews", "news"], default="reviews", help="news: longer prompts")
    parser.add_argument("--prompts", type=int, default=8, help="of a generation")
    parser.add_argument("--group", type=int, default=4, help="answers to each prompt")
    parser.add_argument("--tokens", type=int, default=24, help="new tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench-text", help="where the prompts are kept")
    for name, kind in (("epochs", int), ("beta", float), ("contender", str)):
        parser.add_argument(f"--{name}-of-contender", type=kind, dest=name, help=argparse.SUPPRESS)
    return parser


# -- our contender ----------------------------------------------------------------------------------------------------


def training(given: argparse.Namespace) -> None:
    """TextModule under Lightning's Trainer."""
    import torch
    from _text_setup import policy
    from lightning import __version__
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers.logger import Logger

    from rslit.datamodules import RewardedDataModule
    from rslit.language import KLOptions, SamplingOptions
    from rslit.modules import TextModule
    from rslit.rewards import SentimentReward
    from rslit.warnings import quiet

    batch = json.loads((given.folder / f"{given.task}-{given.prompts}.json").read_text())

    class SamePrompts(RewardedDataModule):
        """One batch again and again."""

        def batches(self) -> list[dict[str, Any]]:
            return [batch] * (given.rounds + WARM_UP)

        def evaluation_batches(self) -> list[dict[str, Any]]:
            return []

    class Kept(Logger):
        """Keeps the latest metrics, among them the seconds of a rollout's phases."""

        name, version = "kept", "0"

        def __init__(self) -> None:
            super().__init__()
            self.latest: dict[str, float] = {}

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            self.latest |= metrics

        def log_hyperparams(self, *arguments: Any, **values: Any) -> None: ...

    class Turns(Callback):
        """Times from the end of one generation's last update to the end of the next one's."""

        began = 0.0

        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if (batch_idx + 1) % given.epochs:
                return
            seconds, done = time.perf_counter() - self.began, (batch_idx + 1) // given.epochs
            if done == WARM_UP:
                report(what=f"lightning {__version__}, torch {torch.__version__}")
            elif done > WARM_UP:
                spent = {name: kept.latest.get(f"time/{name}", 0.0) for name in PHASES[:-1]}
                spent["update"] = seconds - sum(spent.values())
                length = kept.latest["completions/mean_length"]
                report(seconds=seconds, answers=given.prompts * given.group, tokens=length, spent=spent)
            self.began = time.perf_counter()

    quiet()
    kept = Kept()
    module = TextModule(
        policy(),
        SentimentReward(),
        algorithm="rloo",
        sampling=SamplingOptions(given.tokens, given.tokens, stop_at_eos=False, samples_per_prompt=given.group),
        kl=KLOptions(given.beta, estimator="k3", place="loss"),
        epochs=given.epochs,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=RATE),
    )
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=1.0,
            limit_val_batches=0,
            log_every_n_steps=1,
            logger=kept,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=root,
            callbacks=[Turns()],
        )
        trainer.fit(module, SamePrompts())


# -- the match --------------------------------------------------------------------------------------------------------


def hold(given: argparse.Namespace, epochs: int, beta: float) -> None:
    """One match: a Markdown table and the ratio."""
    sizes = [f"--{name}={getattr(given, name)}" for name in (*SIZES, "folder")]
    sizes += [f"--epochs-of-contender={epochs}", f"--beta-of-contender={beta}"]

    def make(name: str) -> Contender:
        theirs = name.startswith("trl")
        python = peer_python(given.peer_venv, PEER, ROOT / "constraints.txt") if theirs else Path(sys.executable)
        script = HERE.with_name("_trl_grpo.py") if theirs else HERE
        return Contender([str(python), str(script), *sizes, f"--contender-of-contender={name}"], given.verbose)

    contenders = match({name: lambda name=name: make(name) for name in given.contenders}, given.rounds)
    answers = given.prompts * given.group
    print(f"\n## {epochs} update(s) of {answers} answers per generation, beta {beta:g}\n")
    size = f"{given.prompts} {given.task} × {given.group} answers × {given.tokens} tokens"
    print(f"{size}, {given.rounds} rounds, {machine()}\n")
    print("| | with | answers/s, median | lowest to highest | rslit / this | CPU s | peak MB |")
    print("|---|---|---|---|---|---|---|")
    rates = {name: [answers / r["seconds"] for r in c.rounds] for name, c in contenders.items()}
    middle = {name: statistics.median(values) for name, values in rates.items()}
    for name, contender in contenders.items():
        tokens = {r["tokens"] for r in contender.rounds if "tokens" in r} or {given.tokens}
        assert tokens == {given.tokens}, f"{name}: answers of {tokens} tokens"
        ratio = f"{middle['rslit'] / middle[name]:.2f}" if "rslit" in middle else "-"
        spread = f"{min(rates[name]):.2f} to {max(rates[name]):.2f}"
        cpu = statistics.median(r["cpu"] for r in contender.rounds)
        figures = f"{middle[name]:.2f} | {spread} | {ratio} | {cpu:.1f} | {contender.rounds[-1]['peak']:.0f}"
        print(f"| {CONTENDERS[name]} | {contender.ready['what']} | {figures} |")
    if {"rslit", "trl"} <= middle.keys():
        print(f"\nrslit / TRL: {middle['rslit'] / middle['trl']:.2f} (target {TARGET})")
    if {"rslit", "floor"} <= contenders.keys():
        profile(contenders["rslit"].rounds, contenders["floor"].rounds)


def profile(ours: list[dict[str, Any]], floors: list[dict[str, Any]]) -> None:
    """Where our time goes, against the time of the matrix products alone."""
    print("\n| phase | seconds, median | share | GFLOP | floor s | floor GFLOP/s | times the floor |", end="")
    print(" each prompt once: GFLOP | floor s |\n|---|---|---|---|---|---|---|---|---|")
    total = statistics.median(r["seconds"] for r in ours)
    sums: dict[str, list[float]] = {"each": [0.0, 0.0], "once": [0.0, 0.0]}

    def line(name: str, seconds: float, each: list[float], once: list[float]) -> None:
        cells = "- | - | - | - | - | -"
        if each[0]:
            cells = f"{each[1] / 1e9:.0f} | {each[0]:.2f} | {each[1] / each[0] / 1e9:.0f} | {seconds / each[0]:.2f}"
            cells += f" | {once[1] / 1e9:.0f} | {once[0]:.2f}"
        print(f"| {name} | {seconds:.2f} | {seconds / total:.0%} | {cells} |")

    for name in PHASES:
        costs = {way: [r["costs"][way].get(name, [0.0, 0.0]) for r in floors] for way in sums}
        middle = {
            way: [statistics.median(column) for column in zip(*found, strict=True)] for way, found in costs.items()
        }
        for way, cost in middle.items():
            sums[way] = [a + b for a, b in zip(sums[way], cost, strict=True)]
        line(name, statistics.median(r["spent"][name] for r in ours), middle["each"], middle["once"])
    line("all", total, sums["each"], sums["once"])


def main() -> None:
    """Hold the matches, or be one contender in one."""
    parser = options(__doc__)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2], dest="all_epochs", help="one match for each")
    parser.add_argument("--betas", type=float, nargs="+", default=[0.0, 0.04], help="one match for each")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--peer-venv", type=Path, default=ROOT / "build" / "bench-trl")
    parser.add_argument("--verbose", action="store_true", help="show what the contenders print on stderr")
    given = parser.parse_args()
    if given.contender == "floor":
        from _text_floor import floor

        floor(given)
    elif given.contender is not None:
        training(given)
    else:
        setup = [sys.executable, str(HERE.with_name("_text_setup.py")), str(given.folder)]
        subprocess.run([*setup, f"--task={given.task}", f"--prompts={given.prompts}"], check=True, stdout=sys.stderr)
        for epochs in given.all_epochs:
            for beta in given.betas:
                hold(given, epochs, beta)


if __name__ == "__main__":
    main()
