from __future__ import annotations

import pytest
import torch
from soup_kit import TRAINABLE, mlp, same_bits, states
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.soup import Soup, StackedSoup, fingerprint, lattice


def stack(n: int = 3, parts: int = 4, dtype: torch.dtype = torch.float32) -> tuple[Soup, StackedSoup]:
    soup = Soup(states(n, dtype), trainable_keys=TRAINABLE)
    lams = [dict(zip(soup.names, point, strict=True)) for point in lattice(n, parts)]
    return soup, StackedSoup(soup, lams)


class Policy(nn.Module):
    """Not a plain stack: a skip connection, a weight of its own, and buffers that belong to the soup."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("0", nn.Linear(3, 8))
        self.add_module("2", nn.Linear(8, 2))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule("2")(torch.relu(self.get_submodule("0")(x))) * self.scale + x[..., :2] + self.mean[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_are_those_of_the_soup(dtype: torch.dtype) -> None:
    soup, stacked = stack(dtype=dtype)
    assert sorted(stacked.params) == TRAINABLE
    assert sorted(stacked.buffers) == ["count", "mean"]
    epsilon = torch.finfo(dtype).eps
    for m, lam in enumerate(stacked.lams):
        one = soup.state_dict(lam)
        for key in TRAINABLE:
            assert stacked.params[key].shape == (15, *one[key].shape)
            assert stacked.params[key].dtype == dtype
            torch.testing.assert_close(stacked.params[key][m], one[key], rtol=4 * epsilon, atol=epsilon)


def test_vertices_are_the_experts_bit_for_bit() -> None:
    experts = states(3)
    experts["a"]["0.weight"][0, 0] = -0.0
    experts["b"]["0.bias"][0] = torch.inf
    soup = Soup(experts, trainable_keys=TRAINABLE)
    stacked = StackedSoup(soup, [{"c": 1}, {"a": 1}, {"b": 1}])
    for m, name in enumerate("cab"):
        assert all(same_bits(stacked.params[key][m], experts[name][key]) for key in TRAINABLE)


@pytest.mark.parametrize("module", [mlp(5), Policy()], ids=["stack of layers", "vmap"])
def test_forward_is_that_of_each_soup(module: nn.Module) -> None:
    soup, stacked = stack()
    before = fingerprint(module.state_dict())
    x = torch.randn(15, 6, 3)
    together = stacked(module, x)
    assert together.shape == (15, 6, 2)
    assert fingerprint(module.state_dict()) == before
    if isinstance(module, nn.Sequential):
        module.register_buffer("count", torch.tensor(0))
        module.register_buffer("mean", torch.zeros(2))
    for m, lam in enumerate(stacked.lams):
        with soup.at(lam, module), torch.no_grad():
            torch.testing.assert_close(together[m].detach(), module(x[m]), rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(module, Policy):
        assert torch.isfinite(together).all()


def test_both_ways_agree_on_every_shape() -> None:
    _, stacked = stack()

    class Wrapped(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    nested = nn.Sequential(*mlp())
    wrapped = Wrapped(*mlp())
    for shape in [(15, 3), (15, 1, 3), (15, 4, 5, 3), (15, 0, 3)]:
        x = torch.randn(shape)
        torch.testing.assert_close(stacked(nested, x), stacked(wrapped, x), rtol=1e-5, atol=1e-6)


def test_nested_stacks_without_bias_and_a_prefix() -> None:
    def build(seed: int) -> nn.ModuleDict:
        torch.manual_seed(seed)
        actor = nn.Sequential(nn.Sequential(nn.Linear(3, 4, bias=False), nn.GELU()), nn.Linear(4, 2))
        return nn.ModuleDict({"actor": actor, "critic": nn.Linear(3, 1)})

    experts = {name: build(seed).state_dict() for seed, name in enumerate("ab")}
    soup = Soup(experts)
    stacked = StackedSoup(soup, [{"a": 0.25, "b": 0.75}, {"b": 1}], prefix="actor.")
    assert sorted(stacked.params) == ["0.0.weight", "1.bias", "1.weight"]
    module, x = build(2), torch.randn(2, 5, 3)
    out = stacked.forward(module["actor"], x)
    for m, lam in enumerate(stacked.lams):
        with soup.at(lam, module), torch.no_grad():
            torch.testing.assert_close(out[m], module["actor"](x[m]))


def test_a_hook_runs() -> None:
    """Hooks are the module's own code: the batched products would skip them."""
    _, stacked = stack()
    module = mlp()
    module[0].register_forward_hook(lambda _module, _args, out: out * 0)
    expected = stacked.params["2.bias"].unsqueeze(1).expand(15, 4, 2)
    torch.testing.assert_close(stacked(module, torch.randn(15, 4, 3)), expected)


def test_randomness_is_refused() -> None:
    _, stacked = stack()
    module = nn.Sequential(mlp()[0], nn.Dropout(), mlp()[2])
    with pytest.raises(RuntimeError, match="randomness"):
        stacked(module, torch.randn(15, 4, 3))
    torch.testing.assert_close(stacked(module.eval(), torch.ones(15, 4, 3)).shape, torch.Size([15, 4, 2]))


def test_refusals() -> None:
    soup, stacked = stack()
    with pytest.raises(RslitError, match="at least one lam"):
        StackedSoup(soup, [])
    with pytest.raises(RslitError, match="unknown expert 'z'"):
        StackedSoup(soup, [{"z": 1}])
    with pytest.raises(RslitError, match=r"no weight of the soup begins with 'net\.'"):
        StackedSoup(soup, [{"a": 1}], prefix="net.")
    for x in (torch.randn(4, 3), torch.tensor(1.0)):
        with pytest.raises(RslitError, match="for 15 lams; its first dimension is the lam"):
            stacked(mlp(), x)
    with pytest.raises(RslitError, match=r"the module has no weight '0.weight' of shape \(8, 3\)"):
        stacked(mlp(width=9), torch.randn(15, 4, 3))
