from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rslit.cli import main
from rslit.demo.server import ADDRESS, check_port
from rslit.errors import RslitError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind((ADDRESS, 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_a_port_in_use(taken: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is loaded."""
    assert main(["demo", str(tmp_path / "none"), "--port", str(taken)]) == 2
    error = capsys.readouterr().err
    assert error == (f"rslit: error: --port {taken}: the port is in use on 127.0.0.1; give another with --port\n")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port(port: int) -> None:
    with pytest.raises(RslitError, match=f"--port {port}: ports are 1 to 65535; give one of them"):
        check_port(port)


def test_a_port_that_was_in_use(taken: int) -> None:
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        port = int(free.getsockname()[1])
    check_port(port)
    with pytest.raises(RslitError):
        check_port(taken)


def test_a_run_folder_without_ingredients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        port = str(free.getsockname()[1])
    assert main(["demo", str(tmp_path), "--port", port]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rslit: error: {tmp_path}: holds no sweep, so no ingredients to interpolate;")
    assert error.count("\n") == 1


def test_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find: Callable[[str], object] = lambda name: None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", find)
    assert main(["demo", str(tmp_path)]) == 2
    assert "rslit demo needs the package streamlit: pip install 'rslit[demo]'" in capsys.readouterr().err
