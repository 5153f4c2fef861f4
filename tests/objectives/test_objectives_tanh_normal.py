"""The squashed Gaussian against torch.distributions and quadrature, in float64, and at its numerical edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from rslit.objectives import tanh_normal


def reference(loc: torch.Tensor, scale: torch.Tensor) -> TransformedDistribution:
    return TransformedDistribution(Independent(Normal(loc, scale), 1), TanhTransform(cache_size=1))


@pytest.fixture
def parameters() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    scale = torch.rand(6, 3, generator=generator, dtype=torch.float64) + 0.1
    return loc, scale


def test_log_prob_agrees_with_torch_distributions(parameters):
    loc, scale = parameters
    raw, action = tanh_normal.sample(loc, scale, torch.Generator().manual_seed(1))
    assert tanh_normal.log_prob(raw, loc, scale).shape == (6,)
    torch.testing.assert_close(tanh_normal.log_prob(raw, loc, scale), reference(loc, scale).log_prob(action))


def test_log_prob_gradient_matches_finite_differences(parameters):
    loc, scale = (x.clone().requires_grad_() for x in parameters)
    raw, _ = tanh_normal.sample(loc.detach(), scale.detach(), torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda m, s: tanh_normal.log_prob(raw, m, s), (loc, scale))


def test_the_density_integrates_to_one_over_actions():
    loc, scale = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)

    def density(action: float) -> float:
        return tanh_normal.log_prob(torch.tensor([math.atanh(action)], dtype=torch.float64), loc, scale).exp().item()

    assert integrate.quad(density, -1 + 1e-12, 1 - 1e-12)[0] == pytest.approx(1.0, abs=1e-6)


def test_the_entropy_estimate_averages_to_the_entropy():
    loc, scale = 0.3, 0.8
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    raw = torch.tensor(loc + scale * nodes).unsqueeze(1)
    estimates = tanh_normal.entropy(raw, torch.full_like(raw, loc), torch.full_like(raw, scale)).numpy()
    mean = (estimates * weights).sum() / weights.sum()

    def integrand(action: float) -> float:
        where = reference(torch.tensor([loc], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64))
        logprob = where.log_prob(torch.tensor([action], dtype=torch.float64)).item()
        return -math.exp(logprob) * logprob

    assert mean == pytest.approx(integrate.quad(integrand, -1 + 1e-10, 1 - 1e-10)[0], abs=1e-5)


def test_entropy_broadcasts_a_scale_shared_by_all_states():
    loc = torch.zeros(4, 2)
    result = tanh_normal.entropy(loc, loc, torch.full((2,), 0.5))
    # At raw 0 the log-determinant is 0: twice the Gaussian's entropy.
    expected = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))
    torch.testing.assert_close(result, torch.full((4,), expected))


@pytest.mark.parametrize("raw", [-1000.0, -40.0, 40.0, 1000.0])
def test_log_prob_stays_finite_where_tanh_saturates(raw):
    x = torch.tensor([raw])
    result = tanh_normal.log_prob(x, torch.tensor([raw]), torch.ones(1)).item()
    # log(1 - tanh(x)^2) -> 2 log 2 - 2|x|.
    expected = -0.5 * math.log(2 * math.pi) - (2 * math.log(2) - 2 * abs(raw))
    assert result == pytest.approx(expected, rel=1e-6)
    assert math.isinf(torch.atanh(torch.tanh(x)).item())


def test_sample_is_seeded_squashed_and_reparametrised():
    loc, scale = torch.zeros(1000, 2, requires_grad=True), torch.full((1000, 2), 0.5, requires_grad=True)
    raw, action = tanh_normal.sample(loc, scale, torch.Generator().manual_seed(5))
    again, _ = tanh_normal.sample(loc, scale, torch.Generator().manual_seed(5))
    assert torch.equal(raw, again)
    torch.testing.assert_close(action, raw.tanh())
    assert raw.std().item() == pytest.approx(0.5, abs=0.02)
    raw.sum().backward()
    assert torch.equal(loc.grad, torch.ones_like(loc))
    torch.testing.assert_close(scale.grad, raw.detach() / 0.5)


def test_mode_is_the_tanh_of_the_mean():
    torch.testing.assert_close(tanh_normal.mode(torch.tensor([0.0, 1.0])), torch.tensor([0.0, math.tanh(1.0)]))
