"""Training a language policy through the real Trainer: ratio, losses, value head, warnings."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny_gpt2, save_tiny_llama
from toy_runs import adam
from toy_text import QUESTIONS, move_adapter, prompt_batch, text_module
from toy_text_runs import train

from rslit.language import LoraOptions
from rslit.objectives import FixedKL

LORA = {"lora": LoraOptions(r=4, alpha=8, dropout=0.2)}
DROPPING = {"attn_pdrop": 0.2, "resid_pdrop": 0.2, "embd_pdrop": 0.2}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {"llama": save_tiny_llama(root / "llama"), "gpt2": save_tiny_gpt2(root / "gpt2", **DROPPING)}


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "reinforce"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_first_minibatchs_ratio_is_1_in_every_rollout(
    bases: dict[str, Path], tmp_path: Path, kind: str, algorithm: str
) -> None:
    """Ragged prompts, padded on the left; dropout configured in the base and in the adapter."""
    module = text_module(
        bases[kind],
        LORA,
        algorithm=algorithm,
        minibatches=4,
        optimizer=adam(0.01),
        sampling={"samples_per_prompt": 2, "min_new_tokens": 3, "max_new_tokens": 9},
    )
    ledger = train(module, tmp_path, rollouts=3)
    assert ledger.column("val/ratio_first") == pytest.approx([1.0] * 3, abs=1e-5)
    moved = ledger.column("policy/approxkl_avg")
    assert min(moved) > 1e-4, "the policy moves all the same"
    assert ("loss/value_avg" in ledger.lines[0]) == (algorithm == "ppo")


def step(module: Any, experience: Any) -> torch.Tensor:
    """The loss of a rollout as one minibatch, before anything is logged."""
    loss: torch.Tensor = module.training_step(experience, 0)
    return loss.detach()


def test_the_loss_by_hand(bases: dict[str, Path]) -> None:
    module: Any = text_module(bases["llama"], value_clip=0.02, value_coefficient=0.7, clip=0.3)
    experience = module.rollout(prompt_batch(module))
    assert not experience["values"].any(), "a fresh value head says 0"
    old, advantages, targets = (experience[k] for k in ("logprobs", "advantages", "returns"))
    move_adapter(module, 0.05)
    with torch.no_grad():
        module.value.weight.copy_(torch.linspace(-0.02, 0.02, 32))
        module.value.bias.fill_(0.03)
    with torch.no_grad():
        new = module.speaker.score(module.policy, experience, module.value)
    policy, value, clipped = [], [], 0
    for row, column in experience["mask"].nonzero().tolist():
        ratio = float((new.logprobs[row, column] - old[row, column]).exp())
        gain = float(advantages[row, column])
        policy.append(-min(ratio * gain, min(max(ratio, 0.7), 1.3) * gain))
        now, goal = float(new.values[row, column]), float(targets[row, column])
        near = min(max(now, -0.02), 0.02)
        clipped += (near - goal) ** 2 > (now - goal) ** 2
        value.append(0.5 * max((now - goal) ** 2, (near - goal) ** 2))
    count = int(experience["mask"].sum())
    assert 0 < clipped < count, "some values are clipped, some are not"
    expected = sum(policy) / count + 0.7 * sum(value) / count
    with pytest.warns(UserWarning, match="probability ratio is"):  # the weights were moved behind its back
        assert float(step(module, experience)) == pytest.approx(expected, abs=1e-5)
    module.loss = replace(module.loss, value_clip=None, value_coefficient=0.0)
    with pytest.warns(UserWarning, match="probability ratio is"):
        assert float(step(module, experience)) == pytest.approx(sum(policy) / count, abs=1e-5)


def test_the_kl_in_the_loss_is_the_mean_over_tokens_of_half_its_square(bases: dict[str, Path]) -> None:
    kl = {"coefficient": 0.4, "estimator": "k2", "place": "loss"}
    module: Any = text_module(bases["llama"], algorithm="reinforce", kl=kl)
    move_adapter(module)
    experience = module.rollout(prompt_batch(module))
    difference = (experience["logprobs"] - experience["ref_logprobs"])[experience["mask"]]
    assert float(difference.abs().max()) > 0.1
    policy = -experience["advantages"][experience["mask"]].mean()
    assert float(step(module, experience)) == pytest.approx(float(policy + 0.2 * difference.square().mean()), abs=1e-5)
    # With advantages of 0 the gradient is that of this penalty alone, through the new log-probabilities.
    experience["advantages"].zero_()
    module.training_step(experience, 0).backward()
    trained = [p for p in module.policy.parameters() if p.requires_grad]
    given = [p.grad.clone() for p in trained]
    new = module.speaker.score(module.policy, experience).logprobs[experience["mask"]]
    penalty = 0.4 * (0.5 * (new - experience["ref_logprobs"][experience["mask"]]).square()).mean()
    for one, two in zip(given, torch.autograd.grad(penalty, trained), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)
    assert max(float(g.abs().max()) for g in given) > 1e-4


def test_without_a_coefficient_there_is_no_reference(bases: dict[str, Path], tmp_path: Path) -> None:
    module = text_module(bases["llama"], kl={"coefficient": 0.0}, optimizer=adam(0.01))
    ledger = train(module, tmp_path)
    assert isinstance(module.controller, FixedKL)
    assert ledger.column("objective/kl") == [0.0, 0.0]
    assert module.experience_state()["kl"] == {"coefficient": 0.0}


def test_the_only_update_of_a_rollout_needs_no_pass_before_it(bases: dict[str, Path], tmp_path: Path) -> None:
    """Its own log-probabilities are the old ones. What was logged, and the weights, are as with that pass."""
    options: dict[str, Any] = {"algorithm": "rloo", "kl": {"coefficient": 0.0}, "optimizer": adam(0.01)}
    options |= {
        "epochs": 1,
        "minibatches": 1,
        "sampling": {"samples_per_prompt": 2, "min_new_tokens": 4, "max_new_tokens": 8},
    }
    found = []
    for passes in (False, True):
        module: Any = text_module(bases["llama"], **options)
        assert module._updates_once
        module._updates_once = not passes
        ledger = train(module, tmp_path, rollouts=3)
        assert ("logprobs" in module.rollout(prompt_batch(module))) == passes
        found.append((ledger, module.policy_state()))
    (one, states), (two, others) = found
    for name in ("objective/entropy", "objective/kl", "objective/scores", "val/ratio_first", "policy/approxkl_avg"):
        assert one.column(name) == pytest.approx(two.column(name), abs=1e-5), name
    assert min(one.column("objective/entropy")) > 1.0
    for key, value in states.items():
        torch.testing.assert_close(value, others[key], atol=1e-4, rtol=0)
    asks = {"values": {"algorithm": "ppo"}, "KL": {"kl": {"coefficient": 0.1}}, "a second update": {"epochs": 2}}
    for what, other in asks.items():
        assert not text_module(bases["llama"], **options | other)._updates_once, what


def test_the_value_head_learns_and_stays_out_of_the_policy(bases: dict[str, Path], tmp_path: Path) -> None:
    module = text_module(bases["llama"], optimizer=adam(0.01))
    assert module.value is not None
    assert not any(p.any() for p in module.value.parameters())
    train(module, tmp_path)
    assert all(p.any() for p in module.value.parameters())
    assert all(".lora_" in key for key in module.policy_state())
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert {k for k in checkpoint["state_dict"] if "lora" not in k} == {"value.weight", "value.bias"}


def test_warnings_when_something_is_silently_wrong(bases: dict[str, Path], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="training changed no weight of the policy"):
        train(text_module(bases["llama"], optimizer=adam(0.0)), tmp_path)
    broken = text_module(bases["llama"], LORA)
    for part in broken.policy.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    move_adapter(broken)
    with pytest.warns(UserWarning, match=r"rollout 1: the first minibatch's probability ratio is .*, not 1"):
        train(broken, tmp_path, rollouts=1)


def test_answers_that_another_policy_gave_have_a_negative_kl(
    bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = text_module(bases["llama"])
    move_adapter(module)
    own = module.speaker.answer

    def answered_by_the_reference(model: Any, *args: Any, **options: Any) -> Any:
        with model.disable_adapter():
            return own(model, *args, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.rollout(prompt_batch(module, QUESTIONS * 4))
    assert module._rollout_stats["objective/kl"] > 0
    monkeypatch.setattr(module.speaker, "answer", answered_by_the_reference)
    with pytest.warns(UserWarning, match=r"rollout 2: the KL to the reference is negative"):
        module.rollout(prompt_batch(module, QUESTIONS * 4))
