from __future__ import annotations

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
from table_files import own_cache, write

from rslit.errors import RslitError
from rslit.tables import open_table, rows

ROWS = [{"q": f"question {k}", "n": k} for k in range(10)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache(tmp_path_factory.mktemp("datasets"), monkeypatch)


def questions(*args: Any, **kwargs: Any) -> list[str]:
    return [row["q"] for row in rows(*map(str, args), **kwargs)]


@pytest.mark.parametrize("end", ["jsonl", "jsonl.gz", "json", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, end: str) -> None:
    file = write(tmp_path / f"mine.{end}", ROWS)
    assert [dict(row) for row in rows(str(file), "train")] == ROWS
    assert questions(file, "train[2:4]") == ["question 2", "question 3"]
    assert questions(file, "train[90%:]") == ["question 9"]


def test_a_folder_is_read_by_split_at_any_depth(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00000-of-00002.parquet", ROWS[:3])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", ROWS[3:5])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", ROWS[5:])
    write(tmp_path / ".cache" / "train.parquet", ROWS)
    write(tmp_path / "training.jsonl", ROWS)
    assert questions(tmp_path, "train") == [row["q"] for row in ROWS[:5]]
    assert questions(tmp_path, "test") == [row["q"] for row in ROWS[5:]]


def test_subsets_and_folders(tmp_path: Path) -> None:
    write(tmp_path / "easy" / "train.jsonl.gz", ROWS[:2])
    write(tmp_path / "hard" / "train.jsonl.gz", ROWS[2:5])
    assert len(questions(tmp_path, "train")) == 5
    assert questions(tmp_path, "train", folder="hard") == questions(tmp_path, "train", subset="hard")
    assert len(questions(tmp_path, "train", folder="hard")) == 3
    assert len(questions(tmp_path, "train", subset="default")) == 5
    with pytest.raises(RslitError, match=r"data.source: there is no folder .*/none"):
        questions(tmp_path, "train", folder="none")


def test_words_that_pandas_takes_for_missing_are_texts(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", [{"q": "None"}, {"q": "NA"}, {"q": ""}])
    assert questions(file, "train") == ["None", "NA", ""]


def test_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", "some/other/place", "mine.jsonl", "./here", "~/nowhere-at-all"):
        with pytest.raises(RslitError, match="does not exist; give a file, a folder, or a data set's hub name"):
            questions(path, "train")
    write(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(RslitError, match=r"no file of split 'test' \(test.jsonl, .*\); its data files: train.jsonl"):
        questions(tmp_path, "test")
    with pytest.raises(RslitError, match=r"mine.jsonl has no split 'train\[20:30\]' with rows"):
        questions(write(tmp_path / "mine.jsonl", ROWS), "train[20:30]")


def test_other_formats_are_refused_and_pickles_not_opened(tmp_path: Path) -> None:
    (tmp_path / "train.pkl").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(RslitError, match="its data files: none that can be read"):
        questions(tmp_path, "train")
    with pytest.raises(RslitError, match=r"train.pkl: the files must be all JSONL, JSON, CSV, TSV or parquet"):
        questions(tmp_path / "train.pkl", "train")
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(RslitError, match="the files must be all"):
        questions(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"q": [1}'),
        ("a.jsonl", '{"q": "é"}'.encode("latin-1")),
        ("a.jsonl", b""),
        ("a.json", b""),
        ("a.parquet", b"PAR1 no"),
        ("a.parquet", b"PAR1" + b"no parquet" * 9 + b"PAR1"),
        ("a.jsonl.gz", gzip.compress(b"{}")[:8]),
        ("a.csv", b""),
        ("a.csv", "q\né\n".encode("latin-1")),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RslitError, match=rf"data.source: .*{name} \(split 'train'\) cannot be read: ") as caught:
        questions(tmp_path / name, "train")
    assert "\n" not in str(caught.value)


def test_a_parquet_file_cut_off(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.parquet", ROWS)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RslitError, match=r"mine.parquet \(split 'train'\) cannot be read: Parquet magic"):
        questions(file, "train")


def test_a_table_that_breaks_off_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(Builder):
        def as_streaming_dataset(self, split: str) -> Any:
            yield {"q": "first"}
            raise ConnectionError("gone")

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *a, **k: Torn(builder_name="json"))
    read = rows("some/data", "train", streaming=True)
    assert next(read) == {"q": "first"}
    with pytest.raises(RslitError, match=r"some/data \(split 'train'\) cannot be read: gone"):
        next(read)


def test_a_table_is_opened_whole(tmp_path: Path) -> None:
    write(tmp_path / "hard" / "train.jsonl", ROWS)
    table = open_table(str(tmp_path), "train[2:4]", folder="hard")
    assert isinstance(table, datasets.Dataset)
    assert table.column_names == ["q", "n"]
    assert list(table["n"]) == [2, 3]


def test_without_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "mine.jsonl", ROWS)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RslitError) as caught:
        questions(file, "train")
    assert str(caught.value) == (
        f"data.source: reading {file} needs the package datasets: pip install 'rslit[text]' or 'rslit[vision]'"
    )


class Builder(SimpleNamespace):
    builder_name: str

    def download_and_prepare(self) -> None:
        self.log.append("prepared")

    def as_dataset(self, split: str) -> list[dict[str, str]]:
        return [{"q": f"all of {split}"}]

    def as_streaming_dataset(self, split: str) -> list[dict[str, str]]:
        return [{"q": f"stream of {split}"}]


def test_the_hub_is_asked_for_the_subset_and_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []

    def load(path: str, **more: Any) -> Builder:
        log.append((path, more))
        return Builder(builder_name="parquet", log=log)

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    assert questions("some/data", "train", subset="s", folder="f") == ["all of train"]
    assert log == [("some/data", {"name": "s", "data_dir": "f"}), "prepared"]
    assert questions("data", "train", streaming=True) == ["stream of train"]
    assert questions("data", "train[:5]", streaming=True) == ["all of train[:5]"]


def test_a_hub_data_set_of_pickles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *a, **k: Builder(builder_name="pandas"))
    with pytest.raises(RslitError, match="'some/data' is kept as pandas, which is not read here"):
        questions("some/data", "train")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **more: Any) -> None:
        raise ConnectionError("Couldn't reach 'imdb' on the Hub (LocalEntryNotFoundError)\nand more")

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    with pytest.raises(RslitError, match=r"'imdb' is no file or folder here and no hub gave it \(Couldn't reach") as e:
        questions("imdb", "train")
    assert "copy the data set's folder to this machine" in str(e.value)
