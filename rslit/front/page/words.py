"""What the numbers say, in sentences for the head of the page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from rslit.front.numbers import ranged

__all__ = ["sentences"]

Data = Mapping[str, Any]
_VERDICTS = {
    "holds": "every soup scores at least what interpolating the experts' scores promises",
    "violated": "some soup scores less than interpolating the experts' scores promises",
    "cannot tell": "the data cannot tell whether every soup scores what interpolating the experts' scores promises",
}


def sentences(data: Data) -> list[str]:
    """Sentences in HTML, names escaped: what was compared, what experts gained, the LMC, MORL, and caveats."""
    return [
        *_compared(data),
        *_gained(data),
        *_connected(data),
        *_against_morl(data),
        *_beside(data),
        *_chosen(data),
        *_caveats(data),
    ]


def _compared(data: Data) -> Iterator[str]:
    soup, kinds = data["kinds"]["soup"], data["kinds"]
    others = []
    if "initialisation" in kinds:
        others.append("their initialisation")
    if "morl" in kinds:
        others.append(_count(kinds["morl"]["points"], "MORL solution"))
    beside = f", beside {' and '.join(others)}" if others else ""
    kept = sum(p["nondominated"] is True for p in data["points"] if p["kind"] == "soup")
    yield (
        f"<b>{_count(soup['points'], 'soup')}</b> of {_count(len(data['experts']), 'expert')} "
        f"({_names(data['experts'])}){beside}, scored on {_count(soup['items'], 'item')} in "
        f"{_count(len(soup['seeds']), 'training seed')}. "
        f"<b>{kept}</b> of the soups {'is' if kept == 1 else 'are'} not dominated by another soup."
    )


def _gained(data: Data) -> Iterator[str]:
    for row in data["experts_minus_initialisation"].get("differences", []):
        if row["own"]:
            judged = {1: "more than", -1: "less than", 0: "not surely more than"}[_sign(row)]
            yield (
                f"Expert <b>{html.escape(row['expert'])}</b> scores {judged} the initialisation on "
                f"{html.escape(row['reward'])}: {_signed(row)}."
            )


def _connected(data: Data) -> Iterator[str]:
    lmc = data["lmc"]
    if "skipped" in lmc:
        yield f"Linear mode connectivity was not tested: {html.escape(lmc['skipped'])}."
        return
    for verdict, meaning in _VERDICTS.items():
        rewards = [reward for reward, found in lmc["verdicts"].items() if found == verdict]
        if rewards:
            yield (
                f"Linear mode connectivity on {_names(rewards)}: <b>{verdict}</b>; {meaning}, within "
                f"{lmc['delta']:.0%} of the experts' range."
            )


def _against_morl(data: Data) -> Iterator[str]:
    found = data["hypervolume"].get("soup_minus_morl", {})
    if "skipped" in found:
        yield f"Soup and MORL were not compared as fronts: {html.escape(found['skipped'])}."
    elif found:
        judged, costs = _covers(found["difference"], "MORL's"), data["costs"]
        yield (
            f"The soup's front <b>{judged}</b>, {_count(found['points'], 'point')} each: difference of hypervolumes "
            f"{_signed(found['difference'])}. Per seed the soup took "
            f"{_count(costs['soup']['trainings_per_seed'], 'training')}, MORL {costs['morl']['trainings_per_seed']}."
        )


def _beside(data: Data) -> Iterator[str]:
    for name, other in data.get("beside", {}).items():
        difference = other["soup_minus"]
        if "skipped" in difference:
            yield f"Not compared with <b>{html.escape(name)}</b> as a front: {html.escape(difference['skipped'])}."
            continue
        judged = _covers(difference, f"that of <b>{html.escape(name)}</b>")
        yield f"The soup's front {judged}: difference of hypervolumes {_signed(difference)}."
    if spread := data.get("trainings"):
        volume = spread["hypervolume"]
        yield (
            f"Trained in <b>{len(spread['fronts'])} ways</b>, experts of these names gave fronts of hypervolumes "
            f"from {volume['least']['estimate']:.4g} to {volume['most']['estimate']:.4g}: {ranged(volume['mean'])} on "
            f"average, standard deviation {ranged(volume['deviation'])}."
        )


def _chosen(data: Data) -> Iterator[str]:
    found = data["selection"]
    if "skipped" in found:
        return
    for row in found["asked"]:
        mu = ", ".join(f"{html.escape(reward)} {weight:.3g}" for reward, weight in row["mu"].items())
        yield (
            f"For the preference {mu} take <b>λ: {html.escape(row['best'].replace(',', ', '))}</b>, which scores "
            f"{ranged(row['chosen'])} where λ = μ scores {ranged(row['at_mu'])} ({html.escape(found['unit'])})."
        )
    worse = sum(_sign(row["regret"]) > 0 for row in found["grid"])
    yield (
        f"Setting λ = μ loses against choosing λ on a score table for <b>{worse} of {len(found['grid'])}</b> "
        "preferences (those whose interval, taken by itself, lies above 0)."
    )


def _caveats(data: Data) -> Iterator[str]:
    if data["intervals"]["conditional"]:
        yield (
            "<b>One training seed</b>: intervals say what other items would change, not what another training would. "
            "Give score tables of several seeds to know that."
        )


def _covers(difference: Mapping[str, Any], whose: str) -> str:
    return {
        1: f"covers more than {whose}",
        -1: f"covers less than {whose}",
        0: f"covers as much as {whose}, as far as the data can tell",
    }[_sign(difference)]


def _sign(numbers: Mapping[str, Any]) -> int:
    """1 or −1 where the whole interval lies on one side of 0, else 0."""
    if numbers["low"] is None:
        return 0
    return int(numbers["low"] > 0) - int(numbers["high"] < 0)


def _signed(numbers: Mapping[str, Any]) -> str:
    return f"{'+' if numbers['estimate'] > 0 else ''}{ranged(numbers)}"


def _names(names: Any) -> str:
    escaped = [html.escape(name) for name in names]
    return escaped[0] if len(escaped) == 1 else f"{', '.join(escaped[:-1])} and {escaped[-1]}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
