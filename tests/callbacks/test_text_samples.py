"""What a language policy writes, shown: the tables in TensorBoard and the page of a sweep."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from rslit.callbacks.text_samples import TextSamplesCallback, samples_page, samples_table, sweep_rows
from rslit.errors import RslitError
from rslit.modules import LocomotionModule
from rslit.samples import Samples


def samples(tag: str, first: int = 0, count: int = 2) -> Samples:
    items = [f"item-{k}" for k in range(first, first + count)]
    fields = {
        "question": [f"<b>What</b> | is\n{item}?" for item in items],
        "prefix": ["It " for _ in items],
        "response": [f"It {tag} {item} <script>" for item in items],
    }
    scores = {"good": torch.arange(count) + 0.125, "odd": torch.tensor([float("nan")] * count)}
    return Samples(items, fields, scores)


POINTS = [("soup", "a=1,b=0"), ("soup", "a=0,b=1"), ("initialisation", "initialisation")]


def test_the_table_has_a_row_per_sample_and_a_column_per_reward() -> None:
    lines = samples_table(samples("is"), 8).splitlines()
    assert len(lines) == 4
    assert lines[0] == "| question | answer | good | odd |"
    assert lines[2] == ("| &lt;b&gt;What&lt;/b&gt; &#124; is item-0? | It is item-0 &lt;script&gt; | 0.125 | nan |")
    assert all(line.count("|") == 5 for line in lines)
    assert len(samples_table(samples("is", count=5), 3).splitlines()) == 5


def test_rows_go_prompt_by_prompt_over_batches_until_there_are_enough() -> None:
    batches = [[samples(label, first) for _, label in POINTS] for first in (0, 2)]
    rows = sweep_rows(POINTS, batches, 3)
    assert [(r["item"], r["label"]) for r in rows] == [(f"item-{k}", p[1]) for k in range(3) for p in POINTS]
    assert rows[4]["response"] == "It a=0,b=1 item-1 <script>"
    assert rows[4]["scores"] == {"good": 1.125, "odd": None}
    assert len(sweep_rows(POINTS, batches, 99)) == 12
    json.dumps(rows, allow_nan=False)


def test_the_page_shows_every_answer_as_text_and_balances_its_tags() -> None:
    rows = sweep_rows(POINTS, [[samples(label) for _, label in POINTS]], 2)
    page = samples_page("What <they> write", rows)

    class Balance(HTMLParser):
        open: list[str]
        void = ("meta",)

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.open = []
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page
    assert "{{" not in page
    assert page.count("<article>") == 2
    assert page.count("It a=1,b=0 item-0 &lt;script&gt;") == 1
    # The bars run from the lowest to the highest score of the page.
    assert re.findall(r"--share: (\d+)%'>([\d.]+)<", page) == [
        *[("0", "0.12")] * 3,
        *[("100", "1.12")] * 3,
    ]


def test_refuses_what_writes_no_text() -> None:
    with pytest.raises(RslitError, match="count must be at least 1"):
        TextSamplesCallback(count=0)
    with pytest.raises(RslitError, match="not a LocomotionModule"):
        TextSamplesCallback().setup(None, LocomotionModule.__new__(LocomotionModule), "fit")  # type: ignore[arg-type]


def test_the_template_is_part_of_the_package() -> None:
    import rslit.callbacks

    assert (Path(rslit.callbacks.__file__).parent / "text_samples.html").is_file()
