"""The page of answers about images over λ."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from image_samples_kit import BLUE, POINTS, RED, Stored, answers, boxes, captions, sweep_of
from PIL import Image

from rslit.callbacks.image_page import image_page
from rslit.callbacks.image_rows import answer_row, images_of
from rslit.samples import Samples

NAN = float("nan")


class Page(HTMLParser):
    """A page as a browser sees it; tags that do not balance are refused."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(f"{tag}.{dict(attrs).get('class', '')}")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().split(".")[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(make: Any, items: list[str]) -> tuple[str, Page]:
    rows, samples = sweep_of(make, answer_row, items)
    text = image_page(["a", "b"], rows, images_of(samples, rows))
    return text, Page(text)


def test_every_caption_is_text_in_the_cell_of_its_item_and_point() -> None:
    text, page = page_of(captions, ["1", "2"])
    expected = [
        f"{label} says {item} </p><script>alert('a & b')</script> café λ" for item in "12" for _, label in POINTS
    ]
    assert page.texts["p.said"] == expected
    assert "<script" not in text
    assert "{{" not in text
    assert page.texts["p.item"] == ["1", "2"]
    assert [a.get("class") for a in page.all("td") if "class" in a] == [kind for kind, _ in POINTS] * 2
    # What people said is there too, folded away.
    assert page.texts["p."].count("Another <thing>.") == 2
    assert page.texts["h1."] == ["What the soups of a and b say"]


def test_points_are_named_with_their_weights_and_scores_have_bars() -> None:
    text, page = page_of(answers, ["1", "2"])
    heading = text[text.index("<thead>") : text.index("</thead>")]
    assert re.findall(r"<p>(\w+)</p>", heading) == ["expert", "soup", "expert", "initialisation", "MORL"]
    found = re.findall(r"--share: (\d+)%'><th scope='row'>(\w+)</th><td>([\d.]+)", heading)
    assert found == [
        *[("100", "a", "1"), ("0", "b", "0"), ("50", "a", "0.5"), ("50", "b", "0.5"), ("0", "a", "0")],
        *[("100", "b", "1"), ("25", "one", "0.25"), ("75", "two", "0.75")],
    ]
    body = text[text.index("<tbody>") :]
    bars = re.findall(r"--share: (\d+)%'><th scope='row'>(\w+)</th><td>([^<]*)", body)
    # From the lowest to the highest of the page; a score that never applies has no bar.
    assert bars == [*[("0", "one", "0.00"), ("0", "two", "–")] * 5, *[("100", "one", "0.25"), ("0", "two", "–")] * 5]
    assert page.texts["p.question"] == ["How many in 1?", "How many in 2?"]
    assert page.texts["p.people"] == ["people: two × 2, 2"] * 2


def test_boxes_are_drawn_in_pixels_of_the_original_image() -> None:
    def make(label: str, items: list[str]) -> Samples:
        return boxes([[8.0, 0.5, 24.0, 16.0] if label.startswith("a=1,") else [NAN] * 4], items)

    text, page = page_of(make, ["1"])
    pictures = [a for a in page.all("svg") if a.get("class") == "picture"]
    assert [a["viewbox"] for a in pictures] == ["0 0 32 16"] * (1 + len(POINTS))
    drawn = [(a["class"], a["d"]) for a in page.all("path") if "target" in a["class"] or "answer" in a["class"]]  # type: ignore[operator]
    assert [d for kind, d in drawn if kind == "target"][1:] == ["M0 0H16V16H0Z"] * (1 + len(POINTS))
    assert [d for kind, d in drawn if kind == "answer"][1:] == ["M8 0.5H24V16H8Z"]
    overlap = 8 * 15.5 / (16 * 16 + 16 * 15.5 - 8 * 15.5)
    assert [a["aria-label"] for a in pictures] == [
        "image of item 1",
        f"left half of 1: IoU {overlap:.2f}",
        *["left half of 1: no box"] * 4,
    ]
    assert page.texts["p.said"] == ["no box"] * 4
    assert f"<th scope='row'>IoU</th><td>{overlap:.2f}</td>" in text
    assert "right box" in text


def test_each_image_is_in_the_page_once_and_nothing_comes_from_elsewhere() -> None:
    sources = [Stored(), Stored(colour=BLUE), Stored(), Stored(size=(900, 600))]
    rows, samples = sweep_of(lambda label, items: captions(label, items, list(sources)), answer_row, list("1234"))
    text = image_page(["a", "b"], rows, images_of(samples, rows))
    page = Page(text)
    stored = page.all("image")
    assert len(stored) == text.count("data:image/") == 3
    decoded = [Image.open(io.BytesIO(base64.b64decode(str(a["href"]).split(",")[1]))) for a in stored]
    assert [image.size for image in decoded] == [(32, 16), (32, 16), (448, 299)]  # twice what a cell shows at most
    assert [(a["width"], a["height"]) for a in stored] == [("32", "16"), ("32", "16"), ("900", "600")]
    assert [image.convert("RGB").getpixel((5, 5)) for image in decoded[:2]] == [RED, BLUE]
    assert [a.get("class") for a in stored] == ["sharp", "sharp", None]
    names = [a["id"] for a in stored]
    assert [str(a["href"]) for a in page.all("use")] == [f"#{names[k]}" for k in (0, 1, 0, 2)]
    policy = next(str(a["content"]) for a in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://", text)


def test_photographs_become_jpeg_and_drawings_stay_png() -> None:
    noise = Image.effect_noise((300, 300), 90).convert("RGB")
    flat = Image.new("RGB", (300, 300), RED)
    rows, _ = sweep_of(captions, answer_row, ["1", "2"])
    kinds = re.findall(r"data:image/(\w+);", image_page(["a", "b"], rows, {"1": noise, "2": flat}))
    assert kinds == ["jpeg", "png"]


@pytest.mark.parametrize("word", ["prefers-color-scheme: dark", "position: sticky", "width=device-width"])
def test_the_template_is_part_of_the_package_and_suits_phones_and_nights(word: str) -> None:
    import rslit.callbacks

    assert word in (Path(rslit.callbacks.__file__).parent / "image_samples.html").read_text(encoding="utf-8")
