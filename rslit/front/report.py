"""`rslit front SCORES... --out DIR`: from score tables to numbers and figures.

Writes `front.json` (every number), `front.csv` (a line per point), `front.html` (a page for a person), `front.png` and
`front.svg`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rslit import __version__
from rslit.front.analysed import Analysed, analyse
from rslit.front.beside import Beside, beside_section, read_beside
from rslit.front.compare import Reference, choose_reference
from rslit.front.files import write_bytes
from rslit.front.numbers import by_name, points_csv
from rslit.front.page import front_page
from rslit.front.plots import plot_front, render
from rslit.front.provenance import provenance
from rslit.front.rivals import hypervolumes, preference_measures
from rslit.front.scores import ScoreTable, read_scores
from rslit.front.sections import attainment, costs, gains, lmc_numbers, points, run_lmc
from rslit.front.selection import selection_section
from rslit.front.summary import FrontSummary
from rslit.front.tables import concat, select
from rslit.front.trainings import trainings_section

__all__ = ["write_front"]

LEVEL = 0.95


def write_front(
    score_paths: Sequence[Path | str],
    out: Path | str,
    *,
    reference: Sequence[float] | None = None,
    delta: float = 0.02,
    replicates: int = 2000,
    seed: int = 0,
    rewards: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    beside: Mapping[str, Sequence[Path | str]] | None = None,
    preferences: Sequence[Mapping[str, float]] = (),
) -> FrontSummary:
    """Analyse one or many score tables (soup, MORL, initialisation; any number of seeds) and write the results.

    Args:
        score_paths: `scores.parquet` files of one task.
        out: Folder for `front.json`, `.csv`, `.html`, `.png` and `.svg`; made if missing.
        reference: Reference point of the hypervolume, one number per reward in the table's order. If left out: the
            initialisation's mean scores when it was scored, else the worst expert minus 10 % of the experts' range.
        delta: Margin of the LMC verdict, as a fraction of the range between the experts.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap; the same seed writes the same numbers.
        rewards: Rewards to draw; all if left out. The numbers are over all that `only` leaves.
        only: Rewards to know of, in this order; the others are left out of everything. All if left out.
        beside: Score tables of other soups by name, several of one name its seeds; see `rslit.front.beside`.
        preferences: μ to choose λ for, each weights by reward with sum 1, beside those of a grid.

    Returns:
        The numbers, where they were written, and a table for the terminal.

    Raises:
        RslitError: A file or table is bad, tables do not belong together or share no items, there is no soup, there are
            fewer than two rewards, or the reference does not fit.
    """
    paths = [Path(path) for path in score_paths]
    tables = [read_scores(path) for path in paths]
    table = concat(tables) if only is None else select(concat(tables), only)
    draws = {"replicates": replicates, "level": LEVEL, "rng": seed}
    report = analyse(table, draws)
    _note(report, tables)
    lmc = run_lmc(report, delta)
    chosen = _reference(report, reference)
    others = read_beside(beside or {}, report)
    data: dict[str, Any] = {
        "task": table.meta.task,
        "space": table.meta.space,
        "rewards": list(table.meta.rewards),
        "drawn": list(rewards or table.meta.rewards),
        "experts": list(table.meta.experts),
        "intervals": {
            "level": LEVEL,
            "method": "crossed bootstrap over seeds and items, lengthened for few seeds; "
            "seed_low and seed_high: Student t over seeds",
            "replicates": replicates,
            "seed": seed,
            "conditional": len(report.kinds["soup"].array.seeds) == 1,
        },
        "kinds": {
            name: {"seeds": list(kind.array.seeds), "items": len(kind.array.items), "points": len(kind.array.points)}
            for name, kind in report.kinds.items()
        },
        "points": points(report, lmc),
        "reference": {"point": by_name(table.meta.rewards, chosen.point), "origin": chosen.origin},
        "hypervolume": hypervolumes(report, chosen),
        "lmc": lmc if isinstance(lmc, dict) else lmc_numbers(report, lmc, delta),
        "preferences": preference_measures(report),
        "selection": selection_section(report, preferences),
        "attainment": attainment(report),
        "costs": costs(report, tables),
        "experts_minus_initialisation": gains(report),
        **({"beside": beside_section(report, others, chosen, delta)} if others else {}),
        **({"trainings": trainings} if (trainings := trainings_section(report, others, chosen)) else {}),
        "notes": report.notes,
        "provenance": {
            "version": __version__,
            "files": [provenance(*pair) for pair in zip(paths, tables, strict=True)],
        },
    }
    return _write(report, others, data, paths, Path(out), rewards)


def _note(report: Analysed, tables: Sequence[ScoreTable]) -> None:
    if len(report.kinds["soup"].array.seeds) == 1:
        report.notes.append("one training seed: intervals are conditional on that run")
    for name, kind in report.kinds.items():
        if kind.array.dropped:
            report.notes.append(f"{kind.array.dropped} items left out: not every {name} point was evaluated on them")
    if len({table.meta.initialisation for table in tables}) > 1:
        report.notes.append("the files name different initialisations")


def _reference(report: Analysed, given: Sequence[float] | None) -> Reference:
    soup, initialisation = report.kinds["soup"].front, report.kinds.get("initialisation")
    return choose_reference(
        given,
        None if initialisation is None else initialisation.front.scores[0],
        soup.scores[soup.expert_points()] if soup.has_experts() else None,
        report.meta.rewards,
    )


def _write(
    report: Analysed,
    others: Sequence[Beside],
    data: dict[str, Any],
    paths: Sequence[Path],
    out: Path,
    rewards: Sequence[str] | None,
) -> FrontSummary:
    kinds = report.kinds
    seeds, items = len(kinds["soup"].array.seeds), len(kinds["soup"].array.items)
    figure = plot_front(
        kinds["soup"].front,
        morl=kinds["morl"].front if "morl" in kinds else None,
        initialisation=kinds["initialisation"].front if "initialisation" in kinds else None,
        attained=data["attainment"]["soup"],
        trajectories=kinds["trajectory"].front if "trajectory" in kinds else None,
        beside={other.name: other.kind.front for other in others},
        intervals={name: kind.interval for name, kind in kinds.items()},
        rewards=rewards,
        title=f"{report.meta.task}: {_count(seeds, 'seed')}, {_count(items, 'item')}; bars: {LEVEL:.0%} intervals",
    )
    files = {name: out / f"front.{name}" for name in ("json", "csv", "html", "png", "svg")}
    # All five are made before the first is written: a failure leaves the folder as it was.
    contents = {
        "json": (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "csv": points_csv(data).encode(),
        "html": front_page(data, paths).encode(),
        "png": render(figure, "png"),
        "svg": render(figure, "svg"),
    }
    for name, content in contents.items():
        write_bytes(files[name], content)
    return FrontSummary(data, files)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
