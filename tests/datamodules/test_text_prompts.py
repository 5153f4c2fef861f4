from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from table_files import write

from rslit.datamodules import Prompt, PromptTable
from rslit.errors import RslitError

ROWS = [
    {"key": "b", "ask": " What is soup? ", "best": " Hot. "},
    {"key": "a", "ask": "Why?", "best": None},
    {"key": "c", "ask": None, "best": "x"},
    {"key": "d", "ask": "A question that is rather long", "best": "No."},
]


def table(folder: Path, **more: object) -> PromptTable:
    write(folder / "train.jsonl", ROWS)
    write(folder / "test.jsonl", ROWS[:1])
    return PromptTable(str(folder), **{"question": "ask", **more})  # type: ignore[arg-type]


def test_columns_become_prompts(tmp_path: Path) -> None:
    source = table(tmp_path, reference="best", id="key", instruction="Be brief.")
    prompts, tally = source.prompts("train")
    assert prompts == [
        Prompt("b", "What is soup?", "Hot.", "Be brief."),
        Prompt("a", "Why?", "", "Be brief."),
        Prompt("d", "A question that is rather long", "No.", "Be brief."),
    ]
    assert (tally.rows, tally.taken) == (4, {"empty question": 1})
    assert [prompt.item for prompt in source.prompts("eval")[0]] == ["b"]


def test_lengths_of_questions(tmp_path: Path) -> None:
    prompts, tally = table(tmp_path, id="key", min_chars=5, max_chars=13).prompts("train")
    assert [prompt.item for prompt in prompts] == ["b"]
    assert str(tally) == (
        "4 rows, of which filters took 1 by 'question shorter than 5 characters', 1 by 'empty question', "
        "1 by 'question longer than 13 characters'"
    )


def test_without_ids_an_item_is_a_hash_of_its_texts_wherever_it_stands(tmp_path: Path) -> None:
    rows = [{"ask": q} for q in ("one", "two", "one", "one")]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "test.csv", rows[::-1])
    source = PromptTable(str(tmp_path), question="ask")
    one, two = (hashlib.sha256(f"\0{q}\0".encode()).hexdigest()[:16] for q in ("one", "two"))
    assert [p.item for p in source.prompts("train")[0]] == [one, two, f"{one}-2", f"{one}-3"]
    assert [p.item for p in source.prompts("eval")[0]] == [one, f"{one}-2", two, f"{one}-3"]


def test_repeated_ids_are_numbered(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{"ask": q, "key": 7} for q in ("one", "two")])
    assert [p.item for p in PromptTable(str(tmp_path), "ask", id="key").prompts("train")[0]] == ["7", "7-2"]


def test_one_file_needs_slices_or_an_eval_path(tmp_path: Path) -> None:
    file = str(write(tmp_path / "mine.jsonl", [{"ask": f"q{k}"} for k in range(10)]))
    for part in ("train", "eval"):
        with pytest.raises(RslitError, match=r"mine.jsonl is one file: give eval_path .*, or slices"):
            PromptTable(file, "ask").prompts(part)  # type: ignore[arg-type]
    sliced = PromptTable(file, "ask", train_split="train[:80%]", eval_split="train[80%:]")
    assert [p.question for p in sliced.prompts("eval")[0]] == ["q8", "q9"]
    assert len(sliced.prompts("train")[0]) == 8
    other = str(write(tmp_path / "held.csv", [{"ask": "held out"}]))
    two = PromptTable(file, "ask", eval_path=other)
    assert [p.question for p in two.prompts("eval")[0]] == ["held out"]
    assert len(two.prompts("train")[0]) == 10


@pytest.mark.parametrize(("train", "held"), [("train", "train"), ("train", "train[90%:]"), ("train[:5]", "train")])
def test_parts_that_share_rows_are_refused(train: str, held: str) -> None:
    with pytest.raises(RslitError, match="share rows: slice both"):
        PromptTable("data", "ask", train_split=train, eval_split=held)
    PromptTable("data", "ask", eval_path="other", train_split=train, eval_split=held)


def test_a_missing_column_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"\(split 'train'\) has no column 'answer'; it has: key, ask, best"):
        table(tmp_path, reference="answer").prompts("train")


def test_nothing_left_says_which_filter_took_the_rows(tmp_path: Path) -> None:
    with pytest.raises(RslitError) as caught:
        table(tmp_path, min_chars=100).prompts("train")
    assert str(caught.value) == (
        f"data.source: no prompt is left of {tmp_path} (split 'train'): 4 rows, of which filters took "
        "3 by 'question shorter than 100 characters', 1 by 'empty question'"
    )
