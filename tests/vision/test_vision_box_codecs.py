"""Location tokens of each format against transformers' processors, by hand, and there and back."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from transformers.models.florence2.processing_florence2 import Florence2PostProcessor
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    coordinate_to_patch_index,
    patch_index_to_coordinate,
)

from rslit.errors import RslitError
from rslit.vision import BoxCodec, FlorenceBoxCodec, KosmosBoxCodec, OfaBoxCodec, PaliGemmaBoxCodec

FOUR_BINS = [
    FlorenceBoxCodec(),
    FlorenceBoxCodec(32),
    PaliGemmaBoxCodec(),
    PaliGemmaBoxCodec(64),
    OfaBoxCodec(),
    OfaBoxCodec(2),
]
KOSMOS = [KosmosBoxCodec(), KosmosBoxCodec(8), KosmosBoxCodec(2)]
CODECS = FOUR_BINS + KOSMOS


def name(codec: BoxCodec) -> str:
    return f"{type(codec).__name__}-{len(codec.locations)}"


def random_boxes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes with and without width, some up to the border, in images of 1 to 3,000 pixels a side."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 3001, size=(count, 2))
    corners = np.sort(rng.random((count, 2, 2)), axis=1) * sizes[:, None]
    corners[::7, 0] = 0
    corners[::5, 1] = sizes[::5]
    corners[::11, 1] = corners[::11, 0]
    corners[::13] = np.floor(corners[::13])
    return torch.tensor(corners.reshape(count, 4)), torch.tensor(sizes)


def test_formats_by_hand():
    box, size = (32.0, 120.0, 480.0, 480.0), (640, 480)
    assert FlorenceBoxCodec().encode(box, size) == "<loc_50><loc_250><loc_750><loc_999>"
    assert OfaBoxCodec().encode(box, size) == "<bin_50><bin_250><bin_749><bin_999>"
    assert PaliGemmaBoxCodec().encode(box, size) == "<loc0256><loc0051><loc1023><loc0767>"
    # Columns 1 to 23 and rows 8 to 31 of 32: cells 8 * 32 + 1 and 31 * 32 + 23.
    assert KosmosBoxCodec().encode(box, size) == "<object><patch_index_0257><patch_index_1015></object>"
    assert FlorenceBoxCodec(8).encode(box, size) == "<loc_0><loc_2><loc_6><loc_7>"
    expected = [(50.5 * 0.64), (250.5 * 0.48), (750.5 * 0.64), (999.5 * 0.48)]
    decoded = FlorenceBoxCodec().decode("<loc_50><loc_250><loc_750><loc_999>", size)
    assert decoded.tolist() == pytest.approx(expected, rel=1e-6)
    decoded = PaliGemmaBoxCodec().decode("<loc0256><loc0051><loc1023><loc0767>", size)
    assert decoded.tolist() == pytest.approx([51 / 1023 * 640, 256 / 1023 * 480, 767 / 1023 * 640, 480], rel=1e-6)
    decoded = KosmosBoxCodec().decode("<object><patch_index_0257><patch_index_1015></object>", size)
    assert decoded.tolist() == pytest.approx([1.5 * 20, 8.5 * 15, 23.5 * 20, 31.5 * 15], rel=1e-6)


@pytest.mark.parametrize(
    ("codec", "first", "last", "count", "length"),
    [
        (FlorenceBoxCodec(), "<loc_0>", "<loc_999>", 1000, 4),
        (PaliGemmaBoxCodec(), "<loc0000>", "<loc1023>", 1024, 4),
        (OfaBoxCodec(480), "<bin_0>", "<bin_479>", 480, 4),
        (KosmosBoxCodec(), "<patch_index_0000>", "<patch_index_1023>", 1024, 4),
    ],
)
def test_tokens_and_their_number(codec, first, last, count, length):
    assert (codec.locations[0], codec.locations[-1], len(codec.locations)) == (first, last, count)
    assert set(codec.tokens) - set(codec.locations) == (
        {"<object>", "</object>"} if isinstance(codec, KosmosBoxCodec) else set()
    )
    assert len(codec.tokens) == len(set(codec.tokens))
    text = codec.encode((1, 2, 50, 60), (64, 64))
    assert text.count("<") == codec.length == length
    assert all(part + ">" in codec.tokens for part in text.split(">")[:-1])


@pytest.mark.parametrize("codec", FOUR_BINS, ids=name)
def test_boxes_survive_within_half_a_bin(codec):
    boxes, sizes = random_boxes(2000)
    decoded = codec.boxes(codec.codes(boxes, sizes), sizes).double()
    steps = codec.bins if isinstance(codec, FlorenceBoxCodec) else codec.bins - 1
    # Plus the rounding of float32.
    assert ((decoded - boxes).abs() <= sizes.repeat(1, 2) * (0.5 / steps + 1e-7)).all()
    assert len(codec.codes(boxes, sizes).unique()) > len(codec.locations) / 2


@pytest.mark.parametrize("codec", KOSMOS, ids=name)
def test_kosmos_boxes_survive_within_half_a_cell_or_one(codec):
    boxes, sizes = random_boxes(2000)
    codes = codec.codes(boxes, sizes)
    decoded = codec.boxes(codes, sizes).double()
    cells = (decoded - boxes).abs() / sizes.repeat(1, 2) * codec.grid
    first, last = codes[:, 0], codes[:, 1]
    wide = (first % codec.grid < last % codec.grid) & (first // codec.grid < last // codec.grid)
    assert 300 < wide.sum() < 1900
    assert (cells[wide] <= 0.5 + 1e-5).all()
    assert (cells <= 1 + 1e-5).all()


@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_text_and_back_is_a_fixed_point(codec):
    boxes, sizes = random_boxes(200, seed=1)
    texts = [codec.encode(box, size) for box, size in zip(boxes.tolist(), sizes.tolist(), strict=True)]
    decoded = codec.decode_batch(texts, sizes)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, codec.boxes(codec.codes(boxes, sizes), sizes))
    again = [codec.encode(box, size) for box, size in zip(decoded.tolist(), sizes.tolist(), strict=True)]
    assert again == texts


def test_florence_as_transformers_has_it():
    processor = object.__new__(Florence2PostProcessor)
    processor.quantize_bins = (1000, 1000)
    processor.banned_grounding_tokens = set()
    boxes, sizes = random_boxes(500, seed=2)
    codec = FlorenceBoxCodec()
    codes = codec.codes(boxes, sizes)
    decoded = codec.boxes(codes, sizes)
    for row, (width, height) in enumerate(sizes.tolist()):
        theirs = processor.quantize(boxes[row : row + 1], (width, height))[0]
        # They divide by a rounded bin width: a coordinate on the line between two bins may fall on either side.
        scaled = boxes[row] * 1000 / sizes[row].repeat(2)
        clear = (scaled - scaled.round()).abs() > 1e-6
        assert torch.equal(codes[row][clear], theirs.long()[clear])
        # They round down to whole pixels.
        whole = processor.dequantize(codes[row : row + 1], (width, height))[0]
        assert ((decoded[row] - whole).abs() < 1.001).all()
    text = "a red circle<loc_52><loc_332><loc_932><loc_774><loc_1><loc_2><loc_3><loc_4>"
    parsed = processor.parse_phrase_grounding_from_text_and_spans(f"</s><s>{text}</s>", (1000, 500))
    assert parsed[0]["bbox"][0] == [int(value) for value in codec.decode(f"</s><s>{text}</s>", (1000, 500)).tolist()]


@pytest.mark.parametrize("codec", KOSMOS, ids=name)
def test_kosmos_as_transformers_has_it(codec):
    boxes, sizes = random_boxes(500, seed=3)
    boxes, sizes = (rows[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)] for rows in (boxes, sizes))
    codes = codec.codes(boxes, sizes)
    decoded = codec.boxes(codes, sizes)
    for row, size in enumerate(sizes.repeat(1, 2).double()):
        # They divide before they multiply, which may cross a line of the grid by rounding.
        scaled = boxes[row] / size * codec.grid
        if ((scaled - scaled.round()).abs() > 1e-9).logical_or(scaled == scaled.round()).all():
            assert tuple(codes[row].tolist()) == coordinate_to_patch_index((boxes[row] / size).tolist(), codec.grid)
        theirs = torch.tensor(patch_index_to_coordinate(*codes[row].tolist(), codec.grid)) * size
        torch.testing.assert_close(decoded[row].double(), theirs, rtol=1e-6, atol=1e-6)


def test_kosmos_in_a_caption():
    text = (
        "<grounding> An image of<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863></object> "
        "warming himself by<phrase> a fire</phrase><object><patch_index_0005><patch_index_0911></object>."
    )
    _, entities = clean_text_and_extract_entities_with_bboxes(text)
    expected = torch.tensor(entities[0][2][0]) * torch.tensor([640, 480, 640, 480])
    torch.testing.assert_close(KosmosBoxCodec().decode(text, (640, 480)), expected)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (FlorenceBoxCodec(), ""),
        (FlorenceBoxCodec(), "a dog"),
        (FlorenceBoxCodec(), "<loc_1><loc_2><loc_3>"),
        (FlorenceBoxCodec(), "<loc_1><loc_2> and <loc_3><loc_4>"),
        (FlorenceBoxCodec(), "<loc_3><loc_2><loc_1><loc_4>"),
        (FlorenceBoxCodec(), "<loc_1><loc_4><loc_3><loc_2>"),
        (FlorenceBoxCodec(), "<loc_1><loc_2><loc_3><loc_1000>"),
        (FlorenceBoxCodec(), "<loc_1><loc_2><loc_3><loc_-4>"),
        (FlorenceBoxCodec(), "<loc_1><loc_2><loc_3><loc_04>"),
        (FlorenceBoxCodec(), "<loc_1><loc_2><loc_3><loc_" + "9" * 5000 + ">"),
        (FlorenceBoxCodec(), "<loc_1><loc_2><loc_3><loc_٤>"),
        (FlorenceBoxCodec(32), "<loc_1><loc_2><loc_3><loc_32>"),
        (PaliGemmaBoxCodec(), "<loc_1><loc_2><loc_3><loc_4>"),
        (PaliGemmaBoxCodec(), "<loc0003><loc0001><loc0002><loc0004>"),
        (PaliGemmaBoxCodec(), "<loc0001><loc0001><loc0002><loc1024>"),
        (OfaBoxCodec(), "<bin_5><bin_5><bin_4><bin_6>"),
        (KosmosBoxCodec(), "<patch_index_0044><patch_index_0863>"),
        (KosmosBoxCodec(), "<object><patch_index_0044></object>"),
        (KosmosBoxCodec(), "<object><patch_index_0863><patch_index_0044></object>"),
        (KosmosBoxCodec(), "<object><patch_index_0001><patch_index_0000></object>"),
        (KosmosBoxCodec(), "<object><patch_index_0032><patch_index_0000></object>"),
        (KosmosBoxCodec(), "<object><patch_index_0000><patch_index_1024></object>"),
    ],
)
def test_what_is_no_box(codec, text):
    assert codec.decode(text, (640, 480)).isnan().all()


def test_what_stands_around_a_box_does_not_matter():
    codec = FlorenceBoxCodec()
    box = codec.decode("<loc_1><loc_2><loc_3><loc_4>", (640, 480))
    for text in (
        "</s><s>a dog<loc_1><loc_2><loc_3><loc_4></s><pad>",
        "<loc_1> <loc_2> <loc_3> <loc_4>",
        "<loc_1><loc_2><loc_3><loc_4><loc_5>",
        "<loc_9> a dog<loc_1><loc_2><loc_3><loc_4>",
    ):
        assert torch.equal(codec.decode(text, (640, 480)), box)


@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_no_text_raises(codec):
    draw = random.Random(0)
    pieces = [
        *draw.sample(codec.tokens, min(12, len(codec.tokens))),
        "<loc_",
        ">",
        "<",
        "7",
        "-1",
        " ",
        "\n",
        "é",
        "a dog",
    ]
    pieces += ["<object>", "</object>", "<patch_index_99999>", "<loc_5000>", "<bin_1e3>", "\x00", "𝟗", "(", "\\"]
    texts = ["".join(draw.choices(pieces, k=draw.randrange(12))) for _ in range(2000)]
    texts += ["".join(chr(draw.randrange(1, 0x2FFF)) for _ in range(20)) for _ in range(200)]
    texts += ["".join(slot or draw.choice(codec.locations) for slot in codec.layout) for _ in range(500)]
    boxes = codec.decode_batch(texts, torch.tensor([[640, 480]]).repeat(len(texts), 1))
    assert boxes.shape == (len(texts), 4)
    whole = ~boxes.isnan().any(dim=1)
    assert 0 < whole.sum() < len(texts)
    assert boxes[~whole].isnan().all()
    assert (boxes[whole] >= 0).all()
    assert (boxes[whole] <= torch.tensor([640, 480, 640, 480])).all()
    assert (boxes[whole][:, 2:] >= boxes[whole][:, :2]).all()


def test_no_texts():
    assert FlorenceBoxCodec().decode_batch([], torch.zeros(0, 2)).shape == (0, 4)


@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_a_box_outside_of_its_image(codec):
    with pytest.raises(RslitError, match=r"item 17: the box reaches outside of the image: box \(0, 0, 99, 20\)"):
        codec.encode((0, 0, 99, 20), (64, 64), item=17)
    with pytest.raises(RslitError, match=r"box 0: the box has x1 < x0"):
        codec.encode((9, 0, 3, 20), (64, 64))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FlorenceBoxCodec(1), "FlorenceBoxCodec: bins is 1; it must be 2 or more"),
        (lambda: OfaBoxCodec(0), "OfaBoxCodec: bins is 0"),
        (lambda: KosmosBoxCodec(1), "KosmosBoxCodec: grid is 1"),
    ],
)
def test_too_few_bins(build, message):
    with pytest.raises(RslitError, match=message):
        build()


def test_thin_kosmos_boxes_on_the_lines_of_the_grid():
    codec = KosmosBoxCodec(4)
    assert codec.encode((16, 16, 16, 16), (64, 64)) == "<object><patch_index_0005><patch_index_0005></object>"
    assert codec.encode((64, 64, 64, 64), (64, 64)) == "<object><patch_index_0015><patch_index_0015></object>"
    assert codec.encode((0, 0, 16, 64), (64, 64)) == "<object><patch_index_0000><patch_index_0012></object>"
    assert codec.decode("<object><patch_index_0000><patch_index_0012></object>", (64, 64)).tolist() == [0, 0, 16, 64]
    assert not math.isnan(codec.decode(codec.encode((63, 0, 64, 64), (64, 64)), (64, 64)).sum())
