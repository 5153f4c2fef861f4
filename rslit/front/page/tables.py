"""The page's tables. A column whose cells carry a value sorts by it when its heading is pressed."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from rslit.front.numbers import plus_minus, ranged
from rslit.front.page.marks import KINDS, label

__all__ = ["beside_table", "cost_table", "gain_table", "hypervolume_table", "points_table", "preference_table", "table"]

Data = Mapping[str, Any]
Cell = tuple[str, float | str | None]
"""What a cell shows, in HTML, and what it is sorted by."""


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str, sortable: bool = False) -> str:
    """A table in a box that scrolls sideways by itself; the first cell of a row is its heading."""
    if not rows:
        return ""
    cells = [f"<button type='button'>{name}</button>" if sortable else name for name in head]
    top = "".join(f"<th scope='col'>{cell}</th>" for cell in cells)
    body = "".join(f"<tr>{''.join(_cell(cell, first=k == 0) for k, cell in enumerate(row))}</tr>" for row in rows)
    kind = " class='sortable'" if sortable else ""
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='{html.escape(caption, quote=True)}'><table{kind}>"
        f"<caption>{html.escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def points_table(data: Data) -> str:
    """Every point: kind, name, scores, LMC slack, whether another of its kind dominates it."""
    rewards = list(data["rewards"])
    slack = any("lmc_slack" in point for point in data["points"])
    head = ["point", "kind", *map(html.escape, rewards)]
    head += [f"slack {html.escape(reward)}" for reward in rewards if slack] + ["dominated"]
    rows = []
    for point in data["points"]:
        kind = KINDS[point["kind"]][0] if point["kind"] in KINDS else "training"
        row: list[Cell] = [(label(point), _order(point)), (kind, kind)]
        row += [(plus_minus(point["scores"][reward]), point["scores"][reward]["estimate"]) for reward in rewards]
        for reward in rewards if slack else []:
            value = point.get("lmc_slack", {}).get(reward)
            row.append(("" if value is None else f"{value:+.3g}", value))
        dominated = {True: "", False: "yes", None: "–"}[point["nondominated"]]
        rows.append([*row, (dominated, dominated)])
    level = data["intervals"]["level"]
    return table(head, rows, f"Every point; ± half the {level:.0%} interval", sortable=True)


def hypervolume_table(data: Data) -> str:
    """Hypervolumes at the reference, and the difference of soup and MORL."""
    volumes = data["hypervolume"]
    rows: list[list[Cell]] = []
    for name, title in (("soup", "soup"), ("morl", "MORL")):
        if name in volumes:
            one = volumes[name]
            rows.append(_texts(title, ranged(one), _cross_fit(one), str(one["points"]), str(one["outside"])))
    found = volumes.get("soup_minus_morl", {})
    if "difference" in found:
        each = f"{found['points']} each"
        rows.append(_texts("soup − MORL", ranged(found["difference"]), _cross_fit(found), each, ""))
    at = ", ".join(f"{name} {value:.4g}" for name, value in data["reference"]["point"].items())
    caption = f"Hypervolume above {at} ({data['reference']['origin']})"
    head = ["", "hypervolume", "cross-fit", "points", "not above the reference"]
    return table(head, rows, caption)


def preference_table(data: Data) -> str:
    """What a preference gets from soup and MORL."""
    found = data["preferences"]
    if "skipped" in found:
        return ""
    names = {"utility": "expected utility", "shortfall": "worst shortfall", "igd_plus": "IGD+"}
    rows = [
        _texts(
            title,
            *(ranged(found[name][kind]) if kind in found[name] else "" for kind in ("soup", "morl", "difference")),
        )
        for name, title in names.items()
    ]
    return table(["", "soup", "MORL", "soup − MORL"], rows, f"By preference; unit: {found['unit']}")


def cost_table(data: Data) -> str:
    """Trainings behind each front, and what they sampled if the score tables say it."""
    known = any(cost["samples"] is not None for cost in data["costs"].values())
    rows = []
    for name, cost in data["costs"].items():
        shown = [str(cost["trainings_per_seed"]), str(cost["trainings"])]
        shown += ["" if cost["samples"] is None else f"{cost['samples']:,}"] if known else []
        rows.append(_texts({"soup": "soup", "morl": "MORL"}[name], *shown))
    head = ["", "per seed", "in all", *(["samples in all"] if known else [])]
    return table(head, rows, "Trainings, the initialisation's not counted")


def gain_table(data: Data) -> str:
    """Each expert minus the initialisation, on every reward."""
    rewards = list(data["rewards"])
    differences = data["experts_minus_initialisation"].get("differences", [])
    rows: list[list[Cell]] = []
    for expert in data["experts"]:
        own = {row["reward"]: row for row in differences if row["expert"] == expert}
        if own:
            cells = [f"<b>{ranged(own[r])}</b>" if own[r]["own"] else ranged(own[r]) for r in rewards]
            rows.append(_texts(html.escape(expert), *cells))
    return table(
        ["expert", *map(html.escape, rewards)], rows, "Experts minus initialisation; bold: the expert's own reward"
    )


def beside_table(data: Data) -> str:
    """Each run set beside the soup: its points, trainings, LMC, hypervolume, and the soup minus it."""
    rows: list[list[Cell]] = []
    for name, other in data.get("beside", {}).items():
        difference = other["soup_minus"]
        compared = html.escape(difference["skipped"]) if "skipped" in difference else ranged(difference)
        volume = other["hypervolume"]
        trainings = str(other["trainings"]["trainings"])
        lmc = ", ".join(other["lmc"].values())
        rows.append(_texts(html.escape(name), str(len(other["points"])), trainings, lmc, ranged(volume), compared))
    head = ["beside", "points", "trainings", "LMC", "hypervolume", "soup minus it"]
    order = ", ".join(data["rewards"])
    return table(head, rows, f"Beside the soup, at the same reference; LMC between its experts on {order}")


def _cell(cell: Cell, first: bool) -> str:
    shown, value = cell
    tag = "th scope='row'" if first else "td"
    sorted_by = "" if value is None else f" data-value='{html.escape(str(value), quote=True)}'"
    return f"<{tag}{sorted_by}>{shown}</{tag[:2]}>"


def _texts(*texts: str) -> list[Cell]:
    return [(text, None) for text in texts]


def _cross_fit(numbers: Mapping[str, Any]) -> str:
    found = numbers["cross_fit"]
    return html.escape(found["skipped"]) if "skipped" in found else ranged(found)


def _order(point: Mapping[str, Any]) -> float | str:
    """Soups sort by λ of their first expert, others by name."""
    return float(next(iter(point["lam"].values()))) if "lam" in point else str(point["point"])
