"""BLEU and ROUGE-L against pycocoevalcap and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from caption_texts import as_dicts, caption_samples, edge_pairs, random_pairs
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.rouge.rouge import Rouge
from reward_tester import RewardTester

from rslit.errors import RslitError
from rslit.rewards.bleu import BleuReward
from rslit.rewards.rouge import RougeReward

CASES = [edge_pairs(), random_pairs(1), random_pairs(2)]


def bleu(texts, references, n):
    return Bleu(4).compute_score(*as_dicts(texts, references), verbose=0)[1][n - 1]


def rouge(texts, references):
    return Rouge().compute_score(*as_dicts(texts, references))[1]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_bleu_is_pycocoevalcaps(case, n):
    reward = BleuReward(n)
    expected = bleu(*case, n)
    np.testing.assert_allclose(reward.values(*case), expected, rtol=0, atol=1e-9)
    alone = [reward.values([text], [references])[0] for text, references in zip(*case, strict=True)]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-9)
    assert reward.name == f"bleu{n}"


@pytest.mark.parametrize("case", CASES)
def test_rouge_is_pycocoevalcaps(case):
    expected = rouge(*case)
    np.testing.assert_allclose(RougeReward().values(*case), expected, rtol=0, atol=1e-9)
    alone = [RougeReward().values([text], [references])[0] for text, references in zip(*case, strict=True)]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("reward", "expected"),
    [(BleuReward(1), lambda *case: bleu(*case, 1)), (BleuReward(), None), (RougeReward(), rouge)],
)
def test_as_rewards(reward, expected):
    case = random_pairs(3, 12)
    expected = expected or (lambda *case: bleu(*case, 4))
    RewardTester(1e-6).run(reward, caption_samples(*case), list(expected(*case)))


def test_the_end_of_a_sentence_as_a_word():
    texts, references = random_pairs(4)
    with_end = [f"{text} EOS" for text in texts], [[f"{one} EOS" for one in some] for some in references]
    values = BleuReward(4, append_eos=True).values(texts, references)
    np.testing.assert_allclose(values, bleu(*with_end, 4), rtol=0, atol=1e-9)
    whole, broken_off = (
        BleuReward(2, append_eos=True).values([text], [["a dog on a mat"]])[0]
        for text in ("a dog on a mat", "a dog on a")
    )
    # Its last 2-gram and the end itself are not the reference's: 4 of 5 words, 3 of 4 2-grams.
    assert whole == pytest.approx(1.0, abs=1e-8)
    assert broken_off == pytest.approx(math.sqrt(1.0 * 3 / 4) * math.exp(1 - 6 / 5), abs=1e-6)


def test_by_hand():
    # The example of Papineni et al.: 2 of 7 words, clipped; the closest of 6 and 7 words is 7: no brevity penalty.
    case = ["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]
    assert BleuReward(1).values(*case) == [pytest.approx(2 / 7, abs=1e-9)]
    # Longest common subsequence "a dog runs" of 3: precision 3 / 4, recall 3 / 5.
    value = RougeReward().values(["a dog fast runs"], [["a big dog often runs"]])[0]
    assert value == pytest.approx(2.44 * 0.75 * 0.6 / (0.6 + 1.44 * 0.75), abs=1e-12)


def test_rouge_of_long_texts():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcde"), size=size)) for size in (1, 70, 200)]
    references = [[" ".join(rng.choice(list("abcde"), size=size)) for size in (63, 64, 65, 130)]] * 3
    np.testing.assert_allclose(RougeReward().values(texts, references), rouge(texts, references), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [0, 5])
def test_an_n_that_bleu_does_not_have(n):
    with pytest.raises(RslitError, match=f"BleuReward 'bleu{n}': n is {n}; it must be 1, 2, 3 or 4"):
        BleuReward(n)
