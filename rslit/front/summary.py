"""The result of `rslit front`, readable in a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rslit.front.numbers import plus_minus, ranged

__all__ = ["FrontSummary"]


@dataclass(frozen=True)
class FrontSummary:
    """Numbers of a front and where they were written.

    Attributes:
        data: What `front.json` holds.
        files: Path by `"json"`, `"csv"`, `"html"`, `"png"`, `"svg"`.
    """

    data: dict[str, Any]
    files: dict[str, Path]

    def table(self) -> str:
        """Plain text: a line per point, then hypervolumes, LMC verdicts, gains of the experts and notes."""
        lines = [self._heading(), "", *_aligned(self._cells()), "* not dominated; ± half the interval", ""]
        lines += [*self._hypervolumes(), *self._preferences(), *self._costs(), *self._lmc(), *self._gains()]
        lines += [*self._beside(), *self._selection()]
        lines += [f"note: {note}" for note in self.data["notes"]]
        return "\n".join(lines)

    def _heading(self) -> str:
        soup, level = self.data["kinds"]["soup"], self.data["intervals"]["level"]
        space = f", space {self.data['space']}" if self.data["space"] else ""
        seeds = f"{len(soup['seeds'])} seeds" if len(soup["seeds"]) > 1 else "1 seed"
        counts = f"{soup['points']} soup points, {seeds} ({', '.join(map(str, soup['seeds']))}) x {soup['items']} items"
        return f"{self.data['task']}{space}: {counts}; {level:.0%} intervals"

    def _cells(self) -> list[list[str]]:
        rewards = self.data["rewards"]
        slack = any("lmc_slack" in point for point in self.data["points"])
        rows = [["", "kind", "point", *rewards, *(f"slack {reward}" for reward in rewards if slack)]]
        for point in self.data["points"]:
            row = ["*" if point["nondominated"] else "", point["kind"], point["point"]]
            row += [plus_minus(point["scores"][reward]) for reward in rewards]
            if slack:
                row += [_signed(point.get("lmc_slack", {}).get(reward)) for reward in rewards]
            rows.append(row)
        return rows

    def _hypervolumes(self) -> list[str]:
        volumes, reference = self.data["hypervolume"], self.data["reference"]
        at = ", ".join(f"{reward} {value:.4g}" for reward, value in reference["point"].items())
        lines = [f"reference: {at} ({reference['origin']})"]
        for name in ("soup", "morl"):
            if name in volumes:
                one = volumes[name]
                counts = f"{one['points']} points, {one['outside']} not above the reference"
                lines.append(f"hypervolume {name}: {ranged(one)}{_cross_fit(one)}, {counts}")
        difference = volumes.get("soup_minus_morl", {})
        if "skipped" in difference:
            lines.append(f"hypervolume soup - morl: skipped, {difference['skipped']}")
        elif difference:
            lines.append(
                f"hypervolume soup - morl: {ranged(difference['difference'])}{_cross_fit(difference)}, "
                f"{difference['points']} points each"
            )
        return lines

    def _preferences(self) -> list[str]:
        found = self.data["preferences"]
        if "skipped" in found:
            # Without MORL there was nothing to compare, which needs no line.
            return [f"soup - morl by preference: skipped, {found['skipped']}"] if "morl" in self.data["kinds"] else []
        return [
            f"expected utility soup - morl: {ranged(found['utility']['difference'])} ({found['unit']})",
            f"worst shortfall of the soup: {ranged(found['shortfall']['soup'])}, of MORL: "
            f"{ranged(found['shortfall']['morl'])}",
        ]

    def _costs(self) -> list[str]:
        return [
            f"cost {name}: {cost['trainings_per_seed']} trainings per seed, {cost['trainings']} in all"
            + ("" if cost["samples"] is None else f", {cost['samples']:,} samples")
            for name, cost in self.data["costs"].items()
        ]

    def _lmc(self) -> list[str]:
        lmc = self.data["lmc"]
        if "skipped" in lmc:
            return [f"LMC: skipped, {lmc['skipped']}"]
        return [
            f"LMC on {reward}: {verdict} (margin {lmc['margin'][reward]:.3g})"
            for reward, verdict in lmc["verdicts"].items()
        ]

    def _gains(self) -> list[str]:
        gains = self.data["experts_minus_initialisation"]
        return [
            f"expert {row['expert']} - initialisation on its {row['reward']}: {ranged(row)}"
            for row in gains.get("differences", [])
            if row["own"]
        ]

    def _beside(self) -> list[str]:
        lines = []
        for name, other in self.data.get("beside", {}).items():
            difference = other["soup_minus"]
            found = f"skipped, {difference['skipped']}" if "skipped" in difference else ranged(difference)
            each = "" if "skipped" in difference else f", {difference['points']} points each"
            lines.append(f"hypervolume {name}: {ranged(other['hypervolume'])}; soup - {name}: {found}{each}")
        if spread := self.data.get("trainings"):
            volume = spread["hypervolume"]
            lines.append(
                f"hypervolumes of {len(spread['fronts'])} trainings of these experts: {ranged(volume['mean'])} on "
                f"average, standard deviation {ranged(volume['deviation'])}"
            )
        return lines

    def _selection(self) -> list[str]:
        """The λ of each preference asked for, and how much λ = μ loses at worst over the grid."""
        found = self.data["selection"]
        if "skipped" in found:
            return []
        lines = []
        for row in found["asked"]:
            lines.append(
                f"best λ for {_mu(row)}: {row['best']} (score {ranged(row['chosen'])}); λ = μ: {row['nearest']} "
                f"({ranged(row['at_mu'])})"
            )
        worst = max(found["grid"], key=lambda row: row["regret"]["estimate"])
        lines.append(f"λ = μ loses at most {ranged(worst['regret'])}, at μ {_mu(worst)} (best λ: {worst['best']})")
        return [*lines, f"unit of these: {found['unit']}"]


def _mu(row: dict[str, Any]) -> str:
    return ",".join(f"{reward}={weight:.3g}" for reward, weight in row["mu"].items())


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        # Names to the left, numbers to the right.
        names = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join([*names, *numbers]).rstrip())
    return lines


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3g}"


def _cross_fit(numbers: dict[str, Any]) -> str:
    """What is left of a hypervolume when points are not scored on the items they were chosen on."""
    estimate = numbers["cross_fit"].get("estimate")
    return "" if estimate is None else f" (cross-fit {estimate:.4g})"
