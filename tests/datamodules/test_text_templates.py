from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tiny_models import tiny_tokenizer
from tokenizers import processors

from rslit.datamodules import Prompt
from rslit.datamodules.text_templates import encode, prefix_ids, prefix_length, render
from rslit.errors import RslitError

NEWS = Prompt("1", "Shares rose.", "They rose.", "Summarise the article.")
ASKED = Prompt("2", "How do I boil an egg?")


def framing(frame: str) -> Any:
    """A tokenizer that puts its special tokens around each text as `frame` says."""
    tokenizer = tiny_tokenizer("llama")
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=special)
    return tokenizer


def test_alpaca_is_the_papers_one_line() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    assert render(tokenizer, NEWS, "alpaca") == (
        "### Instruction: Summarise the article. ### Input: Shares rose. ### Response: "
    )
    assert render(tokenizer, ASKED, "alpaca") == "### Instruction: How do I boil an egg? ### Response: "


def test_plain_is_the_question() -> None:
    assert render(tiny_tokenizer("gpt2"), NEWS, "plain") == "Shares rose."


def test_chat_is_the_tokenizers_template() -> None:
    tokenizer = tiny_tokenizer("llama")
    assert render(tokenizer, NEWS, "chat") == (
        "<|im_start|>user\nSummarise the article.\n\nShares rose.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(tokenizer, ASKED, "chat", system="Be kind.") == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHow do I boil an egg?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    turns = [{"role": "user", "content": ASKED.question}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert encode(tokenizer, [render(tokenizer, ASKED, "chat")], "chat") == [ids]


def test_chat_without_a_template_or_with_one_that_refuses() -> None:
    with pytest.raises(RslitError, match="this tokenizer has no chat template; use template: alpaca or plain"):
        render(tiny_tokenizer("gpt2"), ASKED, "chat")
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(RslitError, match=r"refuses these turns \(System role not supported\)"):
        render(tokenizer, ASKED, "chat", system="Be kind.")


@pytest.mark.parametrize(
    ("frame", "first"), [("$A", []), ("<s> $A", ["<s>"]), ("$A </s>", []), ("<s> $A </s>", ["<s>"])]
)
@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_one_bos_where_the_tokenizer_has_it_and_never_an_eos(frame: str, first: list[str], template: Any) -> None:
    tokenizer, bare = framing(frame), tiny_tokenizer("llama")
    texts = [render(tokenizer, prompt, template) for prompt in (NEWS, ASKED)]
    expected = [bare.convert_tokens_to_ids(first) + bare(text)["input_ids"] for text in texts]
    assert encode(tokenizer, texts, template) == expected
    marked = [f"<s>{text}" for text in texts]  # a text that writes its BOS itself
    assert all(Counter(ids)[tokenizer.bos_token_id] == 1 for ids in encode(tokenizer, marked, template))


def test_a_chat_template_that_writes_the_bos_gets_no_second_one() -> None:
    tokenizer = framing("<s> $A </s>")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    (ids,) = encode(tokenizer, [render(tokenizer, ASKED, "chat")], "chat")
    assert ids[0] == tokenizer.bos_token_id
    assert Counter(ids)[tokenizer.bos_token_id] == 1
    assert tokenizer.eos_token_id not in ids


def test_bos_and_eos_that_are_one_token() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    assert encode(tokenizer, ["Why?"], "plain") == [tokenizer("Why?")["input_ids"]]
    assert tokenizer.eos_token_id not in encode(tokenizer, ["Why?"], "plain")[0]
    assert encode(tokenizer, [], "plain") == []


def test_prefix_lengths_are_uniform_within_both_bounds_and_belong_to_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counter(prefix_length(f"item {k}", (2, 7)) for k in range(6000))
    assert sorted(counts) == [2, 3, 4, 5, 6, 7]
    # 1,000 each with a standard deviation of 29.
    assert all(abs(count - 1000) < 120 for count in counts.values())
    before = [prefix_length(str(k), (2, 7)) for k in range(50)]
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert [prefix_length(str(k), (2, 7)) for k in range(50)] == before
    assert {prefix_length(str(k), (4, 4)) for k in range(50)} == {4}


@pytest.mark.parametrize("frame", ["$A", "<s> $A </s>"])
def test_a_prefix_is_the_beginning_of_the_reference(frame: str) -> None:
    tokenizer = framing(frame)
    long = "This film is a wonderful story with great actors and a terrible ending. " * 200
    prompts = [Prompt(str(k), "q", reference) for k, reference in enumerate((long, "They", ""))]
    got = prefix_ids(tokenizer, prompts, (2, 7))
    for prompt, ids in zip(prompts, got, strict=True):
        whole = tiny_tokenizer("llama")(prompt.reference)["input_ids"]
        assert ids == whole[: prefix_length(prompt.item, (2, 7))]
    assert got[2] == []
    assert prefix_ids(tokenizer, [], (2, 7)) == []
