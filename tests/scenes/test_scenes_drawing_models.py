"""The classifier and the fresh pipeline of one-shape worlds."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from rslit.errors import RslitError
from rslit.rewards import PromptLabelReward, score
from rslit.samples import Samples
from rslit.scenes import World, write_world
from rslit.scenes.classifier import LABELS, accuracy, train_classifier
from rslit.scenes.models import caption_texts, main
from rslit.scenes.pipeline import clip_tokenizer, fresh_pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single") / "world"
    write_world(folder, World(400, 20, 60, 32, objects=1))
    return folder


def test_the_classifier_learns_colours_at_once_and_is_the_same_again(world: Path) -> None:
    model = train_classifier(world, steps=60)
    assert accuracy(world, model) > 3 / len(LABELS)
    again = train_classifier(world, steps=60)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_worlds_of_several_shapes_are_refused(tmp_path: Path) -> None:
    write_world(tmp_path / "many", World(6, 2, 2, 32))
    with pytest.raises(RslitError, match="names no colour and shape; draw scenes of one shape"):
        train_classifier(tmp_path / "many", steps=1)


def test_every_word_is_a_token(world: Path) -> None:
    texts = caption_texts(world)
    tokenizer = clip_tokenizer(texts)
    for text in texts[:20]:
        ids = tokenizer(text).input_ids
        assert len(ids) == len(text.replace(",", " ,").split()) + 2
        assert tokenizer.decode(ids, skip_special_tokens=True).split() == text.lower().replace(",", " ,").split()
    assert len(tokenizer("a zebra").input_ids) > 4


def test_the_command_writes_both(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rslit.scenes.classifier.train_classifier.__defaults__", (0, 5, 8, 2e-3))
    given = [str(world), str(tmp_path / "models"), "--kinds", "classifier", "pixel_diffusion", "--size", "32"]
    for said in ("new", "there"):
        assert main(given) == 0
        assert f"pixel_diffusion: {said}" in capsys.readouterr().out
    reward = PromptLabelReward(str(tmp_path / "models" / "classifier"))
    samples = Samples(["a"], {"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "prompt": ["a red circle"]})
    assert score(reward, samples, 0).tolist()[0] in (0.0, 1.0)
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(tmp_path / "models" / "pixel_diffusion")
    pipe.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # diffusers asks numpy in a way of the past
        (image,) = pipe("a red circle", num_inference_steps=2).images
    assert image.size == (32, 32)


def test_the_pipeline_is_the_same_again(world: Path) -> None:
    one, two = (fresh_pipeline(caption_texts(world)) for _ in range(2))
    for a, b in zip(one.unet.parameters(), two.unet.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.text_encoder.get_input_embeddings().weight, two.text_encoder.get_input_embeddings().weight)
