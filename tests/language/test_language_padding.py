from __future__ import annotations

import pytest
import torch

from rslit.errors import RslitError
from rslit.language import Prompts, left_pad
from rslit.language.padding import answer_mask, positions


def test_prompts_end_in_one_column() -> None:
    prompts = left_pad([[7], [5, 6, 7, 8], [9, 0]], pad_id=0)
    assert prompts.ids.tolist() == [[0, 0, 0, 7], [5, 6, 7, 8], [0, 0, 9, 0]]
    # The pad token inside a prompt is a token like any other.
    assert prompts.mask.int().tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    assert positions(prompts.mask).tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 0, 1]]
    with pytest.raises(RslitError, match="a prompt has no token"):
        left_pad([[1], []], 0)


def test_copies_and_trimming() -> None:
    prompts = left_pad([[7], [5, 6, 7]], 0)
    twice = prompts.repeat(2)
    assert twice.ids.tolist() == prompts.ids.tolist() * 2
    assert twice.mask.tolist() == prompts.mask.tolist() * 2
    first = Prompts(prompts.ids[:1], prompts.mask[:1]).trimmed()
    assert (first.ids.tolist(), first.mask.tolist()) == ([[7]], [[True]])
    assert prompts.trimmed().ids.tolist() == prompts.ids.tolist()


def test_an_answer_is_counted_up_to_its_end_token_and_no_longer_than_its_length() -> None:
    tokens = torch.tensor([[4, 1, 5, 1], [4, 5, 6, 7], [1, 1, 1, 1], [4, 5, 2, 1], [4, 5, 6, 1]])
    mask, finished = answer_mask(tokens, (1, 2), torch.tensor([4, 3, 4, 4, 3]))
    assert mask.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    # The last row's end token came after its length: it was cut off.
    assert finished.tolist() == [True, False, True, True, False]
    mask, finished = answer_mask(tokens, (), torch.tensor([4, 3, 4, 4, 3]))
    assert mask.sum(1).tolist() == [4, 3, 4, 4, 3]
    assert not finished.any()
