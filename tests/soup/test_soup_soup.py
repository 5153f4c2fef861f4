from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from mergekit.merge_methods.api import merge_state_dicts
from soup_kit import TRAINABLE, mlp, same_bits, states
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.soup import Soup, fingerprint, is_poured, lattice
from rslit.soup.blend import blend, steps


def mean_float64(experts: dict[str, dict[str, Tensor]], lam: dict[str, float], key: str) -> np.ndarray:
    return sum(weight * experts[name][key].double().numpy() for name, weight in lam.items())


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_agrees_with_mergekit_and_float64(n: int, dtype: torch.dtype) -> None:
    experts = states(n, dtype)
    soup = Soup(experts, trainable_keys=TRAINABLE)
    epsilon = torch.finfo(dtype).eps
    # Ours and theirs may round to neighbouring half-precision numbers; for float32 and 64 a few operations differ.
    tolerance = {torch.float32: 4 * epsilon, torch.float64: 4 * epsilon}.get(dtype, epsilon)
    for point in lattice(n, 4)[1::3]:
        lam = dict(zip(soup.names, point, strict=True))
        ours = soup.state_dict(lam)
        weights = [float(value) for value in point]
        bare = {name: {key: state[key] for key in TRAINABLE} for name, state in experts.items()}
        theirs = merge_state_dicts(bare, "linear", parameters={"weight": weights, "normalize": False})
        for key in TRAINABLE:
            assert ours[key].dtype == dtype
            torch.testing.assert_close(ours[key], theirs[key], rtol=tolerance, atol=tolerance * 0.1)
            exact = mean_float64(experts, dict(zip(soup.names, weights, strict=True)), key)
            np.testing.assert_allclose(ours[key].double().numpy(), exact, rtol=tolerance, atol=tolerance * 0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_vertices_are_the_experts_bit_for_bit(n: int, dtype: torch.dtype) -> None:
    experts = states(n, dtype)
    experts["a"]["0.bias"][0] = -0.0
    soup = Soup(experts, trainable_keys=TRAINABLE)
    for name, expert in experts.items():
        for lam in ({name: 1}, {name: 1.0, **{other: 0.0 for other in experts if other != name}}):
            poured = soup.state_dict(lam)
            assert list(poured) == list(expert)
            assert all(same_bits(poured[key], expert[key]) for key in expert)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_bits_do_not_depend_on_any_order(n: int) -> None:
    experts = states(n)
    lam = {name: Fraction(k + 1, n * (n + 1) // 2) for k, name in enumerate(experts)}
    one = Soup(experts, trainable_keys=TRAINABLE).state_dict(lam)
    turned = Soup(dict(reversed(experts.items())), trainable_keys=TRAINABLE[::-1])
    other = turned.state_dict(dict(reversed(lam.items())))
    assert all(same_bits(one[key], other[key]) for key in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_the_experts_agree_on_stay_bit_for_bit(dtype: torch.dtype) -> None:
    experts = states(4, dtype)
    for state in experts.values():
        state["0.weight"] = experts["a"]["0.weight"]
    soup = Soup(experts, trainable_keys=TRAINABLE)
    for point in lattice(4, 7):
        poured = soup.state_dict(dict(zip(soup.names, point, strict=True)))
        assert same_bits(poured["0.weight"], experts["a"]["0.weight"])


def test_an_unused_diverged_expert_does_no_harm() -> None:
    experts = states(3)
    experts["c"]["0.weight"].fill_(torch.nan)
    assert torch.isfinite(Soup(experts, trainable_keys=TRAINABLE).state_dict({"a": 0.5, "b": 0.5})["0.weight"]).all()


@pytest.mark.parametrize("lam", [{"a": -0.5, "b": 1.5}, {"a": 1, "b": 1, "c": -1}, {"a": -1, "b": -1, "c": 3}])
def test_extrapolates(lam: dict[str, float]) -> None:
    experts = states(3)
    poured = Soup(experts, trainable_keys=TRAINABLE, extrapolate=True).state_dict(lam)
    for key in TRAINABLE:
        np.testing.assert_allclose(poured[key].numpy(), mean_float64(experts, lam, key), rtol=1e-5, atol=1e-6)
    with pytest.raises(RslitError, match="outside"):
        Soup(experts, trainable_keys=TRAINABLE).state_dict(lam)


def test_steps_are_exact_and_skip_zeros() -> None:
    assert steps({"b": Fraction(1, 6), "a": Fraction(1, 2), "c": Fraction(0), "d": Fraction(1, 3)}) == [
        ("a", 1.0),
        ("b", 0.25),
        ("d", 1 / 3),
    ]
    assert [name for name, _ in steps({"a": Fraction(-1), "b": Fraction(1), "c": Fraction(1)})] == ["b", "c", "a"]


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_and_strides_change_no_bit(n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    experts = [torch.randn(37, 41, generator=generator).to(dtype) for _ in range(n)]
    weights = [1.0, 0.5, 0.3, 0.1][:n]
    whole, tiled, strided = (torch.empty(37, 41, dtype=dtype) for _ in range(3))
    blend(whole, experts, weights)
    monkeypatch.setattr("rslit.soup.blend._TILE_CPU", 100)
    blend(tiled, experts, weights)
    strided = torch.empty(41, 37, dtype=dtype).T
    blend(strided, experts, weights)
    assert same_bits(whole, tiled)
    assert same_bits(whole, strided)


def test_pour_casts_to_the_target_and_leaves_other_keys_alone() -> None:
    experts = states(2)
    soup = Soup(experts, trainable_keys=TRAINABLE)
    out = {
        key: torch.zeros_like(t, dtype=torch.bfloat16 if t.is_floating_point() else None)
        for key, t in experts["a"].items()
    }
    out["other"] = torch.ones(3)
    soup.pour({"a": 0.3, "b": 0.7}, out)
    full = soup.state_dict({"a": 0.3, "b": 0.7})
    assert all(same_bits(out[key], full[key].to(out[key].dtype)) for key in full)
    assert torch.equal(out["other"], torch.ones(3))


def test_pour_refuses_before_writing() -> None:
    experts = {name: {key: state[key] for key in ["0.bias", "2.bias", "count"]} for name, state in states(2).items()}
    soup = Soup(experts)
    cases = {
        "no weight '2.bias'": {"0.bias": torch.zeros(8)},
        r"shapes of '2.bias' differ: \(2,\) in the soup, \(3,\)": {"0.bias": torch.zeros(8), "2.bias": torch.zeros(3)},
        "dtypes of '2.bias' differ": {"0.bias": torch.zeros(8), "2.bias": torch.zeros(2, dtype=torch.int32)},
        "'2.bias' of the module is the memory of an expert": {
            "0.bias": torch.zeros(8),
            "2.bias": experts["a"]["2.bias"],
        },
    }
    for message, out in cases.items():
        with pytest.raises(RslitError, match=message):
            soup.pour({"a": 0.5, "b": 0.5}, out | {"count": torch.tensor(0)})
        assert not out["0.bias"].any()


def policy() -> nn.Sequential:
    module = mlp(3)
    module.register_buffer("count", torch.tensor(0))
    module.register_buffer("mean", torch.zeros(2))
    module.register_parameter("extra", nn.Parameter(torch.ones(2)))
    return module


class Boom(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_at_pours_and_restores(fails: bool) -> None:
    experts = states(2)
    soup = Soup(experts, trainable_keys=TRAINABLE)
    module = policy()
    module[0].bias.data[0] = torch.nan
    whole = nn.ModuleDict({"policy": module, "value": nn.Linear(3, 1)})
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    expected = soup.state_dict({"a": 0.3, "b": 0.7})
    pointers = [p.data_ptr() for p in module.parameters()]
    try:
        with soup.at({"a": 0.3, "b": 0.7}, module) as same:
            assert same is module
            assert torch.is_grad_enabled()
            assert all(same_bits(module.state_dict()[key], expected[key]) for key in expected)
            assert torch.equal(module.extra, torch.ones(2))
            assert [is_poured(m) for m in (module, whole, module[0], whole["value"])] == [True, True, True, False]
            soup.pour({"a": 1}, dict(module.named_parameters()) | dict(module.named_buffers()))
            assert same_bits(module[0].weight.detach(), experts["a"]["0.weight"])
            for other in (module, whole, module[0]):
                with pytest.raises(RslitError, match="already holds a soup"), soup.at({"a": 1}, other):
                    pass
            if fails:
                raise Boom
    except Boom:
        assert fails
    after = module.state_dict()
    assert all(same_bits(after[key], before[key]) for key in before)
    assert [p.data_ptr() for p in module.parameters()] == pointers
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert not is_poured(module)
    assert not is_poured(whole)
    with soup.at({"b": 1}, module):
        pass


def test_at_keeps_the_gradient_mode_of_the_caller() -> None:
    soup = Soup(states(2), trainable_keys=TRAINABLE)
    for mode in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        module = policy()
        with mode:
            enabled = torch.is_grad_enabled()
            with soup.at({"a": 0.5, "b": 0.5}, module):
                assert torch.is_grad_enabled() == enabled
                assert module(torch.ones(1, 3)).requires_grad == enabled
        module(torch.ones(1, 3)).sum().backward()


def test_at_restores_when_the_soup_does_not_fit() -> None:
    soup = Soup(states(2), trainable_keys=TRAINABLE)
    module = mlp(3)
    before = fingerprint(module.state_dict())
    for lam, message in (({"a": 1}, "no weight 'count'"), ({"z": 1}, "unknown expert 'z'")):
        with pytest.raises(RslitError, match=message), soup.at(lam, module):
            pass
        assert fingerprint(module.state_dict()) == before
        assert not is_poured(module)


def test_tied_weights_are_poured_and_restored() -> None:
    module = nn.ModuleDict({"embed": nn.Linear(3, 3, bias=False), "head": nn.Linear(3, 3, bias=False)})
    module["head"].weight = module["embed"].weight
    tensors = [torch.randn(3, 3), torch.randn(3, 3)]
    soup = Soup({name: {"embed.weight": t, "head.weight": t} for name, t in zip("ab", tensors, strict=True)})
    before = fingerprint(module.state_dict())
    with soup.at({"a": 0.5, "b": 0.5}, module):
        torch.testing.assert_close(module["head"].weight.detach(), (tensors[0] + tensors[1]) / 2)
    assert fingerprint(module.state_dict()) == before
