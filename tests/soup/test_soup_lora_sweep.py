"""Every sample its own λ: the same logits and tokens as from models merged one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lora_kit import (
    Expert,
    adapters,
    base_folder,
    dense,
    expert,
    experts,
    lams,
    load,
    merged,
    positions,
    prompts,
    rs,
    states,
    wrap,
)
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.soup import LoraStack, is_poured

# peft reads a name that transformers 5.23 renames.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

KINDS = ["llama", "gpt2"]
SPACES = ["factors", "delta"]
PER_LAM = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {kind: base_folder(kind, root) for kind in KINDS}


def stacked(given: dict[str, Expert], space: str, **options: Any) -> LoraStack:
    return LoraStack(states(given), adapters(given), space, **options)


def rows(points: list[list[float]], copies: int = PER_LAM) -> Tensor:
    return torch.tensor(points).repeat_interleave(copies, 0)


def greedy(model: Any, batch: dict[str, Tensor], **options: Any) -> Tensor:
    end = {"eos_token_id": None, "pad_token_id": 0}  # every row has all its tokens
    tokens: Tensor = model.generate(**batch, max_new_tokens=8, do_sample=False, **end | options)
    return tokens


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_and_greedy_tokens_are_those_of_merged_models(
    folders: dict[str, Path], kind: str, n: int, space: str
) -> None:
    given, points = experts(folders[kind], kind, n), lams(n)
    batch = prompts(PER_LAM)
    wide = {key: value.repeat(len(points), 1) for key, value in batch.items()}
    model = wrap(folders[kind], kind)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    with stacked(given, space).per_sample(model, rows(points)) as same:
        assert same is model
        logits = model(**wide, position_ids=positions(wide["attention_mask"])).logits
        tokens = greedy(model, wide)
    differing = set()
    for k, lam in enumerate(points):
        reference = merged(folders[kind], given, lam, space)
        part = slice(k * PER_LAM, (k + 1) * PER_LAM)
        expected = reference(**batch, position_ids=positions(batch["attention_mask"])).logits
        seen = batch["attention_mask"].bool()
        assert (logits[part][seen] - expected[seen]).abs().max() < 1e-5
        assert torch.equal(tokens[part], greedy(reference, batch))
        differing.add(tuple(tokens[part].flatten().tolist()))
    assert len(differing) > 1, "the experts say different things"
    assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_beams_and_returned_copies_keep_their_lam(folders: dict[str, Path], kind: str, space: str) -> None:
    given, points, batch = experts(folders[kind], kind, 3), lams(3), prompts(PER_LAM)
    wide = {key: value.repeat(len(points), 1) for key, value in batch.items()}
    search = {"num_beams": 3, "num_return_sequences": 2}
    with stacked(given, space).per_sample(load(folders[kind]), rows(points)) as model:
        tokens = greedy(model, wide, **search)
    copies = PER_LAM * search["num_return_sequences"]
    for k, lam in enumerate(points):
        expected = greedy(merged(folders[kind], given, lam, space), batch, **search)
        assert torch.equal(tokens[k * copies : (k + 1) * copies], expected)


@torch.no_grad()
def test_steps_of_one_token_agree_with_the_whole(folders: dict[str, Path]) -> None:
    given, points, batch = experts(folders["llama"], "llama", 2), lams(2), prompts(5)
    where = positions(batch["attention_mask"])
    with stacked(given, "factors").per_sample(load(folders["llama"]), torch.tensor(points)) as model:
        whole = model(**batch, position_ids=where).logits
        head = {"input_ids": batch["input_ids"][:, :-1], "attention_mask": batch["attention_mask"][:, :-1]}
        past = model(**head, position_ids=where[:, :-1], use_cache=True).past_key_values
        last = model(
            input_ids=batch["input_ids"][:, -1:],
            attention_mask=batch["attention_mask"],
            position_ids=where[:, -1:],
            past_key_values=past,
        ).logits
    torch.testing.assert_close(last[:, 0], whole[:, -1], rtol=0, atol=1e-5)


DIFFERENT: list[dict[str, Any]] = [
    {"r": 3, "lora_alpha": 5},
    {"r": 6, "lora_alpha": 4, "use_rslora": True},
    {"r": 2, "lora_alpha": 8, "rank_pattern": {"v_proj": 5}, "alpha_pattern": {r"layers\.1.*q_proj": 3}},
]


@torch.no_grad()
def test_delta_with_different_ranks_alphas_and_rslora(folders: dict[str, Path]) -> None:
    models = [wrap(folders["llama"], "llama", **options) for options in DIFFERENT]
    given = {
        name: expert(model, seed, start=seed) for seed, (name, model) in enumerate(zip("abc", models, strict=True))
    }
    assert given["b"].scalings["model.layers.0.self_attn.q_proj"] == rs(4, 6)
    assert given["c"].scalings["model.layers.0.self_attn.v_proj"] == 8 / 5
    points, batch = lams(3), prompts(5)
    stack = stacked(given, "delta")
    with stack.per_sample(load(folders["llama"]), torch.tensor(points)) as model:
        logits = model(**batch).logits
    for k, lam in enumerate(points):
        expected = merged(folders["llama"], given, lam, "delta")(**{n: v[k : k + 1] for n, v in batch.items()}).logits
        seen = batch["attention_mask"][k].bool()
        torch.testing.assert_close(logits[k][seen], expected[0][seen], rtol=0, atol=1e-5)
        for path in stack.layers:
            torch.testing.assert_close(
                stack.delta(path, torch.tensor(lam)), dense(given, lam, "delta", path).float(), rtol=0, atol=1e-5
            )


@torch.no_grad()
def test_delta_agrees_with_concatenated_adapters_of_peft(folders: dict[str, Path]) -> None:
    given = experts(folders["llama"], "llama", 2)
    model = wrap(folders["llama"], "llama")
    for name, one in given.items():
        model.add_adapter(f"expert {name}", model.peft_config["default"])
        own = {key.replace(".default.", f".expert {name}."): value for key, value in one.state.items()}
        assert not model.load_state_dict(own, strict=False).unexpected_keys
    model.add_weighted_adapter(["expert a", "expert b"], [0.3, 0.7], "stacked", combination_type="cat")
    model.set_adapter("stacked")
    batch = prompts(4)
    expected = model(**batch).logits
    with stacked(given, "delta").per_sample(model, torch.tensor([[0.3, 0.7]])):
        logits = model(**batch).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=0)  # its own adapter is on again


@pytest.mark.parametrize("rslora", [False, True])
@torch.no_grad()
def test_factors_of_high_rank_and_rslora_and_one_expert(folders: dict[str, Path], rslora: bool) -> None:
    """Above 64 stacked ranks the mixing is another product."""
    given, batch = experts(folders["gpt2"], "gpt2", 3, r=24, use_rslora=rslora), prompts(5)
    with stacked(given, "factors").per_sample(load(folders["gpt2"]), torch.tensor(lams(3))) as model:
        logits = model(**batch).logits
    for k, lam in enumerate(lams(3)):
        expected = merged(folders["gpt2"], given, lam, "factors")(**{n: v[k : k + 1] for n, v in batch.items()}).logits
        seen = batch["attention_mask"][k].bool()
        torch.testing.assert_close(logits[k][seen], expected[0][seen], rtol=1e-5, atol=1e-4)
    alone = {"a": given["a"]}
    with stacked(alone, "factors").per_sample(load(folders["gpt2"]), torch.ones(1, 1)) as model:
        one = model(**batch).logits
    expected = merged(folders["gpt2"], alone, [1.0], "factors")(**batch).logits
    seen = batch["attention_mask"].bool()
    torch.testing.assert_close(one[seen], expected[seen], rtol=1e-5, atol=1e-4)


class Net(nn.Module):
    """One linear layer where LLaMA has a query projection."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj = nn.Linear(16, 12, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


def small(n: int = 2) -> dict[str, Expert]:
    generator = torch.Generator().manual_seed(0)
    names = [("A", (4, 16)), ("B", (12, 4))]
    return {
        name: Expert(
            {f"base_model.model.proj.lora_{f}.default.weight": torch.randn(s, generator=generator) for f, s in names},
            {"peft_type": "LORA", "r": 4, "lora_alpha": 2},
            {"proj": 0.5},
        )
        for name in "abcd"[:n]
    }


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mode", ["half base", "autocast", "inference", "flat batch", "gradient"])
def test_precision_and_modes(space: str, mode: str) -> None:
    given, half = small(), mode == "half base"
    net = Net(torch.bfloat16 if half else torch.float32)
    lam = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    x = torch.randn(6, 16, dtype=net.proj.weight.dtype, generator=torch.Generator().manual_seed(1))
    x = x if mode == "flat batch" else x.view(2, 3, 16)
    x = x.requires_grad_(mode == "gradient")
    contexts = {"autocast": torch.autocast("cpu", torch.bfloat16), "inference": torch.inference_mode()}
    with contexts.get(mode, torch.enable_grad()), stacked(given, space).per_sample(net, lam):
        plain = nn.functional.linear(x, net.proj.weight, net.proj.bias)
        out = net(x)
    added = torch.stack(
        [
            xs.double() @ dense(given, w.tolist(), space, "proj").T
            for w, xs in zip(lam, x.detach().view(2, 3, 16), strict=True)
        ]
    )
    # Rounded once: λ loses nothing to a half precision but the last rounding of the sum.
    expected = (plain.detach().view(2, 3, 12).float() + added.float()).to(plain.dtype).view(out.shape)
    assert out.dtype == (torch.bfloat16 if mode in ("half base", "autocast") else torch.float32)
    tolerance = {"rtol": 2**-8, "atol": 1e-6} if out.dtype == torch.bfloat16 else {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(out, expected, **tolerance)
    if out.dtype == torch.bfloat16:
        assert (out == expected).float().mean() > 0.9
    if mode == "gradient":
        out.sum().backward()
        slopes = [net.proj.weight.sum(0) + dense(given, w.tolist(), space, "proj").float().sum(0) for w in lam]
        torch.testing.assert_close(x.grad, torch.stack(slopes).unsqueeze(1).expand(2, 3, 16), rtol=0, atol=1e-5)


def test_everything_is_undone(folders: dict[str, Path]) -> None:
    given, model, batch = experts(folders["llama"], "llama", 2), wrap(folders["llama"], "llama"), prompts(2)
    assert not model.load_state_dict(given["b"].state, strict=False).unexpected_keys
    before = model(**batch).logits
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    stack = stacked(given, "factors")
    fails = pytest.raises(RslitError, match="got a batch of 2 for coefficients of 3 rows")
    with fails, stack.per_sample(model, torch.tensor([[0.5, 0.5]] * 3)):
        assert is_poured(model)
        assert is_poured(model.base_model)
        for other in (model, model.get_base_model()):
            with pytest.raises(RslitError, match="already holds a soup"), stack.per_sample(other, torch.ones(1, 2)):
                pass
        model(**batch)
    assert not any(module._forward_hooks for module in model.modules())
    assert not is_poured(model)
    assert torch.equal(model(**batch).logits, before)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    with model.disable_adapter():
        with stack.per_sample(model, torch.tensor([[0.5, 0.5]])):
            pass
        assert torch.equal(model(**batch).logits, load(folders["llama"])(**batch).logits)  # still off


def test_refused(folders: dict[str, Path]) -> None:
    stack = stacked(small(), "factors")
    net, half = Net(torch.float32), torch.tensor([[0.5, 0.5]])
    routed = {
        name: Expert({k.replace("proj", "experts.proj"): v for k, v in e.state.items()}, e.adapter, {})
        for name, e in small().items()
    }
    merged_model = wrap(folders["llama"], "llama")
    merged_model.merge_adapter()
    cases = [
        (
            net,
            torch.ones(2, 3),
            r"coefficients of shape \(2, 3\); give one row per sample and a column for each of a, b",
        ),
        (net, torch.tensor([[float("nan"), 1.0]]), "not finite"),
        (nn.Linear(2, 2), half, "Linear has no layer 'proj' that the experts have"),
        (nn.ModuleDict({"proj": nn.Linear(16, 13)}), half, r"'proj' of ModuleDict is \(13, 16\), .* is \(12, 16\)"),
        (nn.ModuleDict({"proj": nn.Embedding(12, 16)}), half, "'proj' of ModuleDict is Embedding"),
    ]
    for model, coefficients, message in cases:
        with pytest.raises(RslitError, match=message), stack.per_sample(model, coefficients):
            pass
        assert not is_poured(model)
    with pytest.raises(RslitError, match="routed tokens"), stacked(routed, "delta").per_sample(net, half):
        pass
    given = experts(folders["llama"], "llama", 2)
    with pytest.raises(RslitError, match="unmerge it first"), stacked(given, "delta").per_sample(merged_model, half):
        pass
    assert torch.equal(
        stack.coefficients([{"b": 1}, {"a": 0.25, "b": 0.75}]), torch.tensor([[0, 1], [0.25, 0.75]]).double()
    )
