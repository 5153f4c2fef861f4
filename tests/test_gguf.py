from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_tiny_llama, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from rslit.errors import RslitError
from rslit.gguf import convert_gguf

gguf = pytest.importorskip("gguf")

CONTROL = ["<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>"]


def halves(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """llama.cpp's order of the rows of queries and keys: the two halves of each head's rotary pairs interleaved."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder: Path, model: Any, pad: int | None, kind: Any, control: list[str] = CONTROL) -> Path:
    """A tiny LLaMA as llama.cpp would write it, with the tokenizer of the tests."""
    file = folder / "tiny.gguf"
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)

    inside = json.loads(tiny_tokenizer("llama").backend_tokenizer.to_str())["model"]
    tokens = sorted(inside["vocab"], key=inside["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in control else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in inside["merges"]])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    if pad is not None:
        writer.add_pad_token_id(pad)
    writer.add_chat_template(tiny_tokenizer("llama").chat_template)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if "q_proj" in name:
            weight = halves(weight, config.num_attention_heads)
        if "k_proj" in name:
            weight = halves(weight, config.num_key_value_heads)
        given = kind if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(
            names.get_name(name, (".weight",)),
            gguf.quants.quantize(np.ascontiguousarray(weight), given),
            raw_dtype=given,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture
def llama(tmp_path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(save_tiny_llama(tmp_path / "llama")).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(torch.arange(40)[None] + 7).logits
    return out


def test_the_folder_is_the_model_that_the_file_was_made_of(tmp_path: Path, llama: Any) -> None:
    file = write_gguf(tmp_path, llama, 3, gguf.GGMLQuantizationType.F32)
    convert_gguf(file, tmp_path / "out")
    got = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert got.dtype == torch.float32
    torch.testing.assert_close(logits(got), logits(llama), rtol=0, atol=1e-6)
    assert got.config.max_position_embeddings == 128
    text = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "_model_name_or_path" not in text
    readable = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
    assert all(path.stat().st_mode & readable == readable for path in (tmp_path / "out").iterdir())


def test_quantised_weights_are_stored_exactly(tmp_path: Path, llama: Any) -> None:
    kind = gguf.GGMLQuantizationType.Q4_1
    convert_gguf(write_gguf(tmp_path, llama, 3, kind), tmp_path / "out")
    got = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"):
        weight = llama.state_dict()[name].numpy()
        expected = gguf.quants.dequantize(gguf.quants.quantize(weight, kind), kind)
        assert np.array_equal(got[name].numpy(), expected)
        assert not np.array_equal(expected, weight)


def test_the_tokenizer_is_the_one_of_the_file_with_digits_apart(tmp_path: Path, llama: Any) -> None:
    convert_gguf(write_gguf(tmp_path, llama, 3, gguf.GGMLQuantizationType.F32), tmp_path / "out")
    got, own = AutoTokenizer.from_pretrained(tmp_path / "out"), tiny_tokenizer("llama")
    for text in (
        "I loved every minute of the movie, but",
        "The government said on Monday",
        "<|im_start|>user\nhi<|im_end|>",
    ):
        assert got(text)["input_ids"] == own(text)["input_ids"]
        assert got.decode(got(text)["input_ids"]) == text
    # GPT-2's splitting would take the two blanks apart: one for the word before, one for the number.
    assert got.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12") == [
        ("a", (0, 1)),
        ("ĠĠ", (1, 3)),
        ("1", (3, 4)),
        ("2", (4, 5)),
    ]
    assert (got.padding_side, got.model_max_length) == ("left", 128)
    turns = [{"role": "user", "content": "Why?"}]
    assert got.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == own.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )


@pytest.mark.parametrize(("pad", "expected"), [(3, "<pad>"), (1, "<unk>"), (None, "<unk>")])
def test_padding_is_never_the_end(tmp_path: Path, llama: Any, pad: int | None, expected: str) -> None:
    convert_gguf(write_gguf(tmp_path, llama, pad, gguf.GGMLQuantizationType.F32), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == "</s>"
    assert tokenizer.pad_token == expected
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    prompt = tokenizer(["hello", "a longer prompt"], padding=True, return_tensors="pt")
    assert prompt["attention_mask"][0, 0] == 0
    assert model.generate(**prompt, max_new_tokens=4, do_sample=False).shape[0] == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such GGUF file"),
        (lambda path: path.write_bytes(b"GGUF no model at all"), "not a GGUF language model that transformers reads"),
    ],
)
def test_bad_files(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "bad.gguf")
    with pytest.raises(RslitError, match=rf"bad.gguf: {message}"):
        convert_gguf(tmp_path / "bad.gguf", tmp_path / "out")


def test_no_token_left_for_padding(tmp_path: Path, llama: Any) -> None:
    file = write_gguf(tmp_path, llama, 1, gguf.GGMLQuantizationType.F32, control=["<s>", "</s>"])
    with pytest.raises(RslitError, match="its vocabulary has no control token left for padding"):
        convert_gguf(file, tmp_path / "out")
