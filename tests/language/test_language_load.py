"""Building a policy: its tokens, its dropout, its base and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_gpt2, save_tiny_llama, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from rslit.errors import RslitError
from rslit.language import LanguagePolicy, LoraOptions, PolicyOptions, Speaker, build_policy, score_answers

LORA = LoraOptions(r=2, alpha=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {"llama": save_tiny_llama(root / "llama"), "gpt2": save_tiny_gpt2(root / "gpt2")}


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a model, to spoil."""
    return lambda kind: Path(shutil.copytree(folders[kind], tmp_path / kind))


def build(folder: Path | str, **options: Any) -> LanguagePolicy:
    return build_policy(PolicyOptions(str(folder), **{"lora": LORA, **options}))


def word_tokenizer(size: int, **special: str) -> PreTrainedTokenizerFast:
    """Words w5, w6, ... after the special tokens, in the order of `special`."""
    names = [*dict.fromkeys(special.values()), *(f"w{k}" for k in range(size))][:size]
    tokenizer = Tokenizer(
        models.WordLevel({name: k for k, name in enumerate(names)}, unk_token=special.get("unk_token"))
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


# -- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("special", "pad", "ends", "suppressed"),
    [
        # As LLaMA: a pad token of its own.
        ({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, 2, (1,), (2,)),
        # As SmolLM2-Instruct, whose pad token is its end token: the unknown token, which its texts never need.
        ({"unk_token": "<e>", "bos_token": "<im>", "eos_token": "</im>", "pad_token": "</im>"}, 0, (2,), (0,)),
        # As LLaMA-2: no pad token.
        ({"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, 0, (2,), (0,)),
        # As LLaMA-3: beginning and end alone; an answer never begins a text.
        ({"bos_token": "<s>", "eos_token": "</s>"}, 0, (1,), (0,)),
        # As GPT-2: one token for everything. Masks tell what is padding, and the end must stay possible.
        ({"bos_token": "<x>", "eos_token": "<x>", "unk_token": "<x>"}, 0, (0,), ()),
        # A pad token and no end token: all answers have their full length.
        ({"pad_token": "<pad>"}, 0, (), (0,)),
    ],
)
def test_padding_is_a_token_of_its_own(
    copied: Callable[[str], Path], special: dict[str, str], pad: int, ends: tuple[int, ...], suppressed: tuple[int, ...]
) -> None:
    folder = copied("llama")
    (folder / "generation_config.json").unlink()
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.eos_token_id = None
    model.generation_config = GenerationConfig()
    model.save_pretrained(folder)
    word_tokenizer(50, **special).save_pretrained(folder)
    policy = build(folder)
    assert (policy.pad_id, policy.eos_ids) == (pad, ends)
    assert Speaker(policy, 1.0).suppressed == suppressed
    assert Speaker(policy, 1.0).eos_ids == ends


def test_padding_beyond_the_embedding_is_passed_over(copied: Callable[[str], Path]) -> None:
    """As LLaMA with a pad token that somebody added to the tokenizer alone."""
    folder = copied("llama")
    tokenizer = tiny_tokenizer("llama")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == AutoConfig.from_pretrained(folder).vocab_size
    tokenizer.save_pretrained(folder)
    assert build(folder).pad_id == tokenizer.unk_token_id
    with pytest.raises(RslitError, match=r"policy.pad_token: '\[PAD\]' is token 400, the model has 400 tokens"):
        build(folder, pad_token="[PAD]")


def test_end_and_padding_by_choice_and_from_the_hubs_generation_config(copied: Callable[[str], Path]) -> None:
    folder = copied("llama")
    GenerationConfig(eos_token_id=[1, 5], top_k=50, temperature=0.6, do_sample=True).save_pretrained(folder)
    policy: Any = build(folder)
    assert policy.eos_ids == (1, 5)
    kept = policy.model.generation_config.to_diff_dict()
    assert {k for k in kept if not k.endswith("_version")} == {"pad_token_id", "eos_token_id"}
    chosen = build(folder, eos_token="<|im_end|>", pad_token="<unk>")
    names = tiny_tokenizer("llama").get_vocab()
    assert (chosen.pad_id, chosen.eos_ids) == (names["<unk>"], (names["<|im_end|>"],))
    with pytest.raises(RslitError, match=r"policy.eos_token: '<stop>' is not a token of the tokenizer"):
        build(folder, eos_token="<stop>")


# -- dropout --------------------------------------------------------------------------------------------------------


def logprobs(model: Any, pad_id: int) -> torch.Tensor:
    from rslit.language import left_pad

    tokens = torch.tensor([[9, 10, 11], [12, 13, 14]])
    return score_answers(model, left_pad([[20, 21, 22, 23], [24]], pad_id), tokens, tokens > 0).logprobs.detach()


SMALL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MIXTRAL = {"intermediate_size": 64, "num_local_experts": 2, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "attn_pdrop": 0.3, "resid_pdrop": 0.3, "embd_pdrop": 0.3}),
        ("llama", SMALL | {"intermediate_size": 64, "attention_dropout": 0.3}),
        ("bloom", {"vocab_size": 400, "hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.3}),
        ("falcon", SMALL | {"hidden_dropout": 0.3, "attention_dropout": 0.3}),
        ("opt", SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.3, "layerdrop": 0.5}),
        ("mixtral", SMALL | MIXTRAL | {"router_jitter_noise": 0.3}),
    ],
)
def test_no_dropout_anywhere_in_training_mode(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    """Families keep their probabilities in modules, in numbers of modules, or read the configuration in every pass."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options)).save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    evaluated = logprobs(plain.eval(), 3)
    assert float((logprobs(plain.train(), 3) - evaluated).abs().max()) > 1e-3, "the configuration asks for dropout"
    policy = build(
        tmp_path, lora=LoraOptions(r=2, alpha=4, dropout=0.5, target_modules=["v_proj"] if kind == "mixtral" else None)
    )
    with torch.no_grad():
        for p in policy.model.parameters():
            if p.requires_grad:
                p += 0.1 * torch.randn(p.shape)
    moved = logprobs(policy.model.eval(), 3)
    assert not torch.equal(moved, evaluated)
    for seed in range(3):
        torch.manual_seed(seed)
        torch.testing.assert_close(logprobs(policy.model.train(), 3), moved, atol=1e-6, rtol=0)
    assert policy.adapter is not None
    assert policy.adapter["lora_dropout"] == 0.5, "kept in the record"


# -- the base -------------------------------------------------------------------------------------------------------


def test_a_bases_fingerprint_is_of_its_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    one = build(folders["llama"])
    moved = shutil.copytree(folders["llama"], tmp_path / "moved")
    assert build(moved, lora=LoraOptions(r=8)).base["fingerprint"] == one.base["fingerprint"]
    assert build(moved).base["name"] == str(moved)
    for other in (save_tiny_llama(tmp_path / "other", seed=1), folders["gpt2"]):
        assert build(other).base["fingerprint"] != one.base["fingerprint"]
    assert build(moved, dtype="bfloat16").base["fingerprint"] == one.base["fingerprint"], (
        "of the model, not of its dtype"
    )


def test_a_fresh_adapter_is_the_same_whatever_the_runs_seed(folders: dict[str, Path]) -> None:
    torch.manual_seed(1)
    expected = torch.randn(3)
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        policy = build(folders["llama"])
        if seed == 1:
            assert torch.equal(torch.randn(3), expected), "the run's own numbers are left alone"
        states.append({k: p.detach() for k, p in policy.model.named_parameters() if p.requires_grad})
    assert all(torch.equal(states[0][k], other[k]) for other in states[1:] for k in states[0])
    assert any(bool(v.any()) for v in states[0].values())
    reseeded = build(folders["llama"], lora=LoraOptions(r=2, alpha=4, seed=7)).model
    assert any(not torch.equal(p, states[0][k]) for k, p in reseeded.named_parameters() if p.requires_grad)


def test_adapters_are_float32_on_a_half_precision_base(folders: dict[str, Path]) -> None:
    policy = build(folders["llama"], dtype="bfloat16")
    kinds = {p.requires_grad: p.dtype for p in policy.model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


# -- refusals -------------------------------------------------------------------------------------------------------


def without(folder: Path, *patterns: str) -> Path:
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()
    return folder


def test_folders_that_lack_something(copied: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"llama has no \*.safetensors; pickled weights are not read"):
        build(without(copied("llama"), "*.safetensors"))
    gpt2 = without(copied("gpt2"), "tok*")
    with pytest.raises(RslitError, match=r"policy.base: .*gpt2 has no tokenizer; put the tokenizer.json"):
        build(gpt2)
    llama = without(Path(shutil.copytree(tmp_path / "gpt2", tmp_path / "empty")), "*")
    with pytest.raises(
        RslitError, match=r"policy.base: '.*empty' cannot be loaded \(.*\); give a hub name or a folder"
    ):
        build(llama)
    with pytest.raises(RslitError, match=r"policy.base: '.*nowhere' cannot be loaded"):
        build(tmp_path / "nowhere")


def test_a_torn_weights_file_and_one_with_a_weight_missing(copied: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied("llama")
    file = folder / "model.safetensors"
    state = load_file(file)
    save_file({k: v for k, v in state.items() if "layers.1.mlp" not in k}, file, {"format": "pt"})
    with pytest.raises(RslitError, match=r"lacks the weight 'model.layers.1.mlp.down_proj.weight' \(3 in all\)"):
        build(folder)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(RslitError, match=r"policy.base: '.*llama' cannot be loaded"):
        build(folder)


def test_a_tokenizer_without_padding_and_end(copied: Callable[[str], Path]) -> None:
    folder = copied("llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config = GenerationConfig()
    model.config.eos_token_id = model.config.bos_token_id = model.config.pad_token_id = None
    model.save_pretrained(folder)
    word_tokenizer(50).save_pretrained(folder)
    with pytest.raises(RslitError, match=r"has neither a padding nor an end token; set policy.pad_token"):
        build(folder)
    assert build(folder, pad_token="w7").pad_id == 7


def test_options_that_do_not_go_together(folders: dict[str, Path]) -> None:
    with pytest.raises(RslitError, match=r"policy: give either lora .* or adapter .*, not both"):
        build(folders["llama"], adapter="x")
    with pytest.raises(RslitError, match=r"policy.lora: .*Target modules \{'nonsense'\} not found"):
        build(folders["llama"], lora=LoraOptions(target_modules=["nonsense"]))
    with pytest.raises(RslitError, match=r"policy.lora: .*r.* should be a positive integer"):
        build(folders["llama"], lora=LoraOptions(r=0))
    with pytest.raises(RslitError, match=r"policy.quantization: 4bit needs a CUDA GPU"):
        build(folders["llama"], quantization="4bit")
