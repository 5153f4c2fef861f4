"""Starts the page's server: one process, on this machine only, that asks nobody else for anything."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

from rslit.errors import RslitError

__all__ = ["ADDRESS", "check_port", "serve", "shown"]

ADDRESS = "127.0.0.1"

_OPTIONS = {
    "server.address": ADDRESS,
    "server.headless": True,  # neither opens a browser nor asks for an e-mail address
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "browser.gatherUsageStats": False,
    "browser.serverAddress": ADDRESS,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "logger.hideWelcomeMessage": True,
    "logger.level": "warning",
    "theme.base": "light",  # in which the figure's colours were chosen
    "theme.primaryColor": "#0072B2",
}

_PAGES: list[Callable[[], None]] = []


def check_port(port: int) -> None:
    """Refuses a port on which the page could not be served.

    Raises:
        RslitError: It is no port, is in use, or may not be used.
    """
    if not 1 <= port <= 65535:
        raise RslitError(f"--port {port}: ports are 1 to 65535; give one of them")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a closed page lingers
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
            raise RslitError(f"--port {port}: the port {why} on {ADDRESS}; give another with --port") from None


def serve(page: Callable[[], None], port: int) -> None:
    """Serves a page until the process is stopped.

    Args:
        page: Draws the page; called in the thread of the visitor's session.
        port: Where to, see `check_port`.
    """
    from streamlit.web import bootstrap

    _PAGES[:] = [page]
    options = {**_OPTIONS, "server.port": port}
    bootstrap.load_config_options(options)
    print(f"demo on http://{ADDRESS}:{port} (Ctrl-C stops it)", flush=True)
    bootstrap.run(str(Path(__file__).with_name("app.py")), False, [], options)


def shown() -> None:
    """Draws the page that is being served."""
    _PAGES[0]()
