"""SimilarityReward against the sentence-transformers recipe by hand."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from reward_tester import RewardTester, take
from tiny_models import save_tiny_encoder
from transformers import AutoTokenizer, BertModel

from rslit.errors import RslitError
from rslit.rewards import SimilarityReward, score
from rslit.rewards import sentence as sentence_module
from rslit.samples import Samples

ARTICLES = [
    "The government said on Monday that it would cut taxes for small firms next year.",
    "Shares rose after the company reported better sales. " * 9,
    "How do I boil an egg?",
    "This film is a wonderful story with great actors and a terrible ending.",
]
SUMMARIES = ["  Taxes for small firms will be cut. ", "The plot was boring and far too long. " * 5, "", "A film."]
SAMPLES = Samples(
    ["a", "b", "c", "d"], {"question": ARTICLES, "response": SUMMARIES, "prompt": ARTICLES[::-1], "reference": ARTICLES}
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that reads 16 tokens."""
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"), max_seq_length=16)


def build(folder: Path, **options: Any) -> SimilarityReward:
    return SimilarityReward(str(folder), **options)


def embeddings(folder: Path, texts: list[str], length: int) -> list[list[float]]:
    """One text at a time, without padding, in float64 after the model: sentence-transformers' Transformer, Pooling
    (mean) and Normalize modules."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder).eval()
    result = []
    for text in texts:
        ids = tokenizer(text.strip(), truncation=True, max_length=length, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            tokens = model(ids).last_hidden_state[0].double().tolist()
        mean = [math.fsum(column) / len(tokens) for column in zip(*tokens, strict=True)]
        norm = math.sqrt(math.fsum(value * value for value in mean))
        result.append([value / norm for value in mean])
    return result


def cosines(folder: Path, ours: list[str], theirs: list[str], length: int) -> list[float]:
    pairs = zip(embeddings(folder, ours, length), embeddings(folder, theirs, length), strict=True)
    return [math.fsum(a * b for a, b in zip(*pair, strict=True)) for pair in pairs]


def test_the_recipe_of_sentence_transformers(encoder):
    reward = build(encoder, batch_size=3)
    RewardTester(tolerance=1e-6, batch_tolerance=1e-6).run(
        reward, SAMPLES, cosines(encoder, SUMMARIES, ARTICLES, length=16)
    )
    assert (reward.name, reward.range, reward.unit) == ("faithful", (-1.0, 1.0), "cosine similarity")


def test_against_the_prompt(encoder):
    expected = cosines(encoder, SUMMARIES, ARTICLES[::-1], length=16)
    assert score(build(encoder, against="prompt"), SAMPLES, 0).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_missing_reference_does_not_apply(encoder):
    samples = Samples(["a", "b", "c"], {"reference": [ARTICLES[0], "", ARTICLES[2]], "response": SUMMARIES[:3]})
    expected = cosines(encoder, SUMMARIES[:3], [ARTICLES[0], "x", ARTICLES[2]], length=16)
    RewardTester(1e-6, 1e-6).run(build(encoder, against="reference"), samples, [expected[0], math.nan, expected[2]])


@pytest.mark.parametrize("field", ["question", "prompt"])
def test_an_empty_question_or_prompt_names_its_item(encoder, field):
    samples = Samples(["a", "b"], {field: ["x", " "], "response": ["y", "z"]})
    with pytest.raises(RslitError, match=f"SimilarityReward 'faithful': the {field} of item 'b' is empty"):
        build(encoder, against=field)(samples)


def test_a_copy_gets_one(encoder):
    values = score(build(encoder), Samples(["a", "b"], {"question": ARTICLES[:2], "response": ARTICLES[:2]}), 0)
    assert values.tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert values.max() <= 1.0


@pytest.mark.parametrize(("entry", "option", "length"), [(16, 8, 8), (16, 40, 40), (None, None, 64), (500, None, 64)])
def test_the_length_of_a_text(tmp_path, entry, option, length):
    """The user's, else the encoder's own, else 256; never more than the model reads (64)."""
    folder = save_tiny_encoder(tmp_path, max_seq_length=entry)
    values = score(build(folder, max_length=option), SAMPLES, 0)
    assert values.tolist() == pytest.approx(cosines(folder, SUMMARIES, ARTICLES, length), abs=1e-6)


def test_questions_are_embedded_once_and_alone(encoder, monkeypatch):
    """So the last bit of a reward depends neither on the batch nor on what an interrupted run had seen."""
    reward, seen = build(encoder), []
    embed = SimilarityReward._embed

    def spy(self, texts):
        seen.extend([list(texts)] if len(texts) == 1 else [])
        return embed(self, texts)

    monkeypatch.setattr(SimilarityReward, "_embed", spy)
    first = reward(SAMPLES)
    assert seen == [[article] for article in ARTICLES]
    assert reward(SAMPLES).tolist() == first.tolist()
    assert len(seen) == 4
    fresh = build(encoder)
    fresh(take(SAMPLES, [2, 1]))
    assert fresh(SAMPLES).tolist() == first.tolist()


def test_the_oldest_embedding_is_forgotten_first(encoder, monkeypatch):
    monkeypatch.setattr(sentence_module, "_KEPT", 2)
    reward = build(encoder)
    for rows in ([0, 1], [0, 2]):
        reward(take(SAMPLES, rows))
    assert list(reward._kept) == [ARTICLES[0], ARTICLES[2]]
    assert score(reward, SAMPLES, 0).tolist() == score(build(encoder), SAMPLES, 0).tolist()


def test_an_encoder_without_a_pooler_is_fine(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "headless")
    BertModel.from_pretrained(encoder, add_pooling_layer=False).save_pretrained(folder)
    assert score(build(folder), SAMPLES, 0).tolist() == score(build(encoder), SAMPLES, 0).tolist()


def pooling(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    entries = {"word_embedding_dimension": 32, **{f"pooling_mode_{mode}": on for mode, on in modes.items()}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(entries))


def test_an_encoder_that_pools_otherwise_is_refused(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "pooled")
    pooling(folder, cls_token=False, mean_tokens=True)
    build(folder)
    pooling(folder, cls_token=True, mean_tokens=False)
    with pytest.raises(RslitError, match=r"pools by pooling_mode_cls_token, not by the mean of its tokens"):
        build(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_length": 65}, r"max_length is 65, but \S+ reads 1 to 64 tokens"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"model": "/nowhere/at/all"}, "there is no folder /nowhere/at/all; check `model`"),
    ],
)
def test_mistakes(encoder, options, words):
    with pytest.raises(RslitError, match=f"SimilarityReward 'faithful': .*{words}"):
        SimilarityReward(**{"model": str(encoder)} | options)


def test_a_broken_entry_of_the_encoder(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "broken")
    (folder / "sentence_bert_config.json").write_text("[1]")
    with pytest.raises(RslitError, match=r"sentence_bert_config\.json is no JSON object; replace it"):
        build(folder)
