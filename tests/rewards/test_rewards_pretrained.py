"""Pretrained, seen through ClassifierReward: files, sharing, precision and memory."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from reward_tester import take
from safetensors.torch import load_file
from text_classifiers import SAMPLES, build
from tiny_models import save_tiny_gpt2

from rslit.errors import RslitError
from rslit.rewards import score


def test_a_broken_weight_file(unread):
    with pytest.raises(RslitError, match=r"cannot read the weights of .*unread: .*repair or replace that folder"):
        build(unread)(SAMPLES)


def test_missing_folder_config_weights_and_tokenizer(models, tmp_path):
    with pytest.raises(RslitError, match=r"there is no folder \S+nowhere; check `model`"):
        build(tmp_path / "nowhere")
    with pytest.raises(RslitError, match=r"has no config\.json; give the folder of a saved model"):
        build(tmp_path)
    shutil.copy(models["bart"] / "config.json", tmp_path)
    with pytest.raises(RslitError, match=r"has a config but no weights; put model\.safetensors beside it"):
        build(tmp_path)
    shutil.copy(models["bart"] / "model.safetensors", tmp_path)
    with pytest.raises(RslitError, match=r"has no tokenizer; put its tokenizer\.json beside the weights"):
        build(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(RslitError, match="cannot read the tokenizer of") as error:
        build(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RslitError, match="cannot read the config of"):
        build(tmp_path)


def test_a_hub_name_without_a_connection(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RslitError, match=r"cannot read the config of some-one/a-model: .*set `model` to the folder"):
        build(Path("some-one/a-model"))


def test_a_language_model_is_no_classifier(tmp_path):
    """transformers would make up the missing head at random."""
    with pytest.raises(RslitError, match=r"lacks 1 weights, such as score\.weight, and is no trained classifier"):
        build(save_tiny_gpt2(tmp_path))(SAMPLES)


def test_weights_of_another_size(models, tmp_path):
    shutil.copytree(models["bart"], tmp_path / "bart")
    config = json.loads((tmp_path / "bart" / "config.json").read_text())
    config["encoder_ffn_dim"] = 48
    (tmp_path / "bart" / "config.json").write_text(json.dumps(config))
    with pytest.raises(RslitError, match=r"the weights of \S+bart do not fit its config\.json: model\.encoder"):
        build(tmp_path / "bart")(SAMPLES)


def test_pickled_weights_are_read_without_running_code_and_with_a_warning(models, tmp_path):
    folder = shutil.copytree(models["electra"], tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    reward = build(folder, "{question}{sep}{response}")
    with pytest.warns(UserWarning, match="has no safetensors; its pickle is read with weights_only=True"):
        values = score(reward, SAMPLES, 0)
    assert values.tolist() == score(build(models["electra"], "{question}{sep}{response}"), SAMPLES, 0).tolist()
    bad = shutil.copytree(folder, tmp_path / "code")
    torch.save({"x": Path(tmp_path / "made")}, bad / "pytorch_model.bin")
    with pytest.warns(UserWarning, match="weights_only"), pytest.raises(RslitError, match="cannot read the weights"):
        build(bad)(SAMPLES)


def test_weights_are_read_once_for_all_rewards_and_leave_the_generator_alone(models, tmp_path, monkeypatch):
    folder = shutil.copytree(models["gpt2"], tmp_path / "shared")
    first, second = build(folder), build(folder, "{response}{question}", formula="1", name="other", device="cpu")
    state = torch.get_rng_state()
    first(SAMPLES)
    assert torch.equal(torch.get_rng_state(), state)
    network = first._source.weights("classifier")
    assert second._source.weights("classifier") is network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert build(folder, dtype="bfloat16")._source.weights("classifier") is not network
    (folder / "model.safetensors").unlink()
    assert torch.isfinite(second(SAMPLES)).all()


def test_weights_are_no_part_of_a_module_or_of_a_pickled_reward(models):
    module = torch.nn.Module()
    module.reward = build(models["electra"])
    module.reward(SAMPLES)
    assert not list(module.parameters())
    assert not module.state_dict()
    again = pickle.loads(pickle.dumps(module.reward))  # noqa: S301
    assert again(SAMPLES).tolist() == module.reward(SAMPLES).tolist()


def test_the_trainers_precision_does_not_reach_the_reward(models):
    reward = build(models["deberta-v2"])
    values = reward(SAMPLES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert reward(SAMPLES).tolist() == values.tolist()
    coarse = build(models["deberta-v2"], dtype="bfloat16")(SAMPLES)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, values, rtol=0.1, atol=0.1)


def test_out_of_memory_says_what_to_lower(models, monkeypatch):
    reward = build(models["bart"], batch_size=2)
    network = reward._source.weights("classifier")

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "forward", full)
    with pytest.raises(RslitError, match=r"out of memory on cpu; lower its batch_size \(2\), set dtype: bfloat16"):
        reward(SAMPLES)


def test_nan_of_a_broken_model_is_not_taken_for_does_not_apply(models, monkeypatch):
    reward = build(models["bart"])
    network = reward._source.weights("classifier")
    whole = network.forward

    def broken(*args, **kwargs):
        result = whole(*args, **kwargs)
        result.logits[0, 0] = float("nan")
        return result

    monkeypatch.setattr(network, "forward", broken)
    with pytest.raises(RslitError, match="the model gave NaN for item 'b'; set dtype: float32"):
        reward(take(SAMPLES, [1]))


def test_a_gpu_that_is_not_there(models, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(RslitError, match="there is no cuda:1 here; this process sees 1 GPU"):
        build(models["bart"], device="cuda:1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(RslitError, match="there is no cuda here; this process sees 0 GPUs; set device: auto"):
        build(models["bart"], device="cuda")
