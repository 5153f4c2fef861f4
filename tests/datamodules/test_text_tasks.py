from __future__ import annotations

import json
from pathlib import Path

import pytest
from table_files import write
from text_kit import news, reddit, stack, talk, text

from rslit.datamodules import HelpfulAssistant, MovieReview, NewsSummary, Prompt, RedditSummary, StackExchange
from rslit.errors import RslitError

SUMMARISE = "Generate a one-sentence summary of this post."


def test_defaults_are_the_papers_data_sets_and_splits() -> None:
    places = [
        (source.path, source.subset, source.splits["train"], source.splits["eval"])
        for source in (NewsSummary(), RedditSummary(), StackExchange(), MovieReview(), HelpfulAssistant())
    ]
    assert places == [
        ("argilla/news-summary", None, "test", "train"),  # swapped on purpose
        ("openai/summarize_from_feedback", "comparisons", "train", "validation"),
        ("lvwerra/stack-exchange-paired", None, "train", "test"),
        ("stanfordnlp/imdb", None, "train", "test"),
        ("Anthropic/hh-rlhf", None, "train", "test"),
    ]
    assert StackExchange().limits == {"train": 40_000, "eval": 1_000}
    assert StackExchange().streaming


@pytest.mark.parametrize("end", ["jsonl", "parquet", "csv"])
def test_news(tmp_path: Path, end: str) -> None:
    rows = [
        news("b", 101),
        news("short", 100),
        news("a", 1499),
        news("long", 1500),
        news("b", 300),
        news("c", mark="No agency here. "),
        news("empty", 120, mark=" " * 107 + "(Reuters) - ") | {"text": "x" * 100 + "(Reuters) - "},
    ]
    write(tmp_path / f"test.{end}", rows)
    write(tmp_path / f"train.{end}", rows[:1])
    source = NewsSummary(str(tmp_path))
    prompts, tally = source.prompts("train")
    # In the order of ids; the first "b" stays; what follows the mark, or all of it.
    assert [p.item for p in prompts] == ["a", "b", "c"]
    mark = len("LONDON (Reuters) - ")
    assert [len(p.question) for p in prompts] == [1499 - mark, 101 - mark, 200]
    assert prompts[1].question == text(101 - mark)
    assert prompts[2].question.startswith("No agency here. ")
    assert {p.reference for p in prompts} == {"Shares fell 2,5 points, Badly,"}
    assert {p.instruction for p in prompts} == {SUMMARISE}
    taken = {"article not of 101 to 1499 characters": 2, "empty question": 1, "id seen before": 1}
    assert (tally.rows, tally.taken) == (7, taken)
    assert [p.item for p in source.prompts("eval")[0]] == ["b"]


@pytest.mark.parametrize("end", ["jsonl", "parquet", "csv"])
def test_reddit(tmp_path: Path, end: str) -> None:
    rows = [
        reddit("t3_b", 101, choice=1),
        reddit("t3_b", 101, choice=0),
        reddit("t3_a", 1199, choice=0),
        reddit("t3_c", 100),
        reddit("t3_d", 1200),
        reddit(None, 200),
    ]
    write(tmp_path / "comparisons" / f"train-00000-of-00001.{end}", rows)
    write(tmp_path / "comparisons" / f"validation-00000-of-00001.{end}", rows[:1])
    write(tmp_path / "axis" / f"validation-00000-of-00001.{end}", [{"other": 1}])
    source = RedditSummary(str(tmp_path))
    prompts, tally = source.prompts("train")
    assert prompts == [
        Prompt("t3_a", text(1199), "first of t3_a", SUMMARISE),
        Prompt("t3_b", text(101), "second of t3_b", SUMMARISE),
    ]
    taken = {"post not of 101 to 1199 characters": 2, "no id": 1, "post seen before": 1}
    assert (tally.rows, tally.taken) == (6, taken)
    assert [p.item for p in source.prompts("eval")[0]] == ["t3_b"]


@pytest.mark.parametrize("end", ["jsonl", "parquet", "csv"])
def test_stack_exchange(tmp_path: Path, end: str) -> None:
    rows = [
        stack(20, 299, "A."),
        stack(3, 300),
        stack(3, 50, " First. "),
        stack(20, 10, "B."),
        stack(100, 5),
        stack(4, 6),
    ]
    write(tmp_path / f"train.{end}", rows)
    write(tmp_path / f"test.{end}", rows)
    source = StackExchange(str(tmp_path), eval_rows=2)
    prompts, tally = source.prompts("train")
    # Ids are numbers: 20 comes before 100.
    assert prompts == [
        Prompt("3", text(50), "First."),
        Prompt("4", text(6), "Use a loop."),
        Prompt("20", text(299), "A."),
        Prompt("100", text(5), "Use a loop."),
    ]
    assert tally.taken == {"question of 300 characters or more": 1, "question seen before": 1}
    prompts, tally = source.prompts("eval")  # two rows that pass, then no further
    assert [p.item for p in prompts] == ["3", "20"]
    assert (tally.rows, tally.taken) == (3, {"question of 300 characters or more": 1})


def test_movie_review(tmp_path: Path) -> None:
    rows = [{"text": text(length), "label": 1} for length in (201, 200, 201, 4000)]
    write(tmp_path / "plain_text" / "train-00000-of-00001.parquet", rows)
    write(tmp_path / "plain_text" / "unsupervised-00000-of-00001.parquet", rows)
    prompts, tally = MovieReview(str(tmp_path)).prompts("train")
    assert [len(p.reference) for p in prompts] == [201, 201, 4000]
    assert {(p.question, p.instruction) for p in prompts} == {("Generate a movie review.", "")}
    assert prompts[1].item == f"{prompts[0].item}-2"
    assert tally.taken == {"review of 200 characters or fewer": 1}


def test_helpful_assistant(tmp_path: Path) -> None:
    rows = [
        talk("How do I boil an egg?", "In water.", "How long?", "Seven minutes."),
        talk("Hello", "Hi."),  # 5 characters
        talk("Hello!", "Hi.\n\nHow are you?"),
        talk("q" * 100, "Long."),
        talk("q" * 99, "Fits."),
        {"chosen": "\n\nHuman: Nobody answers", "rejected": ""},
        {"chosen": "no transcript at all", "rejected": ""},
        {"chosen": "\n\nHuman: One\n\nHuman: Two\n\nAssistant: Yes", "rejected": ""},
    ]
    write(tmp_path / "helpful-base" / "train.jsonl.gz", rows)
    write(tmp_path / "harmless-base" / "train.jsonl.gz", rows[:1])
    prompts, tally = HelpfulAssistant(str(tmp_path), folder="helpful-base").prompts("train")
    assert [(p.question, p.reference, p.instruction) for p in prompts] == [
        ("How do I boil an egg?", "In water.", ""),
        ("Hello!", "Hi.\n\nHow are you?", ""),
        ("q" * 99, "Fits.", ""),
    ]
    assert tally.taken == {"request not of 6 to 99 characters": 2, "no first exchange": 3}
    prompts, _ = HelpfulAssistant(str(tmp_path)).prompts("train")  # all folders; the repeated request is numbered
    assert len(prompts) == len({p.item for p in prompts}) == 4


def test_no_question_is_ever_empty(tmp_path: Path) -> None:
    """The bug of the paper's code: reward models were given an empty question for these two tasks."""
    write(tmp_path / "stack" / "train.jsonl", [stack(1), stack(2, 0)])
    write(tmp_path / "talk" / "train.jsonl", [talk("What is soup?", "Hot.")])
    for source in (StackExchange(str(tmp_path / "stack")), HelpfulAssistant(str(tmp_path / "talk"))):
        prompts, _ = source.prompts("train")
        assert [bool(p.question) for p in prompts] == [True]


def test_other_columns_and_cells_are_named(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [{"id": 1, "summary": "x", "text": "y"}])
    with pytest.raises(RslitError, match="has no column 'prediction'; it has: id, summary, text"):
        NewsSummary(str(tmp_path)).prompts("train")
    (tmp_path / "test.jsonl").write_text(json.dumps(news("a") | {"prediction": "[{'text': 1}]"}) + "\n")
    with pytest.raises(
        RslitError, match=r"column 'prediction' must hold lists or records .*, got \"\[\{'text': 1\}\]\""
    ):
        NewsSummary(str(tmp_path)).prompts("train")
