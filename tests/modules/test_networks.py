from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rslit.modules.networks import GaussianPolicy, ObservationNormaliser, ValueNetwork, mlp


def test_statistics_equal_numpy_over_all_batches() -> None:
    batches = [torch.randn(n, 3) * torch.tensor([1.0, 50.0, 1e-3]) + torch.tensor([0.0, 1e4, -2.0]) for n in (5, 1, 40)]
    normaliser = ObservationNormaliser(3)
    for batch in batches:
        normaliser.update(batch)
    joined = torch.cat(batches).double().numpy()
    np.testing.assert_allclose(normaliser.mean.numpy(), joined.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normaliser.m2.numpy() / len(joined), joined.var(0), rtol=1e-9)
    expected = (batches[0].numpy() - joined.mean(0)) / joined.std(0)
    np.testing.assert_allclose(normaliser(batches[0]).numpy(), expected, rtol=1e-3, atol=2e-3)


def test_without_statistics_observations_pass_and_outliers_are_clipped() -> None:
    normaliser = ObservationNormaliser(2)
    assert torch.equal(normaliser(torch.tensor([[1.5, -20.0]])), torch.tensor([[1.5, -10.0]]))
    normaliser.update(torch.zeros(10, 2))
    assert torch.isfinite(normaliser(torch.ones(1, 2))).all(), "a constant observation has no spread to divide by"


def test_mlp_has_lecun_uniform_weights_and_zero_biases() -> None:
    torch.manual_seed(0)
    net = mlp([64, 512, 4])
    weight = net[0].weight.detach()
    assert float(weight.abs().max()) <= math.sqrt(3 / 64)
    assert float(weight.detach().var()) == pytest.approx(1 / 64, rel=0.03)
    assert float(net[0].bias.detach().abs().max()) == 0
    assert [type(m).__name__ for m in net] == ["Linear", "SiLU", "Linear"]


def test_the_papers_sizes() -> None:
    """Table 6 on Brax's humanoid (244 observations, 17 actions), counted by hand."""
    policy = GaussianPolicy(244, 17, [512] * 6)
    assert sum(p.numel() for p in policy.parameters()) == (244 + 1) * 512 + 5 * 513 * 512 + 513 * 34
    value = ValueNetwork(244, [256] * 5)
    assert sum(p.numel() for p in value.parameters()) == 245 * 256 + 4 * 257 * 256 + 257
    with torch.no_grad():
        location, scale = policy(torch.zeros(2, 3, 244))
    assert location.shape == scale.shape == (2, 3, 17)
    assert float(scale.min()) > 0
    assert value(torch.zeros(2, 3, 244)).shape == (2, 3)


def test_statistics_are_buffers_not_weights() -> None:
    policy = GaussianPolicy(2, 1, [4])
    assert {"normaliser.count", "normaliser.mean", "normaliser.m2"} <= set(policy.state_dict())
    assert not any("normaliser" in name for name, _ in policy.named_parameters())
