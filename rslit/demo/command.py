"""The command `rslit demo`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from rslit.errors import RslitError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `rslit demo` to a parser."""
    parser.description = (
        "Opens a page on 127.0.0.1: click the front of a finished sweep or move sliders over λ, see what the poured "
        "model does beside the initialisation and the experts, and export the soup you like. Paths in the sweep's "
        "configuration are relative to where it was run: start the demo there."
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the runs of a recipe, or the folder of its sweep")
    parser.add_argument("--port", type=int, default=8501, help="port of the page (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the command until it is stopped.

    Args:
        args: Parsed arguments, see `add_arguments`.

    Returns:
        The exit code 0.

    Raises:
        RslitError: The port cannot be used, a library is missing, or the run folder cannot be shown.
    """
    from rslit.demo.server import check_port, serve

    for library in ("streamlit", "plotly"):
        if importlib.util.find_spec(library) is None:
            raise RslitError(f"rslit demo needs the package {library}: pip install 'rslit[demo]', or use make demo")
    check_port(args.port)
    from rslit.demo.live import LiveSoup
    from rslit.demo.page import draw_page
    from rslit.demo.players import player_of
    from rslit.demo.run_folder import open_run

    opened = open_run(args.run)
    live, player = LiveSoup(opened), player_of(opened)
    serve(lambda: draw_page(live, player), args.port)
    return 0
