"""Features of a frozen image encoder are kept: the same numbers, one look at each image, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_vision import LORA, TEXT_PARTS, Bases, pictures
from vision_policies import TEXTS, build

from rslit.errors import RslitError
from rslit.language import LoraOptions
from rslit.vision.features import FeatureCache
from rslit.vision.images import load_image
from rslit.vision.policy import VisionPolicy
from rslit.vision.rows import StoredImage

CPU = torch.device("cpu")
FROZEN: dict[str, dict[str, Any]] = {
    "vit-gpt2": {"trained": TEXT_PARTS["captioning"]},
    "swin-gpt2": {"lora": LORA},
    "blip-vqa": {"lora": LORA},
    "florence2": {"trained": TEXT_PARTS["grounding"]},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return pictures(tmp_path / "p")


class Looks:
    """How many images the encoder was shown, call by call."""

    def __init__(self, policy: VisionPolicy) -> None:
        self.counts: list[int] = []
        self.tower = policy.family.tower(policy.model.get_base_model() if policy.adapter else policy.model)
        self.tower.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.counts.append(len(args[0] if args else kwargs["pixel_values"]))


def batch(images: Sequence[Any]) -> dict[str, list[Any]]:
    return {"items": [f"i{k}" for k in range(len(images))], "image": list(images)}


def size_of(features: Tensor) -> int:
    return features[0].numel() * features.element_size()


@pytest.mark.parametrize("kind", FROZEN)
def test_the_same_numbers_with_one_look_at_each_image(bases: Bases, paths: list[Path], kind: str) -> None:
    policy = build(bases[kind], **FROZEN[kind])
    looks, cache, none = Looks(policy), FeatureCache(policy, 1.0), FeatureCache(policy, 0.0)
    orders = [[0, 1, 2], [2, 2, 0], [3, 1, 3], [3, 3, 3]]
    for order in orders:
        images = [paths[k] for k in order]
        texts = TEXTS if kind != "vit-gpt2" else None
        expected = policy.features(policy.encode([load_image(path) for path in images], texts))
        looks.counts.clear()
        found = cache.encode(batch(images), texts, CPU)
        assert looks.counts == {0: [3], 2: [1]}.get(orders.index(order), []), "only at those not seen before, once"
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=name)
        looks.counts.clear()
        again = none.encode(batch(images), texts, CPU)
        assert looks.counts == [len(set(order))]
        torch.testing.assert_close(again["image_features"], found["image_features"])


def test_the_answers_are_those_to_the_pixels(bases: Bases, paths: list[Path]) -> None:
    policy = build(bases["vit-gpt2"], **FROZEN["vit-gpt2"])
    cache, images = FeatureCache(policy, 1.0), [load_image(path) for path in paths[:3]]
    lengths = torch.full((3,), 8)
    expected = policy.sample(policy.encode(images), lengths, torch.Generator().manual_seed(1))
    for _ in range(2):
        found = policy.sample(cache.encode(batch(paths[:3]), None, CPU), lengths, torch.Generator().manual_seed(1))
        assert torch.equal(found.tokens, expected.tokens)


def test_an_encoder_that_is_trained_looks_again_and_nothing_is_kept(bases: Bases, paths: list[Path]) -> None:
    for options in ({}, {"lora": LoraOptions(r=2, target_modules=["q_proj", "c_attn"])}):
        policy = build(bases["vit-gpt2"], **options)
        assert not policy.frozen_encoder
        looks, cache = Looks(policy), FeatureCache(policy, 1.0)
        for _ in range(2):
            found = cache.encode(batch(paths[:2]), None, CPU)
            assert found.keys() == {"pixel_values", "input_ids", "attention_mask"}
        assert not looks.counts
        assert not cache._held
        with torch.no_grad():  # an update
            for p in policy.model.parameters():
                if p.requires_grad:
                    p += 0.1
        policy.sample(found, torch.full((2,), 3))
        assert looks.counts == [2]


def test_memory_is_bounded_and_what_was_used_longest_ago_goes(bases: Bases, paths: list[Path]) -> None:
    policy = build(bases["vit-gpt2"], **FROZEN["vit-gpt2"])
    one = size_of(policy.look(policy.pixels([load_image(paths[0])])))
    cache, looks = FeatureCache(policy, 3.5 * one / 2**30), Looks(policy)

    def held() -> list[str]:
        sizes = [value.untyped_storage().nbytes() for value in cache._held.values()]
        assert sizes == [one] * len(sizes), "no part of a batch keeps the whole of it alive"
        assert cache._bytes == sum(sizes) <= cache.limit
        return [Path(name).stem for name in cache._held]

    for k in range(3):
        cache.encode(batch(paths[k : k + 1]), None, CPU)
    assert held() == ["0", "1", "2"]
    cache.encode(batch([paths[0]]), None, CPU)
    cache.encode(batch([paths[3]]), None, CPU)
    assert held() == ["2", "0", "3"], "the first was used again, the second was not"
    # A batch with more images than there is room for is right all the same.
    expected = policy.look(policy.pixels([load_image(path) for path in paths]))
    looks.counts.clear()
    found = cache.encode(batch(paths), None, CPU)["image_features"]
    assert looks.counts == [3]
    torch.testing.assert_close(found, expected)
    assert held() == ["3", "4", "5"]
    # One that is larger than the whole room is not kept, and drives nothing out.
    small = FeatureCache(policy, 0.5 * one / 2**30)
    torch.testing.assert_close(small.encode(batch(paths), None, CPU)["image_features"], expected)
    assert not small._held


def test_features_are_kept_in_the_encoders_precision(bases: Bases, paths: list[Path]) -> None:
    policy = build(bases["vit-gpt2"], dtype="bfloat16", **FROZEN["vit-gpt2"])
    cache = FeatureCache(policy, 1.0)
    first, second = (cache.encode(batch(paths[:2]), None, CPU)["image_features"] for _ in range(2))
    assert first.dtype == torch.bfloat16
    assert torch.equal(first, second)
    assert not first.requires_grad


class Counted(StoredImage):
    def __init__(self, path: Path) -> None:
        self.path, self.reads = path, 0

    def __str__(self) -> str:
        return f"table, row {self.path.stem}"

    def read(self) -> bytes:
        self.reads += 1
        return self.path.read_bytes()


def test_images_that_are_no_files_are_read_once(bases: Bases, paths: list[Path]) -> None:
    policy = build(bases["vit-gpt2"], **FROZEN["vit-gpt2"])
    cache, images = FeatureCache(policy, 1.0), [Counted(path) for path in paths[:2]]
    first = cache.encode(batch([*images, images[0]]), None, CPU)["image_features"]
    assert torch.equal(first[0], first[2])
    assert not torch.allclose(first[0], first[1], atol=1e-2)
    cache.encode(batch(images), None, CPU)
    assert [image.reads for image in images] == [1, 1]


def test_an_image_that_is_gone_or_broken_is_named(bases: Bases, paths: list[Path]) -> None:
    cache = FeatureCache(build(bases["vit-gpt2"], **FROZEN["vit-gpt2"]), 1.0)
    cache.encode(batch(paths[:2]), None, CPU)
    paths[0].unlink()
    cache.encode(batch(paths[:1]), None, CPU)  # its features are there
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    with pytest.raises(RslitError, match=r"2\.png of item i1 cannot be read"):
        cache.encode(batch(paths[1:3]), None, CPU)
    with pytest.raises(RslitError, match=r"9\.png of item i0 does not exist"):
        cache.encode(batch([paths[0].with_name("9.png")]), None, CPU)
    assert len(cache._held) == 2
