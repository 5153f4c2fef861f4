"""The page: a front to click, sliders on the simplex, expected rewards, live output, export."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import streamlit as st

from rslit.demo.expected import Expected
from rslit.demo.figure import axes_of, clicked, front_figure
from rslit.demo.live import ExactLam, LiveSoup
from rslit.demo.players import Player
from rslit.demo.players.base import Tell, plain
from rslit.demo.simplex import GRID, moved, read_lam, uniform
from rslit.errors import RslitError
from rslit.front import Front
from rslit.soup import format_lam, parse_lam

__all__ = ["draw_page", "expected_table"]

_LAM, _CHART, _POINT, _EXPORTED = "lam", "front", "point", "exported"


def draw_page(live: LiveSoup, player: Player) -> None:
    """Draws the page for one visitor; Streamlit calls for it after everything the visitor does.

    Args:
        live: The sweep's soup, which all visitors share.
        player: What plays its task.
    """
    run = live.run
    st.set_page_config(page_title=f"rslit demo: {run.folder}", layout="wide")
    # A table of many experts scrolls in its place.
    st.html("<style>[data-testid=stMarkdownContainer] { overflow-x: auto; }</style>")
    st.title("Which trade-off is yours?")
    st.caption(f"{run.evaluator.meta.task.replace('_', ' ')} · {plain(str(run.folder))}")
    _begin(live)
    lam: ExactLam = st.session_state[_LAM]
    st.query_params["lam"] = format_lam(lam)
    expected = live.expected.at(np.array([float(lam[name]) for name in live.experts]))
    left, right = st.columns([3, 2], gap="large")
    with left:
        _front(live, lam, expected)
    with right:
        _sliders(live, lam)
        _expected(live, expected)
        _export(live, lam)
    st.subheader("Live", divider="gray")
    policies = {f"soup at λ: {_shown(lam)}": lam, **live.references}
    try:
        what = player.choose()
        if what is not None:
            player.show(
                what, {name: functools.partial(_play, live, player, own, what) for name, own in policies.items()}
            )
    except RslitError as error:  # such as an image file that is gone
        st.error(plain(str(error)))


def expected_table(expected: Expected | None, soups: Front, start: Front | None) -> str:
    """Rewards of the soup, of the initialisation and of each expert, as a table in Markdown.

    Args:
        expected: The soup's; None leaves it out.
        soups: The sweep's soups; experts that are among them are shown.
        start: Front of the initialisation, if it was scored.
    """
    columns: list[tuple[str, list[str]]] = [("", [plain(reward) for reward in soups.rewards])]
    if expected is not None:
        values = zip(expected.mean, expected.low, expected.high, strict=True)
        cells = [
            f"**{m:.4g}**" + ("" if np.isnan(low) else f" [{low:.4g},\u00a0{high:.4g}]") for m, low, high in values
        ]
        columns.append(("this soup", cells))
    if start is not None:
        columns.append(("initialisation", [f"{value:.4g}" for value in start.scores[0]]))
    if soups.has_experts():
        for name, index in zip(soups.experts, soups.expert_points(), strict=True):
            columns.append((f"expert {plain(name)}", [f"{value:.4g}" for value in soups.scores[index]]))
    lines = [[name for name, _ in columns], *map(list, zip(*(cells for _, cells in columns), strict=True))]
    # The column beside the front is narrow: a column per reward, whose intervals are wide, or one per policy.
    if 120 * len(soups.rewards) < 170 + 75 * (len(columns) - 3):
        lines = [list(line) for line in zip(*lines, strict=True)]
    lines.insert(1, ["---", *["---:"] * (len(lines[0]) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _play(live: LiveSoup, player: Player, lam: ExactLam, what: Any, tell: Tell) -> Any:
    return live.play(lam, what, lambda: player.act(what, tell))


# -- λ of the visitor ------------------------------------------------------------------------------------------------


def _begin(live: LiveSoup) -> None:
    """A new visitor, or one who reloaded the page, gets the λ of the address, else the uniform one."""
    if _LAM in st.session_state:
        return
    st.session_state[_LAM] = uniform(live.experts)
    given = st.query_params.get("lam")
    if given is not None:
        try:
            st.session_state[_LAM] = read_lam(given, live.experts)
        except RslitError as error:
            st.warning(f"The address has no λ that fits: {plain(str(error))}")


def _set(lam: Mapping[str, Fraction]) -> None:
    st.session_state[_LAM] = dict(lam)
    st.session_state.pop(_EXPORTED, None)


def _slid(name: str) -> None:
    _set(moved(st.session_state[_LAM], name, st.session_state[_slider(name)]))


def _clicked(soups: Front) -> None:
    index = clicked(st.session_state[_CHART]["selection"]["points"], len(soups))
    if index is not None:
        _set(parse_lam(soups.labels[index]))


def _chosen(soups: Front) -> None:
    index = st.session_state[_POINT]
    if index is not None:
        _set(parse_lam(soups.labels[index]))


# -- parts of the page -----------------------------------------------------------------------------------------------


def _front(live: LiveSoup, lam: ExactLam, expected: Expected | None) -> None:
    soups = live.run.soups
    choices = axes_of(soups)
    axes = choices[:2]
    if len(soups.rewards) > 2:
        places = st.columns(2)
        axes = [
            place.selectbox(label, choices, index=k, key=f"axis {k}")
            for k, (place, label) in enumerate(zip(places, ("Across", "Up"), strict=True))
        ]
    figure = front_figure(soups, live.run.beside, axes, [float(lam[name]) for name in live.experts], expected)
    st.plotly_chart(
        figure,
        key=_CHART,
        on_select=functools.partial(_clicked, soups),
        selection_mode="points",
        config={"displayModeBar": False},
    )
    if not soups.nondominated().all():
        st.caption("Hollow points are dominated.")
    # What a mouse does on the front, keyboards and screen readers do here.
    here = next((k for k, label in enumerate(soups.labels) if parse_lam(label) == dict(lam)), None)
    st.session_state[_POINT] = here
    st.selectbox(
        "Click a point, or choose it here",
        range(len(soups)),
        index=None,
        format_func=lambda k: _shown(parse_lam(soups.labels[k])),
        key=_POINT,
        placeholder="between the points of the sweep",
        on_change=functools.partial(_chosen, soups),
    )


def _sliders(live: LiveSoup, lam: ExactLam) -> None:
    st.markdown("**λ**: how much of each expert. The others give way, so that the sum stays 1.")
    for name in live.experts:
        # What the visitor moved already is where it should be: setting it would undo the moves made since.
        if st.session_state.get(_slider(name)) != float(lam[name]):
            st.session_state[_slider(name)] = float(lam[name])
        st.slider(
            f"λ of {plain(name)}",
            0.0,
            1.0,
            step=1 / GRID,
            key=_slider(name),
            on_change=functools.partial(_slid, name),
            disabled=len(live.experts) == 1,
        )


def _expected(live: LiveSoup, expected: Expected | None) -> None:
    source, run = live.expected, live.run
    st.markdown("**Expected rewards**")
    st.markdown(expected_table(expected, run.soups, run.beside.get("initialisation")))
    if expected is None:
        st.caption("The sweep's points do not enclose this λ, so nothing is expected of it.")
        return
    how = "measured in the sweep" if expected.points == 1 else f"interpolated between {expected.points} points"
    whose = ", conditional on this training" if source.conditional else ""
    if np.isnan(expected.low).all():
        st.caption(f"{how.capitalize()}; one item in one training has no interval.")
    else:
        st.caption(f"{how.capitalize()}; {source.level:.0%} intervals over {source.items} items{whose}.")


def _export(live: LiveSoup, lam: ExactLam) -> None:
    merged = live.has_base and st.checkbox("as a whole model, merged into its base", key="merged")
    if st.button(f"Export the soup at λ: {plain(_shown(lam))}", key="export"):
        try:
            st.session_state[_EXPORTED] = str(live.export(lam, merged))
        except RslitError as error:
            st.error(plain(str(error)))
    if _EXPORTED in st.session_state:
        st.success("Exported to")
        st.code(st.session_state[_EXPORTED], language=None, wrap_lines=True)


def _slider(name: str) -> str:
    return f"slider {name}"


def _shown(lam: ExactLam) -> str:
    return ", ".join(f"{name} {float(value):.4g}" for name, value in lam.items())
