"""Text runs through the command line: what they write, log and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_models import save_tiny_gpt2, save_tiny_llama
from toy_text import QUESTIONS, fit_text, reward, text_config, text_module, write_prompts
from transformers import AutoModelForCausalLM, AutoTokenizer

from rslit.cli import main
from rslit.language import Speaker
from rslit.soup import Ingredient

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

Write = Callable[..., Path]


def test_a_run_writes_logs_and_can_be_loaded_by_peft(text_root: Path, write_config: Write) -> None:
    found = fit_text(write_config, text_root, "run")
    last, start = found / "last", found / "initialisation"
    events = EventAccumulator(str(text_root / "run"))
    events.Reload()
    names = set(events.Tags()["scalars"])
    known = {
        *("objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward"),
        *("objective/scores", "objective/kl_coefficient", "policy/approxkl_avg", "policy/clipfrac_avg"),
        *("loss/policy_avg", "loss/value_avg", "val/ratio", "val/ratio_first", "completions/mean_length"),
        *("completions/terminated_fraction", "rewards/letter_e/mean", "rewards/letter_e/std", "time/generation"),
        *("time/reward", "time/policy", "time/reference", "time/rollout_tokens_per_second"),
        *("val/text/letter_e", "val/text/letter_a"),
    }
    assert known <= names, known - names
    rollouts = events.Scalars("objective/kl")
    assert [event.step for event in rollouts] == [3, 7, 11, 15], "once a rollout of 2 epochs in 2 minibatches"
    assert rollouts[0].value == pytest.approx(0.0, abs=1e-5)
    assert [e.value for e in events.Scalars("val/ratio_first")] == pytest.approx([1.0] * 4, abs=1e-5)

    # The value head is in the checkpoint and in no ingredient.
    weights = Ingredient.load(last).state_dict()
    assert all(".lora_" in key for key in weights)
    checkpoint = torch.load(text_root / "run/checkpoints/last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {f"policy.{k}" for k in weights} | {"value.weight", "value.bias"}

    # Plain peft loads both folders; the initialisation does nothing, the expert generates what our policy does.
    base = text_root / "base"
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = torch.tensor([tokenizer(QUESTIONS[0])["input_ids"]])
    plain = AutoModelForCausalLM.from_pretrained(base)
    bare = plain(ids).logits.detach()
    torch.testing.assert_close(PeftModel.from_pretrained(plain, start)(ids).logits, bare, atol=0, rtol=0)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), last).eval()
    assert float((theirs(ids).logits - bare).abs().max()) > 1e-3
    generated = theirs.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    ours = text_module(base, {"adapter": str(last)})
    speaker = Speaker(ours.parts, 1.0)
    answer = speaker.answer(ours.policy, speaker.prompts(ids.tolist(), torch.device("cpu")), torch.tensor([12]))
    assert answer.tokens[answer.mask].tolist() == generated.tolist()
    recorded = json.loads((last / "ingredient.json").read_text())["config"]
    assert recorded["base"] == ours.parts.base
    assert recorded["adapter"]["r"] == 4


def test_two_experts_of_different_seeds_and_rewards_have_one_initialisation(
    text_root: Path, write_config: Write
) -> None:
    one = fit_text(write_config, text_root, "one", trainer__max_epochs=1)
    two = fit_text(write_config, text_root, "two", function="letter_a", seed_everything=4, trainer__max_epochs=1)
    starts = [folder / "initialisation" for folder in (one, two)]
    assert (
        starts[0].joinpath("weights.safetensors").read_bytes() == starts[1].joinpath("weights.safetensors").read_bytes()
    )
    infos = [Ingredient.load(folder).info for folder in (*starts, one / "last", two / "last")]
    assert len({info.initialisation for info in infos}) == 1
    assert [info.expert for info in infos] == ["initialisation", "initialisation", "letter_e", "letter_a"]
    lasts = [folder / "last/weights.safetensors" for folder in (one, two)]
    assert lasts[0].read_bytes() != lasts[1].read_bytes()


@pytest.mark.parametrize("kind", ["tied", "gpt2", "full"])
def test_the_weights_of_tied_bases_are_in_an_ingredient_once_or_not_at_all(
    text_root: Path, write_config: Write, kind: str
) -> None:
    """An output layer that shares the embedding's weight is no buffer, and no weight of its own."""
    base = text_root / "tied"
    if kind == "gpt2":
        save_tiny_gpt2(base)
    else:
        save_tiny_llama(base, tie_word_embeddings=True)
    policy: dict[str, Any] = {"base": str(base)} | ({"lora": None} if kind == "full" else {})
    last = fit_text(write_config, text_root, "run", model__init_args__policy=policy, trainer__max_epochs=1) / "last"
    weights = Ingredient.load(last).state_dict()
    if kind != "full":
        assert all(".lora_" in key for key in weights)
        return
    assert "model.embed_tokens.weight" in weights
    assert "lm_head.weight" not in weights
    again = text_module(base, {}, initialisation=str(last))
    assert torch.equal(again.policy.lm_head.weight, weights["model.embed_tokens.weight"])


# -- bad input ------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], path: Path, *args: str) -> str:
    """The one line that a run with exit code 2 ends with."""
    capsys.readouterr()
    assert main(["fit", "--config", str(path), *args]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rslit: error: ")]
    assert len(errors) == 1
    return errors[0]


def test_bad_policies_are_refused_in_one_line(
    text_root: Path, write_config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(**policy: Any) -> str:
        given = {f"model__init_args__policy__{key}": value for key, value in policy.items()}
        path = write_config(text_config(text_root, **given))
        return refused(capsys, path, "--trainer.default_root_dir", str(text_root / "run"))

    text_config(text_root)
    empty = shutil.copytree(text_root / "base", text_root / "empty")
    (empty / "model.safetensors").unlink()
    assert "empty has no *.safetensors; pickled weights are not read" in line(base=str(empty))
    bare = save_tiny_gpt2(text_root / "bare")
    for file in bare.glob("tok*"):
        file.unlink()
    assert "bare has no tokenizer" in line(base=str(bare))
    assert "Target modules {'nonsense'} not found" in line(lora={"target_modules": ["nonsense"]})
    assert "policy: give either lora" in line(adapter=str(bare))
    assert "nowhere' cannot be loaded" in line(base=str(text_root / "nowhere"))


def test_initialisations_that_do_not_fit_are_refused_in_one_line(
    text_root: Path, write_config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    start = fit_text(write_config, text_root, "start", trainer__max_epochs=1) / "initialisation"

    def line(**extra: Any) -> str:
        path = write_config(text_config(text_root, model__init_args__initialisation=str(start), **extra))
        return refused(capsys, path, "--trainer.default_root_dir", str(text_root / "run"))

    other = save_tiny_llama(text_root / "other", seed=9)
    found = line(model__init_args__policy__base=str(other))
    assert f"initialisation: {start} was trained on the base {text_root / 'base'}, whose weights are not those" in found
    assert "lora_A.default.weight is (4, 32)" in line(model__init_args__policy__lora__r=8)
    assert "has not this policy's weights" in line(model__init_args__policy__lora=None)
    assert "has not this policy's weights" in line(model__init_args__policy__lora__target_modules=["q_proj"])
    # Of the same shapes, but twice as strong.
    assert "lora_alpha is 8" in line(model__init_args__policy__lora__alpha=16)
    assert "use_rslora is False" in line(model__init_args__policy__lora__rslora=True)


def test_a_prompt_longer_than_the_context(
    text_root: Path, write_config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_prompts(text_root / "data", [*QUESTIONS, "word " * 130])
    found = refused(capsys, write_config(text_config(text_root)), "--trainer.default_root_dir", str(text_root / "run"))
    assert "data: the prompt of item train8 has" in found
    assert "more than the model's context of 128; set data.max_prompt_tokens to 122 or less" in found


def test_too_little_gpu_memory(
    text_root: Path, write_config: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ..."
        )

    monkeypatch.setattr(Speaker, "answer", full)
    found = refused(capsys, write_config(text_config(text_root)), "--trainer.default_root_dir", str(text_root / "run"))
    assert found.startswith("rslit: error: out of GPU memory (Tried to allocate 20.00 GiB): lower data.batch_size")
    assert "policy.gradient_checkpointing: true or policy.dtype: bfloat16" in found


def test_a_reward_that_fails_names_itself(
    text_root: Path, write_config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(text_config(text_root, model__init_args__reward=reward("out_of_memory")))
    found = refused(capsys, path, "--trainer.default_root_dir", str(text_root / "run"))
    assert "reward 'out_of_memory' failed at step 0: OutOfMemoryError: CUDA out of memory" in found
