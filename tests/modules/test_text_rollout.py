"""What a rollout of a language policy holds: log-probabilities, lengths, scores at the right token, the KL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from scipy import stats
from tiny_models import save_tiny_gpt2, save_tiny_llama
from torch import Tensor
from toy_text import QUESTIONS, brevity, letter_e, move_adapter, prompt_batch, text_module
from transformers import AutoModelForCausalLM

from rslit.language import LoraOptions, Prompts, score_answers
from rslit.rewards import FunctionReward, WeightedSum
from rslit.rollouts import Experience
from rslit.samples import Samples
from rslit.soup import IngredientInfo, fingerprint, write_ingredient

DROPPING = {"attn_pdrop": 0.2, "resid_pdrop": 0.2, "embd_pdrop": 0.2}
PLAIN = {"whiten_advantages": False, "gamma": 1.0}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {
        "llama": save_tiny_llama(root / "llama"),
        "tied": save_tiny_llama(root / "tied", tie_word_embeddings=True),
        "gpt2": save_tiny_gpt2(root / "gpt2", **DROPPING),
    }


def rescored(module: Any, experience: Experience) -> Tensor:
    """As a training step does it: rows in another order, with other neighbours."""
    order = torch.randperm(len(experience), generator=torch.Generator().manual_seed(1))
    found = torch.zeros_like(experience["logprobs"])
    for part in order.split(3):
        found[part] = module.speaker.score(module.policy, experience[part], module.value).logprobs.detach()
    return found


@pytest.mark.parametrize("options", [{}, {"minibatches": 4}, {"sampling": {"temperature": 0.6, "rows": 3}}])
@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2"])
def test_old_and_new_log_probabilities_agree(bases: dict[str, Path], kind: str, options: dict[str, Any]) -> None:
    lora = {"lora": LoraOptions(r=4, alpha=8, dropout=0.3)}
    module = text_module(bases[kind], lora, **{k: dict(v) if isinstance(v, dict) else v for k, v in options.items()})
    move_adapter(module)
    module.train()
    experience = module.rollout(prompt_batch(module))
    mask = experience["mask"]
    assert len(set(experience["prompt_mask"].sum(1).tolist())) > 4, "ragged"
    ratio = (rescored(module, experience) - experience["logprobs"]).exp()[mask]
    assert float((ratio - 1).abs().max()) < 1e-5
    assert torch.isfinite(experience["logprobs"]).all()
    assert (experience["logprobs"][mask] < 0).all()


def test_gradient_checkpointing_changes_no_probability_and_no_gradient(bases: dict[str, Path]) -> None:
    found = []
    for checkpointing in (False, True):
        lora = {"lora": LoraOptions(r=4, alpha=8), "gradient_checkpointing": checkpointing}
        module = text_module(bases["llama"], lora)
        move_adapter(module)
        module.train()
        experience = module.rollout(prompt_batch(module))
        loss = module.speaker.score(module.policy, experience, module.value).logprobs.sum()
        loss.backward()
        gradients = [p.grad for p in module.policy.parameters() if p.requires_grad]
        found.append((experience["tokens"], loss.detach(), gradients))
    (tokens, loss, gradients), (others, other, again) = found
    assert torch.equal(tokens, others)
    torch.testing.assert_close(loss, other)
    for one, two in zip(gradients, again, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_in_half_precision_the_ratio_is_1_within_a_thousandth_on_average(bases: dict[str, Path]) -> None:
    module = text_module(bases["llama"], {"lora": LoraOptions(r=4, alpha=8), "dtype": "bfloat16"})
    move_adapter(module, 0.1)
    module.train()
    experience = module.rollout(prompt_batch(module))
    ratio = (rescored(module, experience) - experience["logprobs"]).exp()[experience["mask"]]
    # bfloat16 rounds by 0.4 %, differently in batches of other shapes.
    assert abs(float(ratio.mean()) - 1) < 2e-2


def test_lengths_are_uniform_from_16_to_32_both_included(bases: dict[str, Path]) -> None:
    sampling = {"min_new_tokens": 16, "max_new_tokens": 32, "stop_at_eos": False}
    module = text_module(bases["llama"], sampling=sampling, algorithm="reinforce", kl={"coefficient": 0.0})
    experience = module.rollout(prompt_batch(module, ["a", "Film?"] * 255))
    lengths = experience["mask"].sum(1)
    counts = torch.bincount(lengths, minlength=33)[16:]
    assert counts.sum() == 510, "none shorter, and the bins end at 32"
    assert counts.min() > 0
    assert stats.chisquare(counts.numpy())[1] > 0.01
    assert module.latest is not None
    assert module.latest["length"].tolist() == lengths.tolist()
    assert not module.latest["finished"].any()
    # Another rollout draws others, and a rank or a seed would too.
    again = module.rollout(prompt_batch(module, ["a", "Film?"] * 255))
    assert not torch.equal(again["mask"].sum(1), lengths)


def ending(module: Any, weight: float = 4.0) -> Any:
    """Makes the end token likely, so that some of the answers end by themselves."""
    with torch.no_grad():
        head = module.policy.get_output_embeddings().weight
        head[module.parts.eos_ids[0]] = (
            weight
            * head.norm(dim=1).mean()
            * torch.randn(head.shape[1], generator=torch.Generator().manual_seed(2))
            / head.shape[1] ** 0.5
        )
    return module


def by_themselves(experience: Experience, end: int) -> Tensor:
    last = experience["mask"].sum(1) - 1
    return experience["tokens"].gather(1, last.unsqueeze(1)).squeeze(1) == end


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_score_stands_at_the_end_token_or_at_the_last_one(bases: dict[str, Path], kind: str) -> None:
    """With λ of GAE 0 and a value of 0 an advantage is its token's reward. GPT-2 pads with its end token."""
    options: dict[str, Any] = {"gae_lambda": 0.0, "kl": {"coefficient": 0.0}, "function": brevity}
    module = ending(text_module(bases[kind], sampling={"min_new_tokens": 6, "max_new_tokens": 12}, **PLAIN, **options))
    experience = module.rollout(prompt_batch(module, QUESTIONS * 4))
    end = module.parts.eos_ids[0]
    finished, lengths = by_themselves(experience, end), experience["mask"].sum(1)
    assert 4 < int(finished.sum()) < 28
    for row, length in enumerate(lengths.tolist()):
        own = experience["tokens"][row, :length]
        assert (own[:-1] != end).all(), "an answer ends with its first end token"
        expected = [0.0] * experience["mask"].shape[1]
        expected[length - 1] = -float(length)
        assert experience["advantages"][row].tolist() == expected
        assert length <= 12
    assert module.latest is not None
    assert module.latest["finished"].tolist() == finished.tolist()
    texts = module.latest["response"]
    assert not any(token in text for text in texts for token in module.tokenizer.all_special_tokens)


def test_the_penalty_for_a_missing_end_is_taken_off_where_it_is_missing(bases: dict[str, Path]) -> None:
    """Off the score, not in its place; an end token in the prompt is none in the answer."""
    found = []
    for penalty in (None, 3.0):
        sampling = {"min_new_tokens": 6, "max_new_tokens": 12, "missing_eos_penalty": penalty}
        options: dict[str, Any] = {"gae_lambda": 1.0, "kl": {"coefficient": 0.0}, "function": brevity}
        module = ending(text_module(bases["llama"], sampling=sampling, **PLAIN, **options))
        batch = prompt_batch(module, QUESTIONS * 4)
        batch["prompt_ids"] = [[module.parts.eos_ids[0], *ids] for ids in batch["prompt_ids"]]
        found.append(module.rollout(batch))
    finished = by_themselves(found[0], 1)
    assert 4 < int(finished.sum()) < 28
    assert torch.equal(found[0]["tokens"], found[1]["tokens"])
    taken = (found[0]["advantages"] - found[1]["advantages"])[:, 0]
    assert taken.tolist() == [0.0 if done else 3.0 for done in finished.tolist()]


@pytest.mark.parametrize(("estimator", "place"), [("k1", "reward"), ("k2", "loss")])
def test_the_kl_is_that_to_a_separately_loaded_reference(bases: dict[str, Path], estimator: str, place: str) -> None:
    kl = {"coefficient": 0.3, "estimator": estimator, "place": place}
    module = text_module(bases["llama"], gae_lambda=0.0, kl=kl, function=letter_e, **PLAIN)
    move_adapter(module)
    experience = module.rollout(prompt_batch(module))
    mask, plain = experience["mask"], AutoModelForCausalLM.from_pretrained(bases["llama"]).eval()
    prompts = Prompts(experience["prompts"], experience["prompt_mask"])
    expected = score_answers(plain, prompts, experience["tokens"], mask, suppressed=(module.parts.pad_id,)).logprobs
    torch.testing.assert_close(experience["ref_logprobs"], expected.detach(), atol=1e-5, rtol=0)
    distance = (experience["logprobs"] - expected.detach()).masked_fill(~mask, 0.0)
    numbers = module._rollout_stats
    assert numbers["objective/kl"] == pytest.approx(float(distance.sum(1).mean()), abs=1e-4)
    assert module.latest is not None
    scores = module.latest.scores["toy"]
    paid = torch.zeros_like(distance) if place == "loss" else -0.3 * distance
    rewards = paid.clone()
    rewards[torch.arange(len(mask)), mask.sum(1) - 1] += scores
    torch.testing.assert_close(experience["advantages"], rewards, atol=1e-5, rtol=0)
    assert numbers["objective/non_score_reward"] == pytest.approx(float(paid.sum(1).mean()), abs=1e-4)
    assert numbers["objective/rlhf_reward"] == pytest.approx(float((scores + paid.sum(1)).mean()), abs=1e-4)


def start_of(module: Any, folder: Path) -> str:
    """An ingredient of a module's weights, as the callback writes it."""
    state = module.policy_state()
    info = IngredientInfo(
        expert="start",
        task=module.task_class,
        reward="toy",
        step=0,
        initialisation=fingerprint(state),
        trainable_keys=module.trainable_keys,
        dtype="float32",
        scores={},
        config=module.ingredient_record(),
    )
    return str(write_ingredient(folder, state, info, module.ingredient_files(state)))


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2"])
@pytest.mark.parametrize("start", ["fresh", "adapter", "ingredient", "full", "full ingredient"])
def test_the_kl_is_0_before_the_first_update_and_above_after(
    bases: dict[str, Path], tmp_path: Path, start: str, kind: str
) -> None:
    full: dict[str, Any] | None = {} if start.startswith("full") else None
    options: dict[str, Any] = {"policy": full, "kl": {"coefficient": 0.1}}
    if start in ("adapter", "ingredient", "full ingredient"):
        before = text_module(bases[kind], full)
        move_adapter(before, 0.1 if full is None else 0.02)
        path = start_of(before, tmp_path / "start")
        options |= {"policy": {"adapter": path}} if start == "adapter" else {"initialisation": path}
    module = text_module(bases[kind], **options)
    begun = module.policy_state()
    batch = prompt_batch(module, QUESTIONS * 4)
    module.rollout(batch)
    assert abs(module._rollout_stats["objective/kl"]) < 1e-4
    if start in ("adapter", "ingredient", "full ingredient"):
        assert all(torch.equal(v, before.policy_state()[k]) for k, v in begun.items())
        assert fingerprint(begun) == fingerprint(before.policy_state())
    move_adapter(module, 0.15 if full is None else 0.03)
    module.rollout(batch)
    assert module._rollout_stats["objective/kl"] > 0.05
    if start == "adapter":
        plain: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases[kind]), path)
        assert all(torch.equal(p, begun[k]) for k, p in plain.named_parameters() if "lora" in k)


def test_a_weighted_sum_is_scored_once_a_term_and_every_term_is_logged(bases: dict[str, Path]) -> None:
    calls: list[str] = []

    def counted(name: str, value: float) -> FunctionReward:
        def function(samples: Samples) -> Tensor:
            calls.append(name)
            assert len(samples["question"]) == len(samples["response"]) == len(samples)
            return torch.full((len(samples),), value)

        return FunctionReward(function, name)

    module = text_module(bases["llama"])
    module.reward = WeightedSum([counted("one", 2.0), counted("two", -1.0)], [0.75, 0.25])
    module.rollout(prompt_batch(module))
    assert calls == ["one", "two"]
    numbers = module._rollout_stats
    assert numbers["objective/scores"] == pytest.approx(1.25)
    assert (numbers["rewards/one/mean"], numbers["rewards/two/mean"]) == (2.0, -1.0)


def test_ranks_and_rollouts_have_noise_of_their_own_and_a_repeated_rollout_the_same(bases: dict[str, Path]) -> None:
    module = text_module(bases["llama"])
    batch = prompt_batch(module)
    first, second = module.rollout(batch), module.rollout(batch)
    module.rollouts_done = 0
    assert torch.equal(module.rollout(batch)["tokens"], first["tokens"])
    assert first["tokens"].shape != second["tokens"].shape or not torch.equal(first["tokens"], second["tokens"])


def test_several_answers_to_a_prompt_stand_side_by_side(bases: dict[str, Path]) -> None:
    module = text_module(
        bases["llama"], algorithm="rloo", sampling={"samples_per_prompt": 3, "min_new_tokens": 4, "max_new_tokens": 8}
    )
    assert module.value is None
    experience = module.rollout(prompt_batch(module))
    assert "values" not in experience.keys()  # noqa: SIM118  # of a TensorDict
    assert module.latest is not None
    assert module.latest.items == [f"q{k}" for k in range(8) for _ in range(3)]
    assert module.latest["question"][:4] == [QUESTIONS[0]] * 3 + [QUESTIONS[1]]
    assert torch.equal(experience["prompts"][0], experience["prompts"][2])
    assert len({tuple(row) for row in experience["tokens"][:3].tolist()}) == 3, "each with noise of its own"
    # Within a prompt the advantages of answers sum to 0.
    firsts = experience["advantages"][:, 0].view(8, 3)
    torch.testing.assert_close(firsts.sum(1), torch.zeros(8), atol=1e-5, rtol=0)
