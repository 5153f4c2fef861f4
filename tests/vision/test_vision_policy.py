"""Building a vision policy, its batches and its texts, and what is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import save_tiny_llama
from vision_policies import KINDS, LORA, TEXTS, Folders, bare, build, images, noise

from rslit.errors import RslitError
from rslit.language import LoraOptions
from rslit.soup.lora import LoraStack
from rslit.vision.policy import VisionPolicy


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("vision"))


# -- batches --------------------------------------------------------------------------------------------------------

PROCESSORS = {
    "blip-vqa": "BlipProcessor",
    "florence2": "Florence2Processor",
    "kosmos2": "Kosmos2Processor",
    "paligemma": "PaliGemmaProcessor",
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of PaliGemma's processor
@pytest.mark.parametrize("kind", PROCESSORS)
def test_batches_are_those_of_transformers_own_processors(folders: Folders, kind: str) -> None:
    """Where they have one for questions; image tokens apart, which Florence-2's encoder gets as features here."""
    policy = build(folders[kind])
    tokenizer, image_processor = policy.tokenizer, policy.image_processor
    tokenizer.padding_side = "right" if kind in ("blip-vqa", "florence2") else "left"
    encoded = policy.encode(images(), TEXTS)
    make: Any = getattr(transformers, PROCESSORS[kind])
    texts, options = TEXTS, {}
    if kind == "florence2":
        image_processor.image_seq_length = 17
        tokenizer.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
        tokenizer.image_token = "<image>"
    elif kind == "kosmos2":
        options = {"num_image_tokens": bare(policy).config.latent_query_num}
    elif kind == "paligemma":
        image_processor.image_seq_length = 4
        texts = [f"<image>{text}" for text in TEXTS]
    expected = make(image_processor, tokenizer)(
        images=images(), text=texts, padding=True, return_tensors="pt", **options
    )
    assert torch.equal(encoded["pixel_values"], expected["pixel_values"])
    skipped = 17 if kind == "florence2" else 0
    ids, mask = expected["input_ids"][:, skipped:], expected["attention_mask"][:, skipped:]
    assert torch.equal(encoded["attention_mask"], mask)
    own = mask.bool()
    if kind == "kosmos2":
        assert torch.equal(encoded["image_embeds_position_mask"], expected["image_embeds_position_mask"])
        own &= ~expected["image_embeds_position_mask"].bool()  # what stands there is replaced by the image
    assert torch.equal(encoded["input_ids"][own], ids[own])


@pytest.mark.parametrize("kind", KINDS)
def test_captions_need_no_text_and_questions_do(folders: Folders, kind: str) -> None:
    policy = build(folders[kind])
    if kind == "blip-vqa":
        with pytest.raises(RslitError, match="a BlipForQuestionAnswering answers questions; give one with each image"):
            policy.encode(images())
    else:
        plain, empty = policy.encode(images()), policy.encode(images(), ["", "", ""])
        assert all(torch.equal(plain[name], empty[name]) for name in empty)
        answers = policy.sample(plain, torch.full((3,), 4), noise())
        assert answers.tokens.shape[0] == 3
    with pytest.raises(RslitError, match="3 images and 1 texts; give one text for each image"):
        policy.encode(images(), ["What?"])


def test_answers_as_text_leave_out_what_does_not_count(folders: Folders) -> None:
    policy = build(folders["florence2"])
    ids = policy.tokenizer("Film was good", add_special_tokens=False)["input_ids"]
    box = policy.tokenizer.convert_tokens_to_ids(["<loc_3>", "<loc_17>"])
    row = torch.tensor([[*ids, *box, policy.eos_ids[0], *ids]])
    mask = torch.arange(row.shape[1])[None] <= len(ids) + len(box)
    assert policy.text(row, mask) == ["Film was good<loc_3><loc_17>"]
    assert policy.text(row, mask, skip_special=False) == ["Film was good<loc_3><loc_17></s>"]
    assert policy.text(row, torch.zeros_like(mask)) == [""]


# -- what is trained ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_the_patterns_name_is_trained(folders: Folders, kind: str) -> None:
    whole = build(folders[kind])
    tower = {id(p) for p in whole.family.tower(whole.model).parameters()}
    names = [name for name, p in whole.model.named_parameters() if id(p) not in tower]
    head = names[-1].split(".")[0]
    policy = build(folders[kind], trained=[f"{head}.*"])
    trained = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith(f"{head}.") for name in trained)
    assert not whole.frozen_encoder
    with pytest.raises(RslitError, match="the image encoder is trained, so its output cannot be kept; freeze it"):
        whole.features(whole.encode(images(), TEXTS))


def test_patterns_are_of_parameters_and_exclude_adapters(folders: Folders) -> None:
    policy = build(folders["vit-gpt2"], trained=["decoder.*", "enc_to_dec_proj.*"])
    assert policy.frozen_encoder
    assert not any(name.startswith("encoder.") for name, p in policy.model.named_parameters() if p.requires_grad)
    assert not any(".pooler." in n for n, p in build(folders["vit-gpt2"]).model.named_parameters() if p.requires_grad)
    with pytest.raises(RslitError, match=r"policy.trained: 'head.\*' fits no parameter; they have names such as "):
        build(folders["vit-gpt2"], trained=["decoder.*", "head.*"])
    with pytest.raises(RslitError, match="policy: give one of lora"):
        build(folders["vit-gpt2"], trained=["decoder.*"], lora=LORA)


def test_adapters_go_where_they_are_asked_for(folders: Folders) -> None:
    policy = build(folders["vit-gpt2"], lora=LoraOptions(r=2, target_modules=["q_proj", "c_attn"]))
    trained = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert {"c_attn"} == {name.split(".lora_")[0].split(".")[-1] for name in trained} - {"q_proj"}
    assert not policy.frozen_encoder or all("decoder" in name for name in trained)
    with pytest.raises(RslitError, match=r"policy.lora: Target modules"):
        build(folders["vit-gpt2"], lora=LoraOptions(target_modules=["nothing"]))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_off_in_every_mode(folders: Folders, kind: str) -> None:
    policy = build(folders[kind])
    encoded, tokens = policy.encode(images(), TEXTS), torch.tensor([[20, 21, 22]] * 3)
    policy.model.train()
    first, second = (policy.score(encoded, tokens, tokens > 0).logprobs for _ in range(2))
    policy.model.eval()
    assert torch.equal(first, second)
    assert torch.equal(first, policy.score(encoded, tokens, tokens > 0).logprobs)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_numbers_are_about_the_same(folders: Folders, kind: str) -> None:
    whole, half = build(folders[kind]), build(folders[kind], dtype="bfloat16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert half.base["fingerprint"] == whole.base["fingerprint"]
    encoded, tokens = whole.encode(images(), TEXTS), torch.tensor([[20, 21, 22]] * 3)
    exact = whole.score(encoded, tokens, tokens > 0).logprobs
    rounded = half.score(encoded, tokens, tokens > 0).logprobs
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.5, rtol=0)
    assert half.sample(encoded, torch.full((3,), 3), noise()).mask.any()


@pytest.mark.parametrize("kind", ["vit-gpt2", "florence2", "paligemma"])
def test_soups_of_adapters_share_a_batch(folders: Folders, kind: str) -> None:
    """Every row under its own soup (`LoraStack.per_sample`), in groups, as each soup alone."""
    policy = build(folders[kind], lora=LORA)
    states = {}
    for seed, name in enumerate("ab"):
        trained = {k: p for k, p in policy.model.named_parameters() if p.requires_grad}
        states[name] = {k: torch.randn(p.shape, generator=noise(seed)) * 0.3 for k, p in trained.items()}
    assert policy.adapter is not None
    stack = LoraStack(states, dict.fromkeys("ab", policy.adapter), "delta")
    lams = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    encoded, tokens = policy.encode(images(), TEXTS), torch.tensor([[20, 21, 22]] * 6)
    lengths = torch.full((6,), 4)
    with stack.per_sample(policy.model, lams), torch.no_grad():
        together = policy.score(encoded, tokens, tokens > 0, group=2).logprobs
        drawn = policy.sample(encoded, lengths, noise(), group=2).tokens
    for k in range(3):
        with stack.per_sample(policy.model, lams[k : k + 1]), torch.no_grad():
            alone = policy.score(encoded, tokens, tokens > 0, group=2).logprobs
            every = policy.sample(encoded, lengths, noise(), group=2).tokens
        own = slice(2 * k, 2 * k + 2)
        torch.testing.assert_close(together[own], alone[own], atol=1e-5, rtol=0)
        assert torch.equal(drawn[own], every[own])


# -- what is refused ------------------------------------------------------------------------------------------------


def test_other_classes_are_named(folders: Folders, tmp_path: Path) -> None:
    save_tiny_llama(tmp_path / "llama")
    transformers.ViTImageProcessorPil().save_pretrained(tmp_path / "llama")
    with pytest.raises(RslitError, match="is a LlamaForCausalLM; supported are VisionEncoderDecoderModel, Blip"):
        build(tmp_path / "llama")
    copied = Path(shutil.copytree(folders["git"], tmp_path / "git"))
    config = json.loads((copied / "config.json").read_text())
    del config["architectures"]
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(RslitError, match=r"is a model of type 'git' \(config.json names no architecture\)"):
        build(copied)


def test_missing_files_are_named(folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"policy.base: '.*nowhere' cannot be loaded"):
        build(tmp_path / "nowhere")
    copied = Path(shutil.copytree(folders["git"], tmp_path / "git"))
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(RslitError, match=r"policy.base: '.*git' cannot be loaded"):
        build(copied)
    assert build(copied, processor=str(folders["git"])).pad_id == 0
    (copied / "model.safetensors").unlink()
    with pytest.raises(RslitError, match=r"policy.base: .*git has no \*\.safetensors; pickled weights are not read"):
        build(copied, processor=str(folders["git"]))


def test_a_tokenizer_of_another_model_is_refused(folders: Folders) -> None:
    with pytest.raises(RslitError, match=r"has 432 tokens, '.*vit-gpt2' only 400; give the tokenizer that belongs"):
        build(folders["vit-gpt2"], processor=str(folders["kosmos2"]))


def test_a_model_that_does_not_say_how_answers_begin_is_refused(folders: Folders, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folders["vit-gpt2"], tmp_path / "vit"))
    config = json.loads((copied / "config.json").read_text())
    del config["decoder_start_token_id"]
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(RslitError, match=r"config.json has no decoder_start_token_id"):
        build(copied).encode(images())


def test_tokens_that_stand_for_the_image_are_never_sampled(folders: Folders) -> None:
    policy = build(folders["paligemma"])
    image = bare(policy).config.image_token_id
    assert set(policy.never) == {policy.pad_id, image}
    assert policy.pad_id not in policy.eos_ids
    with torch.no_grad():
        head = bare(policy).get_output_embeddings()
        head.weight[image] = 30 * head.weight.mean(0)
    answers = policy.sample(policy.encode(images(), TEXTS), torch.full((60,), 5), noise(), group=20)
    assert not torch.isin(answers.tokens[answers.mask], torch.tensor(policy.never)).any()


def test_building_warns_of_nothing(folders: Folders) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(build(folders["florence2"], lora=LORA), VisionPolicy)
