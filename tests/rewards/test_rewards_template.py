"""Template by itself: the filled text and where the question lies in it. Its mistakes: test_rewards_classifier.py."""

from __future__ import annotations

import pytest

from rslit.rewards.template import Template

BERT = {"bos": None, "eos": None, "sep": "[SEP]", "cls": "[CLS]"}
GPT = {"bos": "<|e|>", "eos": "<|e|>", "sep": None, "cls": None}


def template(text: str, special: dict[str, str | None], **options: bool) -> Template:
    control = [token for token in special.values() if token]
    return Template(text, special, control, owner="r", model="m", **options)


@pytest.mark.parametrize(
    ("text", "special", "filled"),
    [
        ("{question}{sep}{response}", BERT, "Why?[SEP]So."),
        ("{response} {bos} {question}", GPT, "So. <|e|> Why?"),
        ("{response}{sep}{sep}{question}", BERT, "So.[SEP][SEP]Why?"),
        ("Q: {question}\n{{A}}: {response}{eos}", GPT, "Q: Why?\n{A}: So.<|e|>"),
    ],
)
def test_filled_text_and_the_place_of_the_question(text, special, filled):
    result = template(text, special).fill("Why?", "So.")
    assert result.text == filled
    assert result.text[slice(*result.question)] == "Why?"


def test_question_free():
    result = template("{cls}Generate a movie review.{sep}{response}", BERT, question_free=True).fill("Why?", "")
    assert result.text == "[CLS]Generate a movie review.[SEP]"
    assert result.question == (0, 0)


def test_control_tokens_in_texts_become_spaces_and_cannot_be_pieced_together():
    result = template("{question}{sep}{response}", BERT).fill("a[SEP]b", "[CL[SEP]S][CLS]")
    assert result.text == "a b[SEP][CL S] "
    assert result.text[slice(*result.question)] == "a b"


def test_a_tokenizer_without_special_tokens():
    result = template("{question} {response}", dict.fromkeys(BERT)).fill("", "[SEP]")
    assert result.text == " [SEP]"
