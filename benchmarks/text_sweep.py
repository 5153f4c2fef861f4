"""A sweep of λ on held-out prompts: every λ in one batch, against pouring, the paper's loop, and mergekit.

    python benchmarks/text_sweep.py --prompts 16 --tokens 24 --lams 11 --rounds 3

SmolLM2-135M-Instruct in float32, two LoRA experts (rank 16 on q, k, v, o), held-out prompts, greedy. Each contender is
a process of its own, loads the base if it may keep it, answers two tokens to warm up, and then sleeps until it is its
turn. A round is a whole sweep: everything that must happen for it, from adapters on disk to answers. Loading a base
that is loaded once is not counted. Tokens of all contenders are compared, so that all do the same work: those in space
`factors` with ours in `factors`, mergekit, which averages merged weights and so is in space `delta`, with ours in
`delta`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _turns import Contender, machine, match, report

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
CONTENDERS = {
    "ours": "all λ in one batch",
    "ours-delta": "all λ in one batch, space delta",
    "pours": "Soup.at, one batch per λ",
    "paper": "the paper's loop",
    "mergekit": "mergekit-yaml and reload",
    "mergekit-api": "mergekit in process and reload",
}
# Whose answers a contender's should be: the two spaces have different soups between the experts.
SAME_AS = {"pours": "ours", "paper": "ours", "mergekit": "ours-delta", "mergekit-api": "ours-delta"}
TARGETS = {"paper": 8.0, "mergekit": 5.0}


def grid(lams: int) -> list[float]:
    """Weights of the second expert, the vertices included."""
    return [k / (lams - 1) for k in range(lams)]


# -- contenders -------------------------------------------------------------------------------------------------------


class Ours:
    """TextModule.evaluate_soups, or one pour and one batch per λ."""

    def __init__(self, given: argparse.Namespace, batch: dict[str, Any]) -> None:
        from _text_setup import text_module

        self.batch, self.folder, self.name = batch, given.folder, given.contender
        self.module = text_module(given.tokens, given.rows)
        self.answers: list[list[list[int]]] = []
        speak = self.module.speaker.answer

        def keep(*arguments: Any, **options: Any) -> Any:
            found = speak(*arguments, **options)
            rows = [row[mask].tolist() for row, mask in zip(found.tokens, found.mask, strict=True)]
            size = len(batch["items"])
            self.answers += [rows[start : start + size] for start in range(0, len(rows), size)]
            return found

        self.module.speaker.answer = keep  # samples hold texts, we compare tokens

    def sweep(self, lams: list[float]) -> list[list[list[int]]]:
        """Answers to every prompt for every λ."""
        from rslit.modules.rewarded import RewardedModule
        from rslit.soup import Soup

        self.answers = []
        space = "delta" if self.name == "ours-delta" else "factors"
        soup = Soup.load([self.folder / "a", self.folder / "b"], space=space)
        way = RewardedModule.evaluate_soups if self.name == "pours" else type(self.module).evaluate_soups
        way(self.module, self.batch, 0, soup, [{"a": 1 - lam, "b": lam} for lam in lams])
        return self.answers


def contend(given: argparse.Namespace) -> None:
    """Be one contender."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    batch = json.loads((given.folder / f"{given.task}-{given.prompts}.json").read_text())
    if given.contender in SAME_AS and given.contender != "pours":
        from _sweep_peers import PEERS

        base = ROOT / "models" / "smollm2-135m-instruct"
        runner: Any = PEERS[given.contender](given.folder, base, batch["prompt_ids"], given.tokens)
        runner.prompts, every = runner.prompts[:1], runner.prompts
        runner.tokens = 2
        runner.sweep([0.5])
        runner.prompts, runner.tokens = every, given.tokens
    else:
        runner = Ours(given, batch)
        runner.batch = {name: values[:1] for name, values in batch.items()}
        runner.sweep([0.5])
        runner.batch = batch
    report(
        what=f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    while True:
        began = time.perf_counter()
        answers = runner.sweep(grid(given.lams))
        report(seconds=time.perf_counter() - began, answers=answers, child=getattr(runner, "peak", 0.0))


# -- the match --------------------------------------------------------------------------------------------------------


def same(one: list[list[list[int]]], two: list[list[list[int]]]) -> float:
    """Share of answers that are the same, token by token."""
    pairs = [(a, b) for rows in zip(one, two, strict=True) for a, b in zip(*rows, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def table(given: argparse.Namespace, contenders: dict[str, Contender]) -> None:
    """A Markdown table, and the ratios that have a target."""
    middle = {name: statistics.median(r["seconds"] for r in c.rounds) for name, c in contenders.items()}
    last = {name: c.rounds[-1]["answers"] for name, c in contenders.items()}
    first = next(iter(contenders.values()))
    length = statistics.mean(len(answer) for answers in last.values() for rows in answers for answer in rows)
    print(f"\n{given.lams} λ × {given.prompts} {given.task}, {given.rounds} round(s), answers of {length:.1f} tokens,")
    print(f"{first.ready['what']}, {machine()}\n")
    print("| | s, median | lowest to highest | this / ours | CPU s | peak MB | before the sweep | same answers as |")
    print("|---|---|---|---|---|---|---|---|")
    for name, contender in contenders.items():
        seconds = [r["seconds"] for r in contender.rounds]
        ratio = f"{middle[name] / middle['ours']:.2f}" if "ours" in middle else "-"
        other = SAME_AS.get(name, "")
        agreed = f"{other}: {same(last[name], last[other]):.1%}" if other in last else "-"
        peak = max(max(r["peak"], r["child"]) for r in contender.rounds)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        cpu = statistics.median(r["cpu"] for r in contender.rounds)
        figures = f"{ratio} | {cpu:.1f} | {peak:.0f} | {contender.ready['peak']:.0f}"
        print(f"| {CONTENDERS[name]} | {middle[name]:.2f} | {spread} | {figures} | {agreed} |")
    for name, target in TARGETS.items():
        if {name, "ours"} <= middle.keys():
            print(f"\n{CONTENDERS[name]} / ours: {middle[name] / middle['ours']:.2f} (target {target:g})")
    if "ours" in last:
        distinct = {tuple(map(tuple, rows)) for rows in last["ours"]}
        print(f"\ndifferent sets of answers in it: {len(distinct)} for {given.lams} λ")


def main() -> None:
    """Hold the match, or be one contender in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["reviews", "news"], default="reviews", help="news: longer prompts")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=24, help="longest answer")
    parser.add_argument("--lams", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256, help="answers that we decode side by side")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench-text", help="experts and prompts")
    parser.add_argument("--verbose", action="store_true", help="show what the contenders print on stderr")
    parser.add_argument("--contender", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender is not None:
        contend(given)
        return
    prompts = [f"--{name}={getattr(given, name)}" for name in ("task", "prompts")]
    setup = [sys.executable, str(HERE.with_name("_text_setup.py")), str(given.folder), *prompts, "--experts"]
    subprocess.run(setup, check=True, stdout=sys.stderr)
    sizes = prompts + [f"--{name}={getattr(given, name)}" for name in ("tokens", "lams", "rows", "folder")]
    own = [sys.executable, str(HERE), *sizes]
    makers = {
        name: lambda name=name: Contender([*own, f"--contender={name}"], given.verbose) for name in given.contenders
    }
    table(given, match(makers, given.rounds))


if __name__ == "__main__":
    main()
