"""`front.html`: what it says, what it holds, and how it behaves in a browser."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import chromium, needs_chromium
from page_data import front
from playwright.sync_api import Page, expect

from rslit.front.page import front_page
from rslit.front.page.words import sentences


def said(data: dict[str, Any]) -> str:
    return re.sub(r"<[^>]+>", "", " ".join(sentences(data)))


def test_sentences(tmp_path: Path) -> None:
    data = front(tmp_path, seeds=3).data
    text = said(data)
    assert "5 soups of 2 experts (risky and cautious), beside their initialisation and 3 MORL solutions" in text
    assert "scored on 20 items in 3 training seeds." in text
    assert "Expert risky scores more than the initialisation on likes risky: +" in text
    assert "Linear mode connectivity on likes risky and likes cautious: holds;" in text
    assert "The soup's front covers more than MORL's, 3 points each: difference of hypervolumes +" in text
    assert "Per seed the soup took 2 trainings, MORL 3." in text
    assert "One training seed" not in text


def test_sentences_follow_the_sign(tmp_path: Path) -> None:
    data = copy.deepcopy(front(tmp_path).data)
    assert "One training seed: intervals say what other items would change" in said(data)
    difference = data["hypervolume"]["soup_minus_morl"]["difference"]
    difference.update(estimate=-2.0, low=-3.0, high=-1.0)
    assert "covers less than MORL's, 3 points each: difference of hypervolumes -2 [-3, -1]" in said(data)
    difference.update(high=1.0)
    assert "covers as much as MORL's, as far as the data can tell" in said(data)
    data["experts_minus_initialisation"]["differences"][0].update(estimate=0.1, low=-1.0, high=1.0)
    assert "Expert risky scores not surely more than the initialisation" in said(data)
    data["lmc"]["verdicts"]["likes risky"] = "violated"
    assert "Linear mode connectivity on likes risky: violated; some soup scores less" in said(data)


def test_runs_beside(tmp_path: Path) -> None:
    data = copy.deepcopy(front(tmp_path, morl=False).data)
    assert "MORL" not in said(data)
    points = [row for row in data["points"] if row["kind"] == "soup"][:2]
    numbers = {"estimate": 3.0, "low": 2.0, "high": 4.0}
    trainings = {"trainings_per_seed": 2, "trainings": 2}
    lmc = {"likes a": "holds", "likes b": "cannot tell"}
    other = {"points": points, "hypervolume": numbers, "soup_minus": numbers, "trainings": trainings, "lmc": lmc}
    data["beside"] = {"a <second> run": other}
    assert "covers more than that of a &lt;second&gt; run: difference of hypervolumes +3 [2, 4]" in said(data)
    page = front_page(data)
    assert (
        "<th scope='row'>a &lt;second&gt; run</th><td>2</td><td>2</td><td>holds, cannot tell</td><td>3 [2, 4]</td>"
        in page
    )
    assert "<second>" not in page


def test_names_cannot_leave_their_place(tmp_path: Path) -> None:
    wicked = "</script><script>alert(1)</script>{{plotly}}"
    page = front(tmp_path, experts=(wicked, "b")).files["html"].read_text()
    assert "<script>alert" not in page
    assert page.count("</script>") == 3


@pytest.mark.slow
@needs_chromium
def test_names_are_shown_as_written(tmp_path: Path) -> None:
    # Without the other two this opening keeps a script from ending; <b> is a tag to plotly.
    path = front(tmp_path, experts=("<!--<script>", "<b>b</b>", "c")).files["html"]
    with chromium() as browser:
        page = browser.new_page()
        page.goto(path.as_uri())
        expect(page.locator("#figure-front .legend")).to_be_visible()
        expect(page.locator("#figure-front .xtitle")).to_have_text("likes <!--<script>")
        page.get_by_label("across").select_option(label="likes <b>b</b>")
        expect(page.locator("#figure-front .xtitle")).to_have_text("likes <b>b</b>")


def test_same_bytes_and_what_lies_beside(tmp_path: Path) -> None:
    summary = front(tmp_path)
    assert front_page(summary.data) == front_page(summary.data)
    beside = tmp_path / "seed0"
    (beside / "samples").mkdir()
    (beside / "samples" / "index.html").write_text("<p title='it is \"so\"'>an answer</p>")
    (beside / "config.yaml").write_text("model: {lr: 1 < 2}\n")
    page = front_page(summary.data, [beside / "scores.parquet"])
    assert 'srcdoc="&lt;p title=&#x27;it is &quot;so&quot;&#x27;&gt;an answer&lt;/p&gt;' in page
    assert "<pre>model: {lr: 1 &lt; 2}\n</pre>" in page
    with (beside / "samples" / "index.html").open("ab") as file:
        file.write(b" " * (8 * 2**20))
    assert "too large to be included; see" in front_page(summary.data, [beside / "scores.parquet"])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Opens the page of three experts at a size, and sees to it that nothing is asked for and nothing complained of."""
    folder = tmp_path_factory.mktemp("page")
    path = front(folder, experts=("a", "b", "c")).files["html"]
    with chromium() as browser:
        seen: list[str] = []

        def open_page(width: int) -> Page:
            page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
            page.on("request", lambda request: seen.append(request.url))
            page.on("console", lambda message: seen.append(message.text))
            page.on("pageerror", lambda error: seen.append(str(error)))
            page.goto(path.as_uri())
            expect(page.locator("#figure-front .legend")).to_be_visible()
            return page

        yield open_page
    assert [one for one in seen if not one.startswith(("data:", "blob:"))] == [path.as_uri()] * seen.count(
        path.as_uri()
    )


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(opened: Any) -> None:
    page: Page = opened(1280)
    # Every figure is drawn.
    places = page.locator(".figure")
    assert places.count() == page.locator(".figure .main-svg:first-child").count() == 1 + 3 + 2 + 3
    # Another reward on an axis moves the points, by keys alone.
    page.get_by_label("across").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    title = page.evaluate("document.getElementById('figure-front').layout.xaxis.title.text")
    assert title == "likes c"
    drawn = page.evaluate(
        "(() => { const d = document.getElementById('figure-front').data.find(t => t.name == 'MORL'); "
        "return [d.x, d.error_x.array.length]; })()"
    )
    wanted = page.evaluate(
        "(() => { const k = figures.front.data.findIndex(t => t.name == 'MORL'); "
        "return figures.front.axes[2].values[k]; })()"
    )
    assert drawn == [wanted, 4]
    # Pressing a heading sorts, pressing again turns it round.
    button = page.get_by_role("button", name=re.compile("^likes b"))
    for order in ("ascending", "descending"):
        button.press("Enter")
        cells = page.locator("table.sortable tbody tr td:nth-child(4)").evaluate_all(
            "c => c.map(x => +x.dataset.value)"
        )
        assert cells == sorted(cells, reverse=order == "descending")
        assert page.locator(f"th[aria-sort={order}]").inner_text().startswith("likes b")


@pytest.mark.slow
@needs_chromium
def test_on_a_phone(opened: Any) -> None:
    page: Page = opened(390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
