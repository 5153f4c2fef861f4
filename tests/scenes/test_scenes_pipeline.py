"""The fresh pipeline reads, is saved, and draws; the classifier knows scenes it has not seen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from rslit.diffusion.load import quiet
from rslit.scenes import World, write_world
from rslit.scenes.models import main
from rslit.scenes.pipeline import clip_tokenizer, fresh_pipeline, fresh_unet
from rslit.scenes.single import prompts

TEXTS = [*prompts("train"), *prompts("test")]

# diffusers 0.42's solver asks numpy 2 for an array in numpy 1's way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pipe() -> Any:
    with quiet():
        made = fresh_pipeline(TEXTS)
    made.set_progress_bar_config(disable=True)
    return made


def test_words_are_tokens_and_no_text_is_unknown() -> None:
    tokenizer = clip_tokenizer(TEXTS)
    for word in {word for text in TEXTS for word in text.split()}:
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    # The end of text stands for what is unknown, and the text would end there.
    for text in ("zebra, café 7!", "日本", "nsfw_ok"):
        ids = tokenizer(text).input_ids
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
    assert tokenizer.eos_token_id == len(tokenizer) - 1 != 2  # 2 is how transformers knows CLIP's first configurations


def test_the_text_tower_tells_prompts_apart(pipe: Any) -> None:
    ids = pipe.tokenizer(TEXTS[:200], padding="max_length", return_tensors="pt")
    assert ids.input_ids.shape == (200, 77)
    read = pipe.text_encoder(**ids)
    ends = (ids.input_ids == pipe.tokenizer.eos_token_id).int().argmax(1)
    assert torch.equal(read.pooler_output, read.last_hidden_state[torch.arange(200), ends])
    apart = torch.pdist(read.pooler_output)
    assert float(apart.min()) > 0.01 * float(apart.mean()) > 0


def test_it_is_saved_and_loaded_and_draws_the_same(pipe: Any, tmp_path: Path) -> None:
    def draw(each: Any) -> Any:
        each.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(5)
        with quiet():
            return each(
                ["a red circle", "a large blue star"],
                num_inference_steps=2,
                generator=generator,
                output_type="pt",
                clean_caption=False,
            ).images

    with quiet():
        pipe.save_pretrained(tmp_path / "pipe")
        again = DiffusionPipeline.from_pretrained(tmp_path / "pipe")
    index = json.loads((tmp_path / "pipe" / "model_index.json").read_text())
    assert index["_class_name"] == "IFPipeline"
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    assert index["safety_checker"] == [None, None]
    one, two = draw(pipe), draw(again)
    assert one.shape == (2, 3, 32, 32)
    assert torch.equal(one, two)
    assert float(one.std()) > 0.1


def test_the_denoiser_is_small_and_looks_at_the_prompt(pipe: Any) -> None:
    noisy, times = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([900, 100])
    with torch.no_grad(), quiet():
        texts = [pipe.encode_prompt([text] * 2, False)[0] for text in ("a red circle", "a green star at the top")]
        found = [pipe.unet(noisy, times, encoder_hidden_states=text).sample for text in texts]
    assert found[0].shape == (2, 6, 32, 32)
    assert float((found[0] - found[1]).abs().max()) > 1e-4
    named = {name: parameter.numel() for name, parameter in pipe.unet.named_parameters()}
    total = sum(named.values())
    assert total < 3e6
    # About the tenth that the paper trains: cross-attention, biases and scales.
    vectors = {name for name, parameter in pipe.unet.named_parameters() if parameter.ndim == 1}
    assert 0.05 < sum(n for name, n in named.items() if "attn2" in name or name in vectors) / total < 0.15
    assert not any(parameter.requires_grad for parameter in pipe.text_encoder.parameters())


def test_another_seed_makes_other_weights() -> None:
    one, other = (fresh_unet(32, 16, seed).state_dict()["conv_in.weight"] for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.slow
def test_the_classifier_tells_scenes_it_has_not_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, folder = tmp_path / "world", tmp_path / "models" / "classifier"
    write_world(world, World(3000, 4, 300, 32, objects=1))
    assert main([str(world), str(folder.parent), "--kinds", "classifier", "--size", "32"]) == 0
    said = re.search(r"tells colour and shape of ([\d.]+)% of the held-out images", capsys.readouterr().out)
    assert said is not None
    with quiet():
        model = AutoModelForImageClassification.from_pretrained(folder)
        processor = AutoImageProcessor.from_pretrained(folder)
    images = json.loads((world / "dataset_coco.json").read_text())["images"]
    entries = [entry for entry in images if entry["split"] == "test"]
    opened = [Image.open(world / "images" / entry["filepath"] / entry["filename"]) for entry in entries]
    with torch.no_grad():
        found = model(**processor(opened, return_tensors="pt")).logits.argmax(1).tolist()
    told = [set(model.config.id2label[k].split()) for k in found]
    right = [words <= set(e["sentences"][0]["tokens"]) for words, e in zip(told, entries, strict=True)]
    assert len(right) == 300
    assert sum(right) / 300 > 0.95
    assert float(said[1]) == pytest.approx(100 * sum(right) / 300, abs=0.4)
