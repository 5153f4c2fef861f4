"""Boxes as ids of a tokenizer against the texts of the same tokens; models without location tokens."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_tokenizer

from rslit.errors import RslitError
from rslit.vision import FlorenceBoxCodec, KosmosBoxCodec, OfaBoxCodec, PaliGemmaBoxCodec
from rslit.vision.box_tokens import BoxTokens

CODECS = [FlorenceBoxCodec(16), PaliGemmaBoxCodec(12), OfaBoxCodec(9), KosmosBoxCodec(4)]


def tokenizer_for(codec, special: bool = True):
    """A tokenizer with the codec's tokens in no useful order, among others."""
    tokenizer = tiny_tokenizer()
    tokens = [*codec.tokens, "<other>"]
    random.Random(0).shuffle(tokens)
    tokenizer.add_tokens(tokens, special_tokens=special)
    return tokenizer


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_ids_are_those_of_the_text(codec):
    tokenizer = tokenizer_for(codec)
    tokens = BoxTokens(codec, tokenizer)
    boxes = torch.tensor([[0, 0, 64, 48], [3.5, 7, 20, 40.25], [60, 1, 64, 2]])
    sizes = torch.tensor([[64, 48], [32, 64], [64, 64]])
    ids = tokens.encode(boxes, sizes)
    assert ids.shape == (3, tokens.length)
    texts = [codec.encode(box, size) for box, size in zip(boxes.tolist(), sizes.tolist(), strict=True)]
    assert [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()] == [
        [part + ">" for part in text.split(">")[:-1]] for text in texts
    ]
    assert torch.equal(tokens.decode(ids, sizes), codec.decode_batch(texts, sizes))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_what_is_generated_decodes_as_its_text(codec):
    tokenizer = tokenizer_for(codec)
    tokens = BoxTokens(codec, tokenizer)
    draw = random.Random(1)
    vocabulary = list(tokenizer.get_vocab().values())
    useful = tokenizer.convert_tokens_to_ids(list(codec.tokens))
    fixed = [[int(step[0])] if len(step) == 1 else useful for step in tokens.allowed]
    rows = [[draw.choice(draw.choice((useful, vocabulary))) for _ in range(9)] for _ in range(300)]
    rows += [
        [draw.choice(vocabulary), *(draw.choice(step) for step in fixed), *draw.choices(useful, k=8 - len(fixed))]
        for _ in range(300)
    ]
    texts = ["".join(tokenizer.convert_ids_to_tokens(row)) for row in rows]
    sizes = torch.tensor([[640, 480]]).repeat(len(rows), 1)
    boxes = tokens.decode(torch.tensor(rows), sizes)
    assert 30 < boxes.isnan().any(dim=1).sum() < 590
    torch.testing.assert_close(boxes, codec.decode_batch(texts, sizes), rtol=0, atol=0, equal_nan=True)


def test_what_may_be_generated():
    for codec in CODECS:
        tokenizer = tokenizer_for(codec)
        tokens = BoxTokens(codec, tokenizer)
        assert len(tokens.allowed) == tokens.length
        names = [tokenizer.convert_ids_to_tokens(step.tolist()) for step in tokens.allowed]
        if isinstance(codec, KosmosBoxCodec):
            assert (names[0], names[3]) == (["<object>"], ["</object>"])
            names = names[1:3]
        assert names == [list(codec.locations)] * len(names)


def test_short_and_padded_ids():
    codec = FlorenceBoxCodec(16)
    tokens = BoxTokens(codec, tokenizer_for(codec))
    sizes = torch.tensor([[64, 64]])
    ids = tokens.encode(torch.tensor([[1.0, 2.0, 30.0, 40.0]]), sizes)
    box = tokens.decode(ids, sizes)
    padding = torch.tensor([[-100, 10**6]])
    assert torch.equal(tokens.decode(torch.cat([padding, ids, padding], dim=1), sizes), box)
    assert tokens.decode(ids[:, :3], sizes).isnan().all()
    assert tokens.decode(ids[:, :0], sizes).shape == (1, 4)
    assert tokens.decode(torch.cat([ids[:, :2], padding, ids[:, 2:]], dim=1), sizes).isnan().all()


def test_a_box_outside_of_its_image():
    codec = FlorenceBoxCodec(16)
    tokens = BoxTokens(codec, tokenizer_for(codec))
    with pytest.raises(RslitError, match="item 'b': the box reaches outside of the image"):
        tokens.encode(torch.tensor([[0.0, 0, 1, 1], [0, 0, 99, 1]]), torch.tensor([[64, 64]] * 2), ["a", "b"])


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_model_without_location_tokens(codec):
    tokenizer = tiny_tokenizer()
    for check in (codec.check_tokenizer, lambda tokenizer: BoxTokens(codec, tokenizer)):
        with pytest.raises(RslitError, match=r"BoxCodec: the tokenizer of .* has no token '<.*missing") as error:
            check(tokenizer)
        assert "\n" not in str(error.value)
    codec.check_tokenizer(tokenizer_for(codec))
    codec.check_tokenizer(tokenizer_for(codec, special=False))
    codec.check_tokenizer(SimpleNamespace(tokenizer=tokenizer_for(codec)))


def test_fewer_tokens_than_bins():
    with pytest.raises(RslitError, match=r"no token '<loc_16>' \(16 of 32 tokens for boxes are missing\)"):
        FlorenceBoxCodec(32).check_tokenizer(tokenizer_for(FlorenceBoxCodec(16)))
