"""The command line: verbs without a Trainer answer at once, the others import Lightning when they are called."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import rslit
from rslit.errors import RslitError

__all__ = ["main"]

_LIGHTNING = {
    "fit": "train an expert, a MORL solution or an initialisation",
    "validate": "evaluate, or sweep a lattice of λ",
    "test": "the same on the test data",
    "predict": "act and keep what the policy produced",
}
_OWN = {
    "soup": "export the soup at one λ as a model of its own",
    "front": "numbers and figures of a front from score tables",
    "recipe": "run the stages of an experiment",
    "demo": "slide λ on a web page and see what the soup does",
}


def _overview() -> str:
    width = max(map(len, {**_LIGHTNING, **_OWN}))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in {**_LIGHTNING, **_OWN}.items()]
    return "\n".join(
        [
            *("usage: rslit VERB [arguments]", "", "Rewarded Soups on PyTorch Lightning.", "", "verbs:", *lines),
            *("", "`rslit VERB --help` explains a verb."),
        ]
    )


def _soup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Interpolates experts' weights at one λ and writes the soup with a model card: as an ingredient, as a PEFT "
        "adapter (LoRA ingredients), or merged into the base model."
    )
    parser.add_argument(
        "--ingredients", nargs="+", required=True, type=Path, metavar="DIR", help="the experts' ingredient folders"
    )
    parser.add_argument("--lam", required=True, metavar="A=0.3,B=0.7", help="λ by expert, sum 1; fractions as 1/3")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--extrapolate", action="store_true", help="allow λ outside [0, 1]")
    parser.add_argument(
        "--space",
        choices=("factors", "delta"),
        help="LoRA: interpolate the factors A and B (default, the experts' rank) or their products (ranks add up)",
    )
    parser.add_argument(
        "--fisher",
        action="store_true",
        help="weigh every entry by the experts' Fisher diagonals (fisher.safetensors in each ingredient)",
    )
    parser.add_argument("--merged", action="store_true", help="merge into the base model, as a folder for transformers")


def _soup(args: argparse.Namespace) -> int:
    from rslit.soup import export_soup, parse_lam

    out = export_soup(
        args.ingredients,
        parse_lam(args.lam),
        args.out,
        extrapolate=args.extrapolate,
        space=args.space,
        merged=args.merged,
        fisher=args.fisher,
    )
    print(f"soup written to {out}")
    return 0


def _front_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Analyses score tables: points with intervals, hypervolumes, linear mode connectivity, figures."
    )
    parser.add_argument("scores", nargs="+", type=Path, metavar="SCORES", help="scores.parquet of one or many runs")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--reference", nargs="+", type=float, metavar="R", help="reference point, a number per reward (initialisation)"
    )
    parser.add_argument("--rewards", nargs="+", metavar="NAME", help="rewards to draw (all)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rewards to know of; others count nowhere (all)")
    parser.add_argument(
        "--delta", type=float, default=0.02, help="LMC margin, share of the experts' range (%(default)s)"
    )
    parser.add_argument(
        "--beside",
        nargs="+",
        action="extend",
        default=[],
        type=_named_file,
        metavar="NAME=SCORES",
        help="other soups to compare with (WiSE, ensembles, another run); files of one name are its seeds",
    )
    parser.add_argument(
        "--preference",
        nargs="+",
        default=[],
        metavar="R=W,R=W",
        help="weights of the rewards to choose λ for, such as risky=0.7,cautious=0.3",
    )
    parser.add_argument("--replicates", type=int, default=2000, help="bootstrap replicates (%(default)s)")


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=SCORES, such as wise=runs/wise/scores.parquet")
    return name, Path(path)


def _front(args: argparse.Namespace) -> int:
    from rslit.front import link_episodes, write_front
    from rslit.front.selection import read_preference

    beside: dict[str, list[Path]] = {}
    for name, path in args.beside:
        beside.setdefault(name, []).append(path)
    summary = write_front(
        args.scores,
        args.out,
        reference=args.reference,
        delta=args.delta,
        replicates=args.replicates,
        rewards=args.rewards,
        only=args.only,
        beside=beside,
        preferences=[read_preference(text) for text in args.preference],
    )
    print(summary.table())
    print(f"page: {summary.files['html']}; its numbers (JSON, CSV) and figure (PNG, SVG) beside it")
    episodes = link_episodes(args.scores, args.out)
    if episodes is not None:
        print(f"animated episodes: {episodes}")
    return 0


def _run_own(verb: str, rest: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"rslit {verb}", allow_abbrev=False)
    if verb == "recipe":
        from rslit.recipes import command

        command.add_arguments(parser)
        return command.run(parser.parse_args(rest))
    if verb == "demo":
        from rslit.demo import command as demo

        demo.add_arguments(parser)
        return demo.run(parser.parse_args(rest))
    if verb == "soup":
        _soup_arguments(parser)
        return _soup(parser.parse_args(rest))
    _front_arguments(parser)
    return _front(parser.parse_args(rest))


def main(args: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        args: Arguments after the program's name; default those of the process.

    Returns:
        The exit code: 0, or 2 after one line that says what was wrong with the input.
    """
    given = list(sys.argv[1:] if args is None else args)
    if not given or given[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        print(f"rslit {rslit.__version__}")
        return 0
    # Idle OpenMP threads of torch spin for long by default, on cores that a simulator (or another run) could
    # use. Not to spin at all is worse: small layers follow one another within microseconds (an update: 1.7 x as long).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        if given[0] in _OWN:
            return _run_own(given[0], given[1:])
        if given[0] in _LIGHTNING:
            from rslit.lightning_cli import run

            run(given)
            return 0
        raise RslitError(f"'{given[0]}' is no verb; there are: {', '.join({**_LIGHTNING, **_OWN})}")
    except RslitError as error:
        print(f"rslit: error: {error}", file=sys.stderr)
        return 2
