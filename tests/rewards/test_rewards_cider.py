"""CIDEr-D against pycocoevalcap, and where its document frequencies come from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from caption_texts import as_dicts, caption_samples, edge_pairs, random_pairs
from pycocoevalcap.cider.cider import Cider
from reward_tester import RewardTester

from rslit.errors import RslitError
from rslit.rewards.base import WeightedSum
from rslit.rewards.bleu import BleuReward
from rslit.rewards.cider import CiderReward, DocumentFrequencies, count_documents
from rslit.rewards.score import score

CASES = [edge_pairs(), random_pairs(1), random_pairs(2)]


def cider(texts, references):
    return Cider().compute_score(*as_dicts(texts, references))[1]


def trained_on(references, **options):
    reward = CiderReward(**options)
    reward.set_document_frequencies(DocumentFrequencies.count(references, reward.append_eos))
    return reward


@pytest.mark.parametrize("case", CASES)
def test_it_is_pycocoevalcaps_with_the_same_document_frequencies(case):
    reward = trained_on(case[1])
    expected = cider(*case)
    np.testing.assert_allclose(reward.values(*case), expected, rtol=0, atol=1e-9)
    # Unlike pycocoevalcap's, its values do not depend on the batch.
    alone = [reward.values([text], [references])[0] for text, references in zip(*case, strict=True)]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-9)


def test_a_batch_against_frequencies_of_the_training_set():
    # pycocoevalcap on the whole training set gives what a batch of it gets here.
    texts, references = random_pairs(3, 200)
    reward = trained_on(references)
    np.testing.assert_allclose(reward.values(texts[:18], references[:18]), cider(texts, references)[:18], atol=1e-9)


def test_the_end_of_a_sentence_as_a_word():
    texts, references = random_pairs(4)
    with_end = [f"{text} EOS" for text in texts], [[f"{one} EOS" for one in some] for some in references]
    reward = trained_on(references, append_eos=True)
    np.testing.assert_allclose(reward.values(texts, references), cider(*with_end), rtol=0, atol=1e-9)
    with pytest.raises(RslitError, match="reward 'cider' has append_eos: False, but its document frequencies were"):
        CiderReward().set_document_frequencies(DocumentFrequencies.count(references, append_eos=True))


def test_as_a_reward():
    texts, references = random_pairs(5, 12)
    RewardTester(1e-5).run(trained_on(references), caption_samples(texts, references), list(cider(texts, references)))


def test_frequencies_by_hand():
    found = DocumentFrequencies.count([["A dog.", "a dog runs"], ["a cat"], ["the dog", "the cat"]])
    assert found.images == 3
    assert found.counts == {("a",): 2, ("dog",): 2, ("cat",): 2}
    assert found.idf(("a",)) == pytest.approx(np.log(3 / 2))
    assert found.idf(("a", "dog")) == found.idf(("zebra",)) == pytest.approx(np.log(3))


@pytest.fixture
def files(tmp_path):
    """The references of 40 images as COCO and as Karpathy write them."""
    _, references = random_pairs(6, 40)
    rows = [{"image_id": 7 * i, "caption": text} for i, some in enumerate(references) for text in some]
    coco = tmp_path / "captions_train2014.json"
    coco.write_text(json.dumps({"images": [], "annotations": rows[::2] + rows[1::2]}))
    images = [
        {"split": ("train", "restval")[i % 2], "sentences": [{"raw": text} for text in some]}
        for i, some in enumerate(references)
    ]
    held_out = [{"split": split, "sentences": [{"raw": "a man"}]} for split in ("val", "test")]
    karpathy = tmp_path / "dataset_coco.json"
    karpathy.write_text(json.dumps({"images": images + held_out}))
    return {"coco": coco, "karpathy": karpathy, "references": references}


@pytest.mark.parametrize("kind", ["coco", "karpathy"])
def test_frequencies_from_a_file(files, kind):
    texts, references = random_pairs(7)
    expected = trained_on(files["references"]).values(texts, references)
    assert CiderReward(files[kind]).values(texts, references) == expected


def test_frequencies_from_the_datamodule(files):
    texts, references = random_pairs(8)
    waiting, with_end, own = CiderReward(), CiderReward(append_eos=True), CiderReward(files["coco"], name="own")
    with pytest.raises(RslitError, match="reward 'cider' has no document frequencies; set document_frequencies to the"):
        score(waiting, caption_samples(texts, references), 0)
    count_documents([BleuReward(), WeightedSum([waiting, own], [0.5, 0.5]), with_end], iter(references))
    assert waiting.values(texts, references) == trained_on(references).values(texts, references)
    assert with_end.values(texts, references) == trained_on(references, append_eos=True).values(texts, references)
    assert own.values(texts, references) == trained_on(files["references"]).values(texts, references)

    def unread():
        raise AssertionError("no reward needs them any more")
        yield

    count_documents([waiting, own, with_end, BleuReward()], unread())


def test_bad_files(tmp_path):
    with pytest.raises(RslitError, match=r"CiderReward 'cider': there is no file .*nothing.json; check `document_freq"):
        CiderReward(tmp_path / "nothing.json")
    path = tmp_path / "captions.json"
    for content, reason in [
        ("{", r"cannot read .*captions.json \(JSONDecodeError: .*\); give a COCO captions file or Karpathy's"),
        ('{"questions": []}', r"cannot read .*captions.json \(KeyError: 'images'\); give a COCO captions file"),
        ("[1]", r"cannot read .*captions.json \(TypeError: .*\); give a COCO captions file"),
        ('{"annotations": []}', "captions.json has no captions; give the file of the training captions"),
    ]:
        path.write_text(content)
        with pytest.raises(RslitError, match=reason):
            CiderReward(path).values(["a"], [["a"]])
    with pytest.raises(RslitError, match="document frequencies: there are no training references to count; check"):
        DocumentFrequencies.count([])
