"""CLIP rewards against torchmetrics and the plain model, one image and one text at a time."""

from __future__ import annotations

import copy
import json
import pickle
import shutil

import pytest
import torch
from image_kit import IMAGES, PROMPTS, SAMPLES, pictures, save_tiny_clip
from reward_tester import RewardTester, take
from tiny_models import save_tiny_encoder
from torchmetrics.multimodal import CLIPScore
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from rslit.errors import RslitError
from rslit.rewards import ClipMatchReward, ClipSafetyReward, ClipScoreReward, WeightedSum, score
from rslit.rewards.clip_model import ClipModel
from rslit.samples import Samples

OTHERS = ["a yellow cat", "two dogs in a park", "nothing at all"]
KINDS = {
    "score": lambda model, **options: ClipScoreReward(str(model), **options),
    "match": lambda model, **options: ClipMatchReward(str(model), classes=["circle", "square", "triangle"], **options),
    "safety": lambda model, **options: ClipSafetyReward(str(model), **options),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def vectors(folder, texts):
    """The independent reference: each image and each text alone through the plain model."""
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)

    def unit(output):
        values = output.pooler_output[0].double()
        return values / values.norm()

    with torch.no_grad():
        return (
            torch.stack(
                [unit(model.get_image_features(**processor(each, return_tensors="pt"))) for each in pictures()]
            ),
            torch.stack([unit(model.get_text_features(**tokenizer(each, return_tensors="pt"))) for each in texts]),
        )


def test_clip_score_is_that_of_each_pair_alone(clip):
    images, texts = vectors(clip, PROMPTS)
    expected = 100 * (images * texts).sum(1).clamp(min=0)
    assert expected.count_nonzero() >= 2
    assert expected.std() > 1
    RewardTester(2e-4, 2e-4).run(ClipScoreReward(str(clip), batch_size=3), SAMPLES, expected.tolist())


def test_clip_score_is_torchmetrics(clip):
    """Its own call expects get_image_features to return a tensor, as it did before transformers 5."""

    class Plain(CLIPModel):
        def get_image_features(self, *args, **kwargs):
            return super().get_image_features(*args, **kwargs).pooler_output

        def get_text_features(self, *args, **kwargs):
            return super().get_text_features(*args, **kwargs).pooler_output

    tokenizer, processor = CLIPTokenizer.from_pretrained(clip), CLIPImageProcessorPil.from_pretrained(clip)

    def process(text=None, images=None, **kwargs):
        if images is None:
            return tokenizer(text, **kwargs)
        return processor(images=images, return_tensors="pt")

    metric = CLIPScore(model_name_or_path=lambda: (Plain.from_pretrained(clip).eval(), process))
    reward = ClipScoreReward(str(clip))
    for row in range(4):
        metric.reset()
        metric.update(IMAGES[row], PROMPTS[row])
        assert score(reward, take(SAMPLES, [row]), 0).item() == pytest.approx(metric.compute().item(), abs=2e-4)


def test_the_hubs_older_processor_files_are_read(clip, tmp_path):
    """As openai/clip-vit-large-patch14 has it: the name of a class that is gone, sizes as plain numbers."""
    folder = shutil.copytree(clip, tmp_path / "older")
    known = json.loads((folder / "preprocessor_config.json").read_text())
    entries = {key: known[key] for key in ("do_normalize", "do_resize", "do_center_crop", "image_mean", "image_std")}
    entries |= {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(entries))
    assert (
        score(ClipScoreReward(str(folder)), SAMPLES, 0).tolist()
        == score(ClipScoreReward(str(clip)), SAMPLES, 0).tolist()
    )


def test_hessels_scale_and_prefix(clip):
    images, texts = vectors(clip, [f"A photo depicts {prompt}" for prompt in PROMPTS])
    reward = ClipScoreReward(str(clip), scale=2.5, prefix="A photo depicts ")
    assert reward.range == (0.0, 2.5)
    torch.testing.assert_close(
        score(reward, SAMPLES, 0).double(), 2.5 * (images * texts).sum(1).clamp(min=0), rtol=0, atol=1e-5
    )


def test_safety_is_one_minus_the_closest_words_cosine(clip):
    words = ["nudity", "blood", "a gun"]
    images, texts = vectors(clip, words)
    expected = 1 - (images @ texts.T).max(1).values
    RewardTester(2e-6, 2e-6).run(ClipSafetyReward(str(clip), words), SAMPLES, expected.tolist())
    one = score(ClipSafetyReward(str(clip), words[:1]), SAMPLES, 0)
    assert (one >= score(ClipSafetyReward(str(clip), words), SAMPLES, 0)).all()
    assert len(set(ClipSafetyReward(str(clip)).words)) > 3


def test_a_prompt_is_the_best_match_among_a_files(clip, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(["", *OTHERS, PROMPTS[0], *OTHERS[:1], PROMPTS[2] + " "]))
    images, texts = vectors(clip, PROMPTS + OTHERS)
    similarities = images @ texts.T
    listed = [0, 2, 4, 5, 6]
    expected = [float(all(row[i] > row[j] for j in listed if j != i)) for i, row in enumerate(similarities)]
    reward = ClipMatchReward(str(clip), prompts=tmp_path / "prompts.txt", batch_size=2)
    assert len(reward.texts) == 5
    assert score(reward, SAMPLES, 0).tolist() == expected


@pytest.fixture
def aimed(clip, monkeypatch):
    """Images whose vectors are those of texts that a test chooses."""

    def aim(*texts):
        monkeypatch.setattr(ClipModel, "images", lambda self, images: self.texts(texts))

    return aim


def test_matches_where_images_are_what_they_should_be(clip, aimed, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(OTHERS + PROMPTS[:2]))
    aimed(PROMPTS[0], OTHERS[0], PROMPTS[2], PROMPTS[0])
    reward = ClipMatchReward(str(clip), prompts=tmp_path / "prompts.txt")
    RewardTester().check_semantics(reward)
    assert score(reward, SAMPLES, 0).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_classes_are_found_in_prompts_as_phrases(clip, aimed):
    classes = ["red circle", "Blue square", "red triangle", "green circle", "red circles"]
    aimed("a red circle.", "a red circle.", "a red triangle.", "a green circle.")
    reward = ClipMatchReward(str(clip), classes=classes, template="a {}.")
    assert score(reward, SAMPLES, 0).tolist() == [1.0, 0.0, 1.0, 1.0]
    with pytest.raises(RslitError, match=r"the prompt of item 'b', 'A blue square', holds 0 classes; it must be one"):
        ClipMatchReward(str(clip), classes=["red circle", "triangle", "green circle"])(SAMPLES)
    with pytest.raises(RslitError, match=r"item 'a', .* holds 2 classes \(circle, red circle\); it must be one"):
        ClipMatchReward(str(clip), classes=["circle", "red circle"])(SAMPLES)


def test_a_tie_is_no_match(clip, aimed, tmp_path):
    """CLIP's tokenizer knows no capitals: both texts have the same vector."""
    (tmp_path / "prompts.txt").write_text("A BLUE SQUARE\na blue square\n")
    aimed("a blue square")
    samples = Samples(["x"], {"image": IMAGES[:1], "prompt": ["a blue square"]})
    assert score(ClipMatchReward(str(clip), prompts=tmp_path / "prompts.txt"), samples, 0).tolist() == [0.0]


def test_a_long_prompt_is_cut_and_keeps_its_end_token(clip):
    text = "a very long prompt " * 20
    tokenizer = CLIPTokenizer.from_pretrained(clip)
    inputs = tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 77)
    assert inputs["input_ids"][0, -1] == tokenizer.eos_token_id
    model = CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        expected = model.get_text_features(**inputs).pooler_output
    ours = ClipModel(str(clip), "test").prompts([text])
    torch.testing.assert_close(ours, expected / expected.norm(), rtol=0, atol=1e-6)


def test_texts_of_a_padded_batch_are_those_of_each_alone(clip):
    model = ClipModel(str(clip), "test", batch_size=3)
    together = model.texts(PROMPTS + OTHERS)
    torch.testing.assert_close(together, model.prompts(PROMPTS + OTHERS), rtol=0, atol=1e-6)
    assert (together @ together.T - torch.eye(7)).max() < 0.999, "different texts must differ"


def test_rewards_share_one_look_at_a_batch(clip, monkeypatch):
    """ava, nsfw and the CLIP score of a batch: one pass of the image tower."""
    rewards = [make(clip) for make in KINDS.values()]
    network = rewards[0]._clip._source.weights("encoder")
    passes = []
    whole = network.vision_model.forward

    def count(*args, **kwargs):
        passes.append(kwargs["pixel_values"].shape[0])
        return whole(*args, **kwargs)

    monkeypatch.setattr(network.vision_model, "forward", count)
    fresh = Samples(SAMPLES.items, {**SAMPLES.fields, "image": 255 - IMAGES})
    with torch.inference_mode():
        first = [reward(fresh).tolist() for reward in rewards]
    assert passes == [4]
    changed = Samples(SAMPLES.items, {**SAMPLES.fields, "image": (255 - IMAGES).clone()})
    changed["image"][1, 0, 12, 18] ^= 64
    values = [reward(changed).tolist() for reward in rewards]
    assert passes == [4, 4]
    assert values[0] != first[0]
    rewards[0]._clip.images(changed["image"]).zero_()
    assert rewards[0](changed).tolist() == values[0]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_pickles_and_module_trees(clip, kind):
    module = torch.nn.Module()
    module.reward = KINDS[kind](clip)
    values = module.reward(SAMPLES).tolist()
    assert not list(module.parameters())
    assert not module.state_dict()
    assert copy.deepcopy(module).reward(SAMPLES).tolist() == values
    assert pickle.loads(pickle.dumps(module.reward))(SAMPLES).tolist() == values  # noqa: S301


def test_weighted_sum_and_precision_of_the_trainer(clip):
    parts = [ClipScoreReward(str(clip)), ClipSafetyReward(str(clip))]
    total = score(WeightedSum(parts, [0.25, 0.75]), SAMPLES, 0)
    singles = [score(part, SAMPLES, 0) for part in parts]
    torch.testing.assert_close(total, 0.25 * singles[0] + 0.75 * singles[1])
    fresh = Samples(SAMPLES.items, {**SAMPLES.fields, "image": IMAGES.flip(3)})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = ClipSafetyReward(str(clip), name="other")(fresh).tolist()
    assert low == pytest.approx(ClipSafetyReward(str(clip), batch_size=7)(fresh).tolist(), abs=1e-6)
    coarse = score(ClipScoreReward(str(clip), dtype="bfloat16"), SAMPLES, 0)
    torch.testing.assert_close(coarse, singles[0], rtol=0, atol=4.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"device": "gpu"}, "no device 'gpu'; say auto, cpu or a GPU such as cuda:1"),
    ],
)
def test_mistakes_that_all_share(clip, kind, options, words):
    with pytest.raises(RslitError, match=rf"Clip\w+Reward 'x': {words}"):
        KINDS[kind](clip, name="x", **options)


def test_models_that_are_no_clip(clip, tmp_path):
    with pytest.raises(
        RslitError, match=r"is of type bert, not a CLIP of images and texts; choose one such as openai/"
    ):
        ClipScoreReward(str(save_tiny_encoder(tmp_path / "bert")))
    with pytest.raises(RslitError, match=r"there is no folder \S+nowhere; check `model`"):
        ClipScoreReward(str(tmp_path / "nowhere"))
    bare = shutil.copytree(clip, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(RslitError, match="cannot read the image processor of") as error:
        ClipScoreReward(str(bare))
    assert "\n" not in str(error.value)


def test_mistakes_of_each(clip, tmp_path):
    model = str(clip)
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff\xfe\xff")
    for build, words in [
        (lambda: ClipScoreReward(model, scale=0), "scale is 0; give a positive number such as 100"),
        (lambda: ClipMatchReward(model), "give either prompts .* or classes"),
        (lambda: ClipMatchReward(model, prompts=empty, classes=["a", "b"]), "give either prompts .* or classes"),
        (lambda: ClipMatchReward(model, prompts=empty), r"0 distinct texts in \S+empty.txt; matching needs at least 2"),
        (lambda: ClipMatchReward(model, prompts=tmp_path / "no.txt"), r"there is no file \S+no.txt; check `prompts`"),
        (lambda: ClipMatchReward(model, prompts=bad), r"cannot read \S+bad.txt: .*; give a text file in UTF-8"),
        (lambda: ClipMatchReward(model, classes=["a", "a"]), "1 distinct texts; matching needs at least 2"),
        (lambda: ClipMatchReward(model, classes=["a", "b"], template="x"), r"template 'x' must hold \{\} once"),
        (lambda: ClipSafetyReward(model, words=[]), "words is empty or holds an empty word"),
        (lambda: ClipSafetyReward(model, words=["a", " "]), "words is empty or holds an empty word"),
    ]:
        with pytest.raises(RslitError, match=words) as error:
            build()
        assert "\n" not in str(error.value)


def test_an_empty_prompt_names_its_item(clip):
    samples = Samples(["a", "b"], {"image": IMAGES[:2], "prompt": ["x", " "]})
    with pytest.raises(RslitError, match="the prompt of item 'b' is empty; leave out this item"):
        score(ClipScoreReward(str(clip)), samples, 0)


def test_nan_of_a_broken_model_is_not_taken_for_does_not_apply(clip, monkeypatch):
    for make in KINDS.values():
        with monkeypatch.context() as patch:
            vector = torch.full((4, 16), float("nan"))
            patch.setattr(ClipModel, "images", lambda self, images, vector=vector: vector)
            with pytest.raises(RslitError, match="the model gave NaN for item 'a'; set dtype: float32"):
                make(clip)(SAMPLES)
