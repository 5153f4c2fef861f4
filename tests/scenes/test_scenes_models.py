"""Small fresh models for scenes: real classes that load, train and answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from rslit.scenes import World, write_world
from rslit.scenes.models import CODEC, main, save_model
from rslit.vision.box_tokens import BoxTokens
from rslit.vision.options import VisionOptions
from rslit.vision.policy import build_vision_policy

TEXTS = ["A red circle.", "Where is the star?", "left"]
CLASSES = {
    "captioner": "VisionEncoderDecoderModel",
    "unified": "PaliGemmaForConditionalGeneration",
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_answers_with_the_words_of_the_world(kind: str, tmp_path: Path) -> None:
    save_model(kind, TEXTS, tmp_path / kind)
    assert json.loads((tmp_path / kind / "config.json").read_text())["architectures"] == [CLASSES[kind]]
    parts = build_vision_policy(VisionOptions(str(tmp_path / kind)))
    (tokens,) = parts.tokens(["Where is the red circle?"])
    ids, mask = torch.tensor([tokens]), torch.ones(1, len(tokens), dtype=torch.bool)
    assert parts.text(ids, mask) == ["where is the red circle ?"]
    assert tokens[-1] == parts.eos_ids[0]
    encoded = parts.encode([Image.new("RGB", (64, 64), "red")], None if kind == "captioner" else ["Where is the star?"])
    answers = parts.sample(encoded, torch.tensor([5]), torch.Generator().manual_seed(0))
    assert answers.mask.any()
    if kind == "unified":
        boxes = BoxTokens(CODEC, parts.tokenizer)
        sizes, box = torch.tensor([[64, 64]]), torch.tensor([[4.0, 8.0, 40.0, 60.0]])
        found = boxes.decode(boxes.encode(box, sizes), sizes)
        assert float((found - box).abs().max()) <= 0.5 * 64 / 31 + 1e-4


def test_the_same_seed_writes_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_model("captioner", TEXTS, tmp_path / name, seed=seed)
    one, two, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert one == two != other


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert "is no world of scenes" in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_words_of_another_data_set_too(tmp_path: Path) -> None:
    write_world(tmp_path / "world", World(2, 1, 1, 32))
    for name, more in (("without", []), ("with", ["--easy-vqa"])):
        assert main([str(tmp_path / "world"), str(tmp_path / name), "--kinds", "captioner", *more]) == 0
    known = {
        name: set(AutoTokenizer.from_pretrained(tmp_path / name / "captioner").get_vocab())
        for name in ("without", "with")
    }
    assert {"teal", "rectangle", "contain"} <= known["with"]
    assert "teal" not in known["without"] < known["with"]
