"""One set of rules for sampling and scoring; batches in parts."""

from __future__ import annotations

import pytest
import torch
from tiny_models import save_tiny_llama

from rslit.language import LanguagePolicy, LoraOptions, PolicyOptions, Speaker, build_policy

TEXTS = [[20, 21, 22, 23, 24], [25], [26, 27], [30, 31, 32, 33], [34, 35, 36], [37, 38]]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LanguagePolicy:
    folder = save_tiny_llama(tmp_path_factory.mktemp("base"))
    return build_policy(PolicyOptions(str(folder), lora=LoraOptions(r=2)))


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_scoring_in_parts_equals_scoring_at_once(policy: LanguagePolicy, temperature: float) -> None:
    """In parts rows of like length go together; they come back in their own order."""
    speaker = Speaker(policy, temperature)
    prompts = speaker.prompts(TEXTS, CPU)
    answers = speaker.answer(policy.model, prompts, torch.tensor([4, 6, 1, 5, 3, 6]), noise(), stop_at_eos=False)
    rows = {"prompts": prompts.ids, "prompt_mask": prompts.mask, "tokens": answers.tokens, "mask": answers.mask}
    torch.manual_seed(0)
    head = torch.nn.Linear(32, 1)
    whole = speaker.score(policy.model, rows, head, entropy=True)
    for size in (1, 2, 4, 6, 100):
        parts = speaker.score_in_parts(policy.model, rows, size, head, entropy=True)
        for one, two in zip(whole, parts, strict=True):
            assert one is not None
            assert two is not None
            torch.testing.assert_close(one[answers.mask], two[answers.mask], atol=1e-5, rtol=0)
    assert speaker.score_in_parts(policy.model, rows, 4).values is None


def test_answering_in_parts_gives_the_parts_one_after_the_other(policy: LanguagePolicy) -> None:
    speaker, lengths = Speaker(policy, 1.0), torch.tensor([2, 3, 6, 5, 1, 1])
    prompts = speaker.prompts(TEXTS, CPU)
    joined = speaker.answer_in_parts(policy.model, prompts, lengths, 4, noise(), False)
    stream = noise()
    for start, end in ((0, 4), (4, 6)):
        part = type(prompts)(prompts.ids[start:end], prompts.mask[start:end])
        alone = speaker.answer(policy.model, part, lengths[start:end], stream, stop_at_eos=False)
        width = alone.tokens.shape[1]
        assert torch.equal(joined.tokens[start:end, :width], alone.tokens)
        assert torch.equal(joined.mask[start:end, :width], alone.mask)
        assert (joined.tokens[start:end, width:] == speaker.pad_id).all()
        assert not joined.mask[start:end, width:].any()
    assert joined.mask.sum(1).tolist() == lengths.tolist()
    assert not joined.finished.any()
    whole = speaker.answer_in_parts(policy.model, prompts, lengths, 6, noise(), False)
    assert torch.equal(whole.tokens, speaker.answer(policy.model, prompts, lengths, noise(), stop_at_eos=False).tokens)


def test_an_end_token_ends_an_answer_unless_it_is_asked_not_to(policy: LanguagePolicy) -> None:
    speaker = Speaker(policy, 1.0)
    prompts, lengths = speaker.prompts(TEXTS * 30, CPU), torch.full((180,), 24)
    going_on = speaker.answer(policy.model, prompts, lengths, noise(), stop_at_eos=False)
    assert (going_on.tokens == policy.eos_ids[0]).any()
    assert going_on.mask.all()
    assert not going_on.finished.any()
    ended = speaker.answer(policy.model, prompts, lengths, noise())
    assert ended.finished.any()
    assert torch.equal(ended.finished, (going_on.tokens == policy.eos_ids[0]).any(1))
    assert torch.equal(ended.tokens[ended.mask], going_on.tokens[:, : ended.tokens.shape[1]][ended.mask])
