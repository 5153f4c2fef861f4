from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from table_files import own_cache, write

from rslit.diffusion.prompts import ImagePrompt, PromptColumns, image_seed, read_prompts, some_of
from rslit.errors import RslitError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache(tmp_path_factory.mktemp("datasets"), monkeypatch)


def said(prompts: list[ImagePrompt]) -> list[tuple[str, str]]:
    return [(p.item, p.prompt) for p in prompts]


def refused(place: str, key: str = "data.prompts", **options: Any) -> str:
    with pytest.raises(RslitError) as caught:
        read_prompts(place, key=key, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_file_has_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes("\ufeffa red circle\r\n\n  a blue square \n   \nein grüner Kreis\u2028, 漢字".encode())
    assert said(read_prompts(str(path))) == [
        ("train-00001", "a red circle"),
        ("train-00003", "a blue square"),
        ("train-00005", "ein grüner Kreis\u2028, 漢字"),
    ]


def test_seeds_follow_from_the_data_seed_and_the_item_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one\ntwo\none\n")
    seeds = [p.seed for p in read_prompts(str(path), 7)]
    hashes = [hashlib.sha256(f"7/image/p-0000{k}".encode()).digest() for k in (1, 2, 3)]
    assert seeds == [int.from_bytes(h[:8], "big") >> 1 for h in hashes]
    assert len({*seeds, *(p.seed for p in read_prompts(str(path), 8))}) == 6
    path.write_text("another\n")
    assert [p.seed for p in read_prompts(str(path), 7)] == seeds[:1]


def test_records_may_bring_ids_and_seeds(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = [{"prompt": "one"}, {"item": "x/y", "prompt": "two", "seed": 5}, {"item": 12, "prompt": " three"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read_prompts(str(path)) == [
        ImagePrompt("p-00001", "one", image_seed(0, "p-00001")),
        ImagePrompt("x/y", "two", 5),
        ImagePrompt("12", "three", image_seed(0, "12")),
    ]


def test_of_coco_the_first_caption_of_each_image(tmp_path: Path) -> None:
    path = tmp_path / "captions_val2014.json"
    captions = [(9, "  "), (42, "Forty-two.\n"), (9, "Nine."), (42, "Other."), (9, "Other nine.")]
    content = {
        "images": [{"id": k, "file_name": f"{k}.jpg"} for k in (42, 7, 9)],
        "annotations": [{"id": k, "image_id": image, "caption": text} for k, (image, text) in enumerate(captions)],
    }
    path.write_text(json.dumps(content))
    assert said(read_prompts(str(path))) == [("42", "Forty-two."), ("9", "Nine.")]
    path.write_text(json.dumps({"images": [], "dataset": "coco"}))
    message = f"data.prompts: {path} has no list 'annotations' (it has: images, dataset); is it a file of another kind?"
    assert refused(str(path)) == message


def test_tables(tmp_path: Path) -> None:
    rows = [{"prompt": f"number {k}", "Prompt": f"Number {k}", "id": f"n{k}"} for k in range(4)]
    write(tmp_path / "mine.parquet", rows)
    place = str(tmp_path / "mine.parquet")
    assert said(read_prompts(place))[1] == ("train-00001", "number 1")
    columns = PromptColumns("Prompt", "id", "train[2:]", "train[:1]")
    assert said(read_prompts(place, columns=columns)) == [("n2", "Number 2"), ("n3", "Number 3")]
    assert said(read_prompts(place, columns=columns, held_out=True)) == [("n0", "Number 0")]
    assert said(read_prompts(str(write(tmp_path / "a.jsonl", rows)), columns=columns))[0] == ("n2", "Number 2")
    (tmp_path / "a.txt").write_text("a line")
    assert said(read_prompts(str(tmp_path / "a.txt"), columns=columns)) == [("a-00001", "a line")]
    message = refused(place, "data.eval_prompts", columns=PromptColumns("text"))
    assert message == (
        f"data.eval_prompts: {tmp_path}/mine.parquet has no column 'text' (data.columns); it has: prompt, Prompt, id"
    )


def test_files_that_hold_no_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("")
    expected = f"data.prompts: {path} has no prompts; write one a line, or give another file"
    assert refused(str(path)) == expected
    path.write_text(" \n\n")
    assert refused(str(path)) == expected
    path.write_bytes(b"\xff\xfe\x00a")
    assert "cannot be read as text" in refused(str(path))
    assert refused(str(tmp_path / "q.txt")) == (
        f"data.prompts: {tmp_path}/q.txt does not exist; put the file there or give its place"
    )
    assert refused(str(tmp_path / "none.parquet"), "data.eval_prompts").startswith(
        f"data.eval_prompts: {tmp_path}/none.parquet does not exist"
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 2 is no JSON"),
        ('{"text": "a"}', "line 2 has no 'prompt'; each line is a record that has one"),
        ("[1]", "line 2 has no 'prompt'"),
        ('{"prompt": ""}', "item 'p-00002' has no text (''); mend it or take it out"),
        ('{"prompt": null}', "item 'p-00002' has no text (None)"),
        ('{"prompt": "\\ud800"}', "item 'p-00002' has no text"),
        ('{"prompt": "a", "seed": -1}', "line 2: 'seed' must be a whole number from 0 to"),
        ('{"prompt": "a", "seed": "1"}', "'seed' must be a whole number"),
        ('{"prompt": "a", "item": "p-00001"}', "has item p-00001 twice; give each prompt its own id"),
    ],
)
def test_broken_records(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "one"}\n' + line)
    message = refused(str(path))
    assert message.startswith(f"data.prompts: {path}")
    assert fault in message


def test_some_prompts_are_spread_and_nested() -> None:
    prompts = [ImagePrompt(f"{k}", "x", k) for k in range(1000)]
    hundred, two = some_of(prompts, 100), some_of(prompts, 200)
    assert len(hundred) == 100
    assert set(hundred) < set(two)
    assert hundred == sorted(hundred, key=lambda p: p.seed), "in the file's order"
    assert some_of(prompts, 100) == hundred
    assert some_of(prompts, None) == some_of(prompts, 5000) == prompts
    thirds = [sum(p.seed // 334 == k for p in two) for k in range(3)]
    assert min(thirds) > 45  # 67 expected, 6.0 the standard deviation
