"""AestheticReward against a plain nn.Sequential on embeddings of the plain CLIP, and heads that do not fit."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from image_kit import IMAGES, SAMPLES, laion_head, pictures, save_tiny_clip
from reward_tester import RewardTester
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPModel

from rslit.errors import RslitError
from rslit.rewards import AestheticReward, score
from rslit.rewards.aesthetic import read_head
from rslit.samples import Samples


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def embeddings(clip):
    """Each image alone through the plain model, unit length."""
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPImageProcessorPil.from_pretrained(clip)
    with torch.no_grad():
        rows = [model.get_image_features(**processor(each, return_tensors="pt")).pooler_output for each in pictures()]
    vectors = torch.cat(rows)
    return vectors / vectors.norm(dim=1, keepdim=True)


def saved(head, file, prefix="layers."):
    tensors = {f"{prefix}{key}": value.detach().contiguous() for key, value in head.state_dict().items()}
    save_file(tensors, file) if file.suffix == ".safetensors" else torch.save(tensors, file)
    return str(file)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("activation", "numbers"), [("none", [0, 2, 4, 6, 7]), ("relu", [0, 3, 6, 9, 11])])
def test_value_is_the_published_networks(clip, embeddings, tmp_path, suffix, activation, numbers):
    head = laion_head(16, relu=activation == "relu")
    assert [int(key.split(".")[0]) for key in head.state_dict() if key.endswith("weight")] == numbers
    with torch.no_grad():
        # Sharper differences between images than fresh layers have.
        head[0].weight *= 20
        expected = head(embeddings)[:, 0]
    reward = AestheticReward(str(clip), saved(head, tmp_path / f"head{suffix}"), activation, name="ava", batch_size=3)
    assert expected.std() > 1e-3
    RewardTester(5e-6, 5e-6).run(reward, SAMPLES, expected.tolist())


def test_the_activation_matters(clip, tmp_path):
    file = saved(laion_head(16), tmp_path / "head.pth")
    values = [score(AestheticReward(str(clip), file, kind), SAMPLES, 0) for kind in ("none", "relu")]
    assert (values[0] - values[1]).abs().min() > 1e-4


def test_a_plain_linear_head(clip, embeddings, tmp_path):
    head = nn.Linear(16, 1)
    with torch.no_grad():
        expected = head(embeddings)[:, 0]
    reward = AestheticReward(str(clip), saved(head, tmp_path / "sa_0_4_linear.pth", prefix=""))
    assert score(reward, SAMPLES, 0).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_no_tokenizer_is_needed_and_copies_work(clip, embeddings, tmp_path):
    folder = save_tiny_clip(tmp_path / "clip")
    for file in folder.glob("*token*"):
        file.unlink()
    module = nn.Module()
    module.reward = AestheticReward(str(folder), saved(laion_head(16), tmp_path / "head.pth"))
    values = module.reward(SAMPLES).tolist()
    assert not list(module.parameters())
    assert not module.state_dict()
    assert copy.deepcopy(module).reward(SAMPLES).tolist() == values
    assert pickle.loads(pickle.dumps(module.reward))(SAMPLES).tolist() == values  # noqa: S301


def test_the_trainers_precision_does_not_reach_the_head(clip, tmp_path):
    reward = AestheticReward(str(clip), saved(laion_head(16), tmp_path / "head.pth"))
    samples = Samples(SAMPLES.items, {"image": IMAGES.flip(2)})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = reward(samples).tolist()
    assert values == pytest.approx(
        AestheticReward(str(clip), reward_file(tmp_path), batch_size=9)(samples).tolist(), abs=1e-6
    )


def reward_file(folder):
    return str(folder / "head.pth")


def test_a_head_for_another_clip(clip, tmp_path):
    file = saved(laion_head(768), tmp_path / "head.pth")
    with pytest.raises(
        RslitError,
        match=r"AestheticReward 'ava': the head \S+head\.pth reads embeddings of 768 numbers, but \S+ gives 16; "
        r"take the CLIP that the head was trained with \(768: openai/clip-vit-large-patch14\)",
    ) as error:
        AestheticReward(str(clip), file, name="ava")
    assert "\n" not in str(error.value)


def test_heads_that_are_none(clip, tmp_path, monkeypatch):
    linear = {"weight": torch.zeros(1, 16), "bias": torch.zeros(1)}
    layers = {f"layers.{key}": value for key, value in laion_head(16).state_dict().items()}
    cases = {
        "a.pth": ({"layers.0.weight": torch.zeros(8, 16)}, r"layer 0 of \S+a\.pth is no linear layer with weight"),
        "b.pth": (
            {**linear, "scale": torch.zeros(1)},
            r"no head of LAION's kind: it holds 'scale' where layers\.0\.weight",
        ),
        "c.pth": ({"weight": torch.zeros(2, 16), "bias": torch.zeros(2)}, "layer 0 of .* gives 2 numbers where 1 are"),
        "d.pth": (
            {k: v for k, v in layers.items() if ".2." not in k},
            "layer 0 of .* gives 1024 numbers where 128 are",
        ),
        "e.pth": ({}, "holds no layers; replace it"),
        "f.pth": ([1, 2], "no head of LAION's kind: it holds 'no mapping'"),
        "g.pth": ({"weight": 3}, "no head of LAION's kind: it holds 'weight'"),
        "h.pth": ({"path": Path("x")}, r"cannot read \S+h\.pth; give the tensors of a head, nothing else"),
    }
    for name, (content, words) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(RslitError, match=f"AestheticReward 'aesthetic': .*{words}") as error:
            AestheticReward(str(clip), str(tmp_path / name))
        assert "\n" not in str(error.value)
    for name in ("broken.pth", "broken.safetensors", "empty.pth"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"nothing of use")
        with pytest.raises(RslitError, match=rf"cannot read \S+{name}"):
            read_head(tmp_path / name, "AestheticReward 'x'")
    with pytest.raises(RslitError, match=r"there is no file \S+gone\.pth; give a head such as sac\+logos"):
        AestheticReward(str(clip), str(tmp_path / "gone.pth"))
    with pytest.raises(RslitError, match="activation is 'gelu'; choose none or relu"):
        AestheticReward(str(clip), "x", "gelu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RslitError, match=r"there is no file some-one/heads/ava\.pth"):
        AestheticReward(str(clip), "some-one/heads/ava.pth")


def test_a_head_of_the_hub(clip, tmp_path, monkeypatch):
    """Stands in for the hub's cache."""
    file = Path(saved(laion_head(16), tmp_path / "cached.pth"))
    asked = []
    monkeypatch.setattr(
        "transformers.utils.hub.cached_file", lambda path, name, **options: asked.append((path, name)) or str(file)
    )
    reward = AestheticReward(str(clip), "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth")
    assert ("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth") in asked
    assert reward._layers[0][0].shape == (1024, 16)
