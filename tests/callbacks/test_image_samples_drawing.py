"""Cells, panels and sheets as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from image_samples_kit import NASTY, POINTS, RED, Stored, boxes, captions, sweep_of
from PIL import Image, ImageColor

from rslit.callbacks.drawing import Bar, Picture, Words, arrange, fitted
from rslit.callbacks.image_panels import panel, sheet
from rslit.callbacks.image_rows import answer_row, images_of, sample_rows

NAN = float("nan")
GREEN, ORANGE, INK, RULE, FILL = map(ImageColor.getrgb, ("#009e73", "#e69f00", "#1d2733", "#dde1e7", "#cfe1f5"))


def count(image: Image.Image, colour: Any) -> int:
    return int((np.asarray(image) == colour).all(-1).sum())


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 64), (224, 224)), ((640, 480), (224, 168)), ((3, 224), (3, 224)), ((1, 900), (1, 224))]
)
def test_an_image_fits_its_cell(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert fitted(Image.new("RGB", size, RED), 224).size == shown


def test_pixels_of_a_small_image_stay_squares_of_its_own_colours() -> None:
    checks = np.indices((7, 7)).sum(0) % 2 * 255
    large = np.asarray(fitted(Image.fromarray(checks.astype(np.uint8)).convert("RGB"), 224))
    assert (large == checks.repeat(32, 0).repeat(32, 1)[..., None]).all()


def test_boxes_are_drawn_where_they_are_in_colours_and_dashes() -> None:
    image = Image.new("RGB", (448, 224), "white")
    target, answer = (64.0, 64.0, 192.0, 192.0), (256.0, 64.0, 384.0, 192.0)
    drawn = np.asarray(Picture(image, target, [answer]).image(224, 1))
    assert drawn.shape == (112, 224, 3)
    green, orange = ((drawn == colour).all(-1) for colour in (GREEN, ORANGE))
    for mask, x in ((green, 32), (orange, 128)):
        rows, columns = np.nonzero(mask)
        assert (rows.min(), columns.min()) == (31, x - 1)
        assert (rows.max(), columns.max()) == pytest.approx((96, x + 64), abs=6)  # a gap may be at the corner
    assert green[32, 34:94].all()
    along = orange[32, 130:190]
    assert 0.35 < along.mean() < 0.65
    # Between dashes there is dark ink, so that the frame is seen on any image.
    assert (drawn[32, 130:190][~along] == INK).all()


def test_a_box_at_the_border_or_without_area_is_drawn_whole() -> None:
    image = Image.new("RGB", (20, 20), "white")
    drawn = np.asarray(Picture(image, (0.0, 0.0, 20.0, 20.0)).image(224, 1))
    green = (drawn == GREEN).all(-1)
    assert green[:, 112].sum() == green[112].sum() == 4  # two pixels on either side
    for box in ((5.0, 5.0, 5.0, 5.0), (15.0, 12.0, 5.0, 2.0), (-900.0, 3.0, 900.0, 9.0)):
        assert count(Picture(image, None, [box]).image(224, 1), ORANGE) > 0


def test_words_wrap_break_and_end() -> None:
    line = Words("short").image(224, 1).height
    assert Words("two words " * 6).image(224, 1).height == 2 * line
    assert Words("x" * 60).image(224, 1).height in (2 * line, 3 * line)
    assert Words("many words " * 99, lines=3).image(224, 1).height == 3 * line
    assert Words("").image(224, 1).size == (224, line)
    assert Words("short").image(448, 2).height == 2 * line


@pytest.mark.parametrize("letter", "λéß–…×→Ж")
def test_letters_beyond_ascii_have_a_shape(letter: str) -> None:
    assert Words(letter).image(224, 1).tobytes() != Words("\U0010fffd").image(224, 1).tobytes()


@pytest.mark.parametrize(("share", "filled"), [(0.0, 0), (0.5, 112), (1.0, 224), (7.0, 224), (-1.0, 0)])
def test_a_bar_is_filled_as_far_as_its_share(share: float, filled: int) -> None:
    drawn = np.asarray(Bar("bleu", "0.50", share).image(224, 1))
    assert int((drawn[0] == FILL).all(-1).sum()) == filled


def test_rows_are_as_high_as_their_highest_cell() -> None:
    low, high = [Bar("a", "1", 0.5)], [Bar("a", "1", 0.5), Bar("b", "1", 0.5)]
    drawn = arrange([[low, high], [low]], scale=2)
    # Per row: padding of 12 twice, bars of 18, 5 between them.
    assert drawn.size == (2 * (12 + 2 * 236), 2 * ((24 + 18 + 5 + 18) + (24 + 18)))
    assert drawn.getpixel((0, 2 * 65)) == RULE


def test_a_panel_has_four_columns_and_counts_what_it_leaves_out() -> None:
    def size(items: list[str]) -> tuple[int, int]:
        samples = captions("x", items)
        rows = sample_rows(samples, 8)
        return panel(rows, images_of(samples, [row for own in rows for row in own])).size

    assert size(list("abcde"))[0] == 4 * 236 + 12
    assert size(list("abcde"))[1] == 2 * size(["a"])[1]
    assert size(["a"] * 5)[1] < size(["a"] * 6)[1] == size(["a"] * 20)[1]


def test_a_panel_of_boxes_shows_every_answer_and_says_what_the_colours_mean() -> None:
    found = [[0.0, 0.0, 8.0, 16.0], [NAN] * 4, [4.0, 4.0, 20.0, 12.0]]
    samples = boxes(found, ["1"] * 3)
    image = images_of(samples, [{"item": "1"}])
    rows = sample_rows(samples, 1)
    drawn = panel(rows, image)
    assert min(count(drawn, GREEN), count(drawn, ORANGE)) > 100
    invalid = [[{**row, "box": None} for row in rows[0]]]
    assert 0 < count(panel(invalid, image), ORANGE) < 100  # the legend is left


def test_a_sheet_has_a_row_per_item_and_a_column_per_lambda() -> None:
    rows, samples = sweep_of(captions, answer_row, [str(k) for k in range(6)])
    images = images_of(samples, rows)
    two = sheet(rows, images)
    one = sheet(rows, images, scale=1)
    assert one.width == 4 * 236 + 12  # the items, two experts and a soup
    assert two.width == 2 * one.width
    # Four items of six; of the image of 32 x 16, each has 150 x 75 less its edge.
    assert count(one, RED) == 4 * 148 * 73
    grounded, samples = sweep_of(lambda label, items: boxes([[0.0, 0.0, 8.0, 16.0]], items), answer_row, ["1"])
    drawn = np.asarray(sheet(grounded, images_of(samples, grounded), scale=1))
    orange = (drawn == ORANGE).all(-1)
    # Each λ has the image with its answer; the items have the right box alone, and the legend.
    assert all(orange[60:, 248 + 236 * k :][:, :224].sum() > 50 for k in range(3))
    assert len(POINTS) == 5


def test_texts_of_any_kind_can_be_drawn() -> None:
    for text in (NASTY, "\x00\x1b[0m", "日本語 " * 40, "🙂", "a\nb\u2028c", "שלום"):
        assert Words(text).image(224, 1).width == 224
        assert Bar(text, text, 0.5).image(224, 1).width == 224
    assert Stored().read()
