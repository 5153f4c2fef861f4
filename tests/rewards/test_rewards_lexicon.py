"""Sentiment, profanity and length of responses against the libraries themselves and by hand."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings

import pytest
from reward_tester import RewardTester
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from rslit.errors import RslitError
from rslit.rewards import BrevityReward, LengthReward, ProfanityReward, SentimentReward, score
from rslit.samples import Samples

RESPONSES = ["I loved this wonderful film!", "A terrible, boring mess. Shit.", "", "The film is 90 minutes long."]
SAMPLES = Samples(["a", "b", "c", "d"], {"response": RESPONSES, "prompt": ["good", "bad", "", "good good"]})


def test_sentiment_is_vaders_compound():
    analyzer = SentimentIntensityAnalyzer()
    expected = [analyzer.polarity_scores(text)["compound"] for text in RESPONSES]
    assert expected[0] > 0.5 > -0.5 > expected[1]
    assert expected[2] == 0.0
    RewardTester(1e-7).run(SentimentReward(), SAMPLES, expected)
    prompts = [analyzer.polarity_scores(text)["compound"] for text in SAMPLES["prompt"]]
    RewardTester(1e-7).run(SentimentReward(name="prompt", field="prompt"), SAMPLES, prompts)


def test_profanity_is_one_minus_the_librarys_probability():
    reward = ProfanityReward()
    values = score(reward, SAMPLES, 0)
    with warnings.catch_warnings():
        # The library's model was saved by an older scikit-learn.
        warnings.simplefilter("ignore")
        from profanity_check import predict_prob
    RewardTester(1e-6).run(reward, SAMPLES, [1.0 - float(predict_prob([text])[0]) for text in RESPONSES])
    assert values[1] < 0.1
    assert values[[0, 2, 3]].min() > 0.9


def test_length_in_words_and_characters():
    RewardTester(0.0).run(LengthReward(6), SAMPLES, [-1.0, -1.0, -6.0, 0.0])
    RewardTester(0.0).run(LengthReward(28, unit="characters", name="chars"), SAMPLES, [0.0, -2.0, -28.0, 0.0])
    assert (LengthReward(6).unit, LengthReward(6, unit="characters").unit) == ("words", "characters")


def test_brevity():
    RewardTester(0.0).run(BrevityReward(), SAMPLES, [-5.0, -5.0, 0.0, -6.0])
    assert (BrevityReward().name, BrevityReward().unit) == ("brevity", "words")


def test_a_negative_target():
    with pytest.raises(RslitError, match="LengthReward 'length': target is -1; it must be 0 or more"):
        LengthReward(-1)


@pytest.mark.parametrize(
    ("reward", "module", "package"),
    [
        (SentimentReward, "vaderSentiment", "vaderSentiment"),
        (ProfanityReward, "profanity_check", "alt-profanity-check"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, reward, module, package):
    found = importlib.util.find_spec
    monkeypatch.setattr("rslit.rewards.pretrained.find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(RslitError, match=rf"{reward.__name__} '\w+' needs {package}: pip install 'rslit\[text\]'"):
        reward()


def test_importing_the_rewards_imports_no_heavy_library():
    code = (
        "import sys, rslit.rewards; print({'transformers', 'sklearn', 'vaderSentiment'} & set(sys.modules) or 'none')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "none"
