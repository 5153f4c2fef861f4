from __future__ import annotations

import filecmp
import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rslit.errors import RslitError
from rslit.scenes import World, files, write_world
from rslit.scenes.__main__ import main

SMALL = ["--train", "4", "--val", "2", "--test", "2"]


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_same_parameters_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "deep" / "two"
    assert main([str(one), *SMALL]) == main([str(two), *SMALL]) == 0
    assert contents(one) == contents(two)
    assert filecmp.cmpfiles(one, two, contents(one), shallow=False) == (contents(one), [], [])


def test_a_larger_world_holds_the_smaller(tmp_path: Path) -> None:
    write_world(tmp_path / "small", World(train=3, val=2, test=2))
    write_world(tmp_path / "large", World(train=5, val=4, test=3))
    images = [name for name in contents(tmp_path / "small") if name.endswith(".jpg")]
    assert filecmp.cmpfiles(tmp_path / "small", tmp_path / "large", images, shallow=False) == (images, [], [])
    for name in ("annotations/instances_val2014.json", "vqa/v2_mscoco_val2014_annotations.json"):
        few, many = (json.loads((tmp_path / world / name).read_text())["annotations"] for world in ("small", "large"))
        assert all(annotation in many for annotation in few)


def test_a_finished_world_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    out.mkdir()  # an empty folder may be there
    assert main([str(out), *SMALL]) == 0
    times = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    assert main([str(out), *SMALL]) == 0
    assert capsys.readouterr().out == f"{out}: 8 images\n{out}: there\n"
    assert {name: (out / name).stat().st_mtime_ns for name in contents(out)} == times


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*SMALL, "--seed", "1"], "other parameters (seed 0); delete it or choose another folder"),
        (["--train", "5", "--val", "2", "--test", "2", "--size", "32"], "(train 4, size 64)"),
        (["--train", "0"], "--train 0: must be from 1 to 999999"),
        (["--size", "8"], "--size 8: must be from 32 to 1024 pixels"),
    ],
)
def test_one_line_for_other_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    main([str(tmp_path / "world"), *SMALL])
    before = contents(tmp_path)
    capsys.readouterr()
    assert main([str(tmp_path / "world"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rslit: error: ")
    assert error.count("\n") == 1
    assert named in error
    assert contents(tmp_path) == before


def test_one_line_for_what_is_no_world_or_a_damaged_one(tmp_path: Path) -> None:
    world, out = World(4, 2, 2), tmp_path / "world"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for taken in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(RslitError, match="holds something else than a world"):
            write_world(taken, world)
    with pytest.raises(RslitError, match="cannot write"):
        write_world(tmp_path / "mine" / "notes.txt" / "world", world)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert contents(tmp_path) == ["mine/notes.txt"]
    write_world(out, world)
    (out / "dataset_coco.json").write_text("{}")
    with pytest.raises(RslitError, match=r"dataset_coco\.json is not as it was written; delete"):
        write_world(out, world)
    shutil.rmtree(out)
    write_world(out, world)
    next(out.glob("images/*/*.jpg")).unlink()
    with pytest.raises(RslitError, match="images missing or added"):
        write_world(out, world)


def test_a_killed_run_leaves_no_half_a_world(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rslit.scenes", str(tmp_path / "world"), "--train", "2000"]
    with subprocess.Popen(command, start_new_session=True) as run:
        deadline = time.monotonic() + 120
        while not any(tmp_path.glob(".world.part/images/*/*.jpg")):
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    assert not (tmp_path / "world").exists()
    assert main([str(tmp_path / "world"), *SMALL]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".world.lock", "world"]
    assert json.loads((tmp_path / "world" / "world.json").read_text())["images"] == 8


def test_an_error_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(picture: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "jpeg", full)
    with pytest.raises(RslitError, match="world: cannot write: No space left on device"):
        write_world(tmp_path / "world", World(4, 2, 2))
    assert contents(tmp_path) == [".world.lock"]


def test_two_that_ask_at_once_get_one_world(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(write_world, tmp_path / "world", World(30, 2, 2)) for _ in range(3)]
    assert sorted(run.result() for run in runs) == [False, False, True]


def test_help_is_fast_since_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, rslit.scenes.__main__ as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'PIL', 'lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--seed" in done.stdout
