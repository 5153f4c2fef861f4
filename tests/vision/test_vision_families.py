"""Each class of model: answers and log-probabilities of padded groups against each image alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from transformers import GenerationConfig
from vision_policies import (
    GROUP,
    KINDS,
    LENGTHS,
    LORA,
    TEXTS,
    Alone,
    Folders,
    alone,
    bare,
    build,
    by_hand,
    images,
    noise,
)

from rslit.vision.policy import VisionPolicy


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("vision"))


@pytest.mark.parametrize(
    ("options", "texts"), [({}, TEXTS), ({"lora": LORA}, TEXTS), ({}, ["Film"] * 3)], ids=["logits", "hidden", "even"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_sampled_and_scored_as_each_row_alone(
    folders: Folders, kind: str, options: dict[str, Any], texts: list[str]
) -> None:
    """With a frozen output layer log-probabilities come from the hidden states; without padding there is no mask."""
    policy = build(folders[kind], **options)
    encoded, temperature, suppressed = policy.encode(images(), texts), 0.7, (20, 21)
    answers = policy.sample(
        encoded, LENGTHS, noise(), group=GROUP, temperature=temperature, suppressed=suppressed, stop_at_eos=False
    )
    never = (*policy.never, *suppressed)
    rows = [one for one in alone(kind, policy, texts) for _ in range(GROUP)]
    expected = by_hand(rows, int(LENGTHS.max()), temperature, never)
    found = policy.score(encoded, answers.tokens, answers.mask, GROUP, temperature, suppressed=suppressed, entropy=True)
    assert answers.mask.sum(1).tolist() == LENGTHS.tolist()
    assert found.entropy is not None
    for k, (one, length) in enumerate(zip(rows, LENGTHS.tolist(), strict=True)):
        tokens = answers.tokens[k, :length].tolist()
        assert tokens == expected[k][:length]
        logprobs, spread = one.logprobs(tokens, never, temperature)
        torch.testing.assert_close(found.logprobs[k, :length].double(), logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.entropy[k, :length].double(), spread, atol=1e-5, rtol=0)
        assert not found.logprobs[k, length:].any()
    # Image and text matter: to another image or another text the same answers are less or more likely by far.
    for other in (policy.encode(images()[::-1], texts), policy.encode(images(), TEXTS[::-1])):
        changed = policy.score(other, answers.tokens, answers.mask, GROUP, temperature, suppressed).logprobs
        assert (changed - found.logprobs)[:GROUP].abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_neighbours_and_end_by_themselves(folders: Folders, kind: str) -> None:
    policy = build(folders[kind])
    encoded, lengths = policy.encode(images(), TEXTS), torch.full((3 * GROUP,), 6)
    free = policy.sample(encoded, lengths, noise(), group=GROUP, stop_at_eos=False)
    # Other images and texts beside the first one.
    other = policy.encode([images()[0], *images(5)[3:]], [TEXTS[0], "I loved it and", "a"])
    again = policy.sample(other, lengths, noise(), group=GROUP, stop_at_eos=False)
    assert torch.equal(again.tokens[:GROUP], free.tokens[:GROUP])
    assert not torch.equal(again.tokens[GROUP:], free.tokens[GROUP:])
    # Copies of the images share their noise; one of them is the batch itself.
    twice = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in encoded.items()}
    both = policy.sample(twice, lengths.repeat(2), noise(), copies=2, group=GROUP, stop_at_eos=False)
    assert torch.equal(both.tokens, free.tokens.repeat(2, 1))
    # An end token ends an answer where it first stands.
    assert policy.eos_ids
    end = free.tokens[0, 2].item()
    ending = replace(policy, eos_ids=(end,))
    ended = ending.sample(encoded, lengths, noise(), group=GROUP)
    for row, mask, whole, done in zip(ended.tokens, ended.mask, free.tokens, ended.finished, strict=True):
        places = (whole == end).nonzero().flatten().tolist()
        length = places[0] + 1 if places else 6
        assert mask.sum() == length
        assert bool(done) == bool(places)
        assert row[:length].tolist() == whole[:length].tolist()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_decoding_and_beams_are_those_of_each_row_alone(folders: Folders, kind: str, beams: int) -> None:
    policy = build(folders[kind])
    answers = policy.sample(policy.encode(images(), TEXTS), torch.full((3,), 5), num_beams=beams)
    for k, one in enumerate(alone(kind, policy)):
        best, answer = _searched(one, policy, beams, 5), answers.tokens[k][answers.mask[k]].tolist()
        assert answer == best
    assert len({tuple(row) for row in answers.tokens.tolist()}) > 1


@torch.no_grad()
def _searched(one: Alone, policy: VisionPolicy, beams: int, steps: int) -> list[int]:
    """The beam search of transformers: likeliest unfinished prefixes, finished ones by their mean log-probability."""
    live, done = [((), 0.0)], []
    for step in range(steps):
        grown = []
        for prefix, total in live:
            logits = one.logits(prefix)[-1].double()
            logprobs = logits.log_softmax(-1).index_fill(0, torch.tensor(policy.never, dtype=torch.long), -torch.inf)
            grown += [((*prefix, k), total + float(value)) for k, value in enumerate(logprobs)]
        grown = sorted(grown, key=lambda pair: -pair[1])[: 2 * beams]
        done += [(total / (step + 1), prefix) for prefix, total in grown[:beams] if prefix[-1] in policy.eos_ids]
        live = [pair for pair in grown if pair[0][-1] not in policy.eos_ids][:beams]
    done += [(total / steps, prefix) for prefix, total in live]
    return list(max(done)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_models_own_forward_pass(folders: Folders, kind: str) -> None:
    """With the image encoder trained, through which the gradients of a group add up."""
    policy = build(folders[kind])
    encoded = policy.encode(images(), TEXTS)
    answers = policy.sample(encoded, LENGTHS, noise(), group=GROUP)
    weights = torch.randn(answers.tokens.shape, generator=noise(3)) * answers.mask
    (policy.score(encoded, answers.tokens, answers.mask, GROUP).logprobs * weights).sum().backward()
    trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    found = {name: p.grad for name, p in trained.items()}
    assert not [name for name, gradient in found.items() if gradient is None]
    policy.model.zero_grad()
    rows = [one for one in alone(kind, policy) for _ in range(GROUP)]
    total: Any = 0.0
    for one, tokens, mask, weight in zip(rows, answers.tokens, answers.mask, weights, strict=True):
        logprobs, _ = one.logprobs(tokens[mask].tolist(), policy.never, 1.0)
        total = total + (logprobs * weight[mask]).sum()
    total.backward()
    for name, parameter in trained.items():
        torch.testing.assert_close(found[name], parameter.grad, atol=2e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    frozen = [name for name, p in policy.model.named_parameters() if not p.requires_grad]
    assert all(p.grad is None or not p.grad.any() for n, p in policy.model.named_parameters() if n in frozen)


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_encoder_runs_once_and_its_output_can_be_kept(folders: Folders, kind: str) -> None:
    policy = build(folders[kind], lora=LORA)
    encoded = policy.encode(images(), TEXTS)
    seen: list[int] = []
    # Its first layer: the encoder itself may be asked again, and passes features on.
    patches = next(m for m in policy.family.tower(bare(policy)).modules() if isinstance(m, torch.nn.Conv2d))
    patches.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    answers = policy.sample(encoded, LENGTHS, noise(), group=GROUP)
    assert seen == [3]
    plain = policy.score(encoded, answers.tokens, answers.mask, GROUP)
    assert seen == [3, 3]
    kept = policy.features(encoded)
    assert "pixel_values" not in kept
    assert len(kept["image_features"]) == 3
    assert not kept["image_features"].requires_grad
    # The two halves of a batch by themselves make the same.
    halves = {**policy.ask(TEXTS, 3), "image_features": policy.look(policy.pixels(images()))}
    assert halves.keys() == kept.keys()
    assert all(torch.equal(halves[name], kept[name]) for name in kept)
    del seen[:]
    assert torch.equal(policy.sample(kept, LENGTHS, noise(), group=GROUP).tokens, answers.tokens)
    table: Any = TensorDict(policy.features(kept), batch_size=3)  # as minibatches are
    again = policy.score(table, answers.tokens, answers.mask, GROUP)
    assert torch.equal(again.logprobs, plain.logprobs)
    assert not seen
    again.logprobs.sum().backward()
    # Rows can be picked: a minibatch of one image is that image alone.
    one = {name: value[1:2] for name, value in kept.items()}
    part = policy.score(one, answers.tokens[GROUP : 2 * GROUP], answers.mask[GROUP : 2 * GROUP], GROUP)
    torch.testing.assert_close(part.logprobs, plain.logprobs[GROUP : 2 * GROUP], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_trained_and_switched_off_are_the_reference(folders: Folders, kind: str) -> None:
    whole, policy = build(folders[kind], trained=["*"]), build(folders[kind], lora=LORA)
    encoded = policy.encode(images(), TEXTS)
    answers = policy.sample(encoded, LENGTHS, noise(), group=GROUP)

    def logprobs(one: VisionPolicy) -> Tensor:
        return one.score(encoded, answers.tokens, answers.mask, GROUP).logprobs

    reference = logprobs(whole).detach()
    torch.testing.assert_close(logprobs(policy), reference, atol=1e-5, rtol=0)
    assert policy.base["fingerprint"] == whole.base["fingerprint"]
    assert policy.adapter is not None
    assert policy.adapter["peft_type"] == "LORA"
    trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    for name, parameter in trained.items():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, generator=noise(1))
    changed = logprobs(policy)
    assert (changed - reference).abs().max() > 1e-2
    changed.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in trained.values())
    assert all(p.grad is None for p in policy.model.parameters() if not p.requires_grad)
    model: Any = policy.model
    with model.disable_adapter():
        torch.testing.assert_close(logprobs(policy), reference, atol=1e-5, rtol=0)
    # Sampled and scored alike with an adapter that does something.
    drawn = policy.sample(encoded, LENGTHS, noise(), group=GROUP)
    found = policy.score(encoded, drawn.tokens, drawn.mask, GROUP).logprobs
    rows = [one for one in alone(kind, policy) for _ in range(GROUP)]
    expected = by_hand(rows, 3, 1.0, policy.never)
    assert drawn.tokens[:, :3][drawn.mask[:, :3]].tolist() == torch.tensor(expected)[drawn.mask[:, :3]].tolist()
    logged, _ = rows[1].logprobs(drawn.tokens[1][drawn.mask[1]].tolist(), policy.never, 1.0)
    torch.testing.assert_close(found[1][drawn.mask[1]].double(), logged, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded_with_the_same_numbers(folders: Folders, kind: str, tmp_path: Path) -> None:
    policy = build(folders[kind])
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=noise(5))
    encoded = policy.encode(images(), TEXTS)
    answers = policy.sample(encoded, LENGTHS, noise(), group=GROUP)
    policy.save(tmp_path / "saved")
    again = build(tmp_path / "saved")
    for name, value in again.encode(images(), TEXTS).items():
        assert torch.equal(value, encoded[name])
    assert torch.equal(again.sample(encoded, LENGTHS, noise(), group=GROUP).tokens, answers.tokens)
    scores = [one.score(encoded, answers.tokens, answers.mask, GROUP).logprobs for one in (policy, again)]
    assert torch.equal(scores[0], scores[1])
    # An adapter is saved as PEFT does, and continued.
    adapted = build(folders[kind], lora=LORA)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if ".lora_B." in name:
                parameter += torch.randn(parameter.shape, generator=noise(5))
    adapted.save(tmp_path / "adapter")
    continued = build(folders[kind], adapter=str(tmp_path / "adapter"))
    scores = [one.score(encoded, answers.tokens, answers.mask, GROUP).logprobs for one in (adapted, continued)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], policy.score(encoded, answers.tokens, answers.mask, GROUP).logprobs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hubs_generation_config_is_left_out_and_left_alone(folders: Folders, kind: str) -> None:
    policy = build(folders[kind])
    own = bare(policy).generation_config
    assert own.num_beams == 3
    assert own.no_repeat_ngram_size == 3
    encoded = policy.encode(images(), TEXTS)
    clean = policy.sample(encoded, LENGTHS, noise(), group=GROUP)
    assert bare(policy).generation_config is own
    text = getattr(bare(policy), "text_decoder", getattr(bare(policy), "decoder", bare(policy)))
    text.generation_config = GenerationConfig(top_k=2, do_sample=True, forced_eos_token_id=5, repetition_penalty=3.0)
    assert torch.equal(policy.sample(encoded, LENGTHS, noise(), group=GROUP).tokens, clean.tokens)
