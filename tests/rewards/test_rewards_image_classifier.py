"""ImageClassifierReward against transformers' image-classification pipeline, and its mistakes."""

from __future__ import annotations

import copy
import json
import pickle
import shutil

import pytest
import torch
from image_kit import SAMPLES, pictures, save_tiny_clip, save_tiny_image_classifier
from reward_tester import RewardTester
from transformers import AutoImageProcessor, AutoModelForImageClassification

from rslit.errors import RslitError
from rslit.rewards import ImageClassifierReward, PromptLabelReward, score
from rslit.samples import Samples

LABELS = ["not_aesthetic", "aesthetic", "third"]


@pytest.fixture(scope="module", params=["vit", "beit"])
def folder(request, tmp_path_factory):
    return save_tiny_image_classifier(tmp_path_factory.mktemp(request.param), LABELS, request.param)


def logits(folder):
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        return torch.cat([model(**processor(each, return_tensors="pt")).logits for each in pictures()]).double()


def test_value_is_the_labels_softmax(folder):
    shares = logits(folder).softmax(1)
    assert shares[:, 1].std() > 0.01
    reward = ImageClassifierReward(str(folder), "aesthetic", "cafe", batch_size=3)
    RewardTester(2e-6, 2e-6).run(reward, SAMPLES, shares[:, 1].tolist())
    others = [score(ImageClassifierReward(str(folder), label, label), SAMPLES, 0) for label in LABELS]
    torch.testing.assert_close(sum(others), torch.ones(4))


def test_labels_of_their_own_get_the_sigmoid(tmp_path):
    many = save_tiny_image_classifier(tmp_path / "many", LABELS, problem_type="multi_label_classification")
    values = score(ImageClassifierReward(str(many), "third", "r"), SAMPLES, 0)
    torch.testing.assert_close(values.double(), logits(many).sigmoid()[:, 2], rtol=0, atol=1e-6)
    single = save_tiny_image_classifier(tmp_path / "single", ["good"])
    values = score(ImageClassifierReward(str(single), "good", "r"), SAMPLES, 0)
    torch.testing.assert_close(values.double(), logits(single).sigmoid()[:, 0], rtol=0, atol=1e-6)


def test_copies_pickles_sharing_and_module_trees(folder):
    module = torch.nn.Module()
    module.reward = ImageClassifierReward(str(folder), "aesthetic", "cafe")
    values = module.reward(SAMPLES).tolist()
    assert not list(module.parameters())
    assert not module.state_dict()
    assert copy.deepcopy(module).reward(SAMPLES).tolist() == values
    assert pickle.loads(pickle.dumps(module.reward))(SAMPLES).tolist() == values  # noqa: S301
    other = ImageClassifierReward(str(folder), "third", "third", device="cpu")
    assert other._classifier._source.weights("image_classifier") is module.reward._classifier._source.weights(
        "image_classifier"
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module.reward(SAMPLES).tolist() == values


def test_mistakes(folder, tmp_path):
    path = str(folder)
    for arguments, words in [
        ((path, "pretty", "r"), r"\S+ has no label 'pretty'; it has: not_aesthetic, aesthetic, third"),
        ((path, "third", ""), "the name is empty"),
        ((path, "third", "r", 0), "batch_size is 0; it must be 1 or more"),
        ((path, "third", "r", 1, "gpu"), "no device 'gpu'"),
        ((str(tmp_path / "nowhere"), "third", "r"), "there is no folder"),
    ]:
        with pytest.raises(RslitError, match=f"ImageClassifierReward.*: {words}") as error:
            ImageClassifierReward(*arguments)
        assert "\n" not in str(error.value)


def test_many_labels_are_cut_short(tmp_path):
    folder = save_tiny_image_classifier(tmp_path, [f"n{k}" for k in range(30)])
    with pytest.raises(RslitError, match=r"no label 'x'; it has: n0, .*, n19 and 10 more$"):
        ImageClassifierReward(str(folder), "x", "r")


def test_models_that_classify_no_images(folder, tmp_path):
    """transformers would make up the missing head at random."""
    clip = save_tiny_clip(tmp_path / "clip")
    config = json.loads((clip / "config.json").read_text())
    config |= {"id2label": {"0": "yes", "1": "no"}, "label2id": {"yes": 0, "no": 1}}
    (clip / "config.json").write_text(json.dumps(config))
    with pytest.raises(RslitError, match="and is no trained classifier; they would be random"):
        ImageClassifierReward(str(clip), "yes", "r")(SAMPLES)
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(RslitError, match="cannot read the image processor of"):
        ImageClassifierReward(str(bare), "third", "r")


def test_nan_and_lack_of_memory(folder, monkeypatch):
    reward = ImageClassifierReward(str(folder), "third", "r", batch_size=2)
    network = reward._classifier._source.weights("image_classifier")
    whole = network.forward

    def broken(**inputs):
        result = whole(**inputs)
        result.logits[1] = float("nan")
        return result

    monkeypatch.setattr(network, "forward", broken)
    with pytest.raises(RslitError, match="the model gave NaN for item 'b'; set dtype: float32"):
        reward(SAMPLES)

    def full(**inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "forward", full)
    with pytest.raises(RslitError, match=r"out of memory on cpu; lower its batch_size \(2\)"):
        reward(SAMPLES)


# -- what prompts name ------------------------------------------------------------------------------------------------


def test_an_image_follows_its_prompt_where_the_first_label_is_its(tmp_path):
    labels = ["red circle", "blue square", "red triangle", "green circle"]
    follows = save_tiny_image_classifier(tmp_path / "follows", labels)
    first = logits(follows).argmax(1)
    expected = [float(first[k] == wanted) for k, wanted in enumerate((0, 1, 2, 3))]
    reward = PromptLabelReward(str(follows), batch_size=3)
    RewardTester(0, 0).run(reward, SAMPLES, expected)
    # With prompts that name what the classifier sees, all follow.
    seen = Samples(SAMPLES.items, {**SAMPLES.fields, "prompt": [f"a {labels[k]}, small" for k in first.tolist()]})
    assert score(reward, seen, 0).tolist() == [1.0] * 4


def test_prompts_that_name_no_label_or_two(tmp_path):
    follows = PromptLabelReward(str(save_tiny_image_classifier(tmp_path / "m", ["red circle", "red square"])))
    for prompt, said in (("a dog", "it names none"), ("a red circle in a red square", "'red circle', 'red square'")):
        samples = Samples(["a"], {"image": SAMPLES["image"][:1], "prompt": [prompt]})
        with pytest.raises(RslitError, match="must name one label, it names") as error:
            follows(samples)
        assert said in str(error.value)
