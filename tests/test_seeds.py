from __future__ import annotations

import itertools

import pytest
import torch

from rslit.seeds import generator, stream_seed


@pytest.mark.parametrize(
    ("args", "digest"),
    [
        # printf '7/rollout/0/3' | sha256sum, its first 16 digits
        ((7, "rollout", 0, 3), 0x8B50B5180A1987C1),
        ((0,), 0x5FECEB66FFC86F38),
    ],
)
def test_a_stream_is_the_sha256_of_its_name(args: tuple[int | str, ...], digest: int) -> None:
    assert stream_seed(*args) == digest // 2  # type: ignore[arg-type]  # the first argument is a number


def test_streams_of_different_names_differ() -> None:
    names = [(s, w, a, b) for s, w, a, b in itertools.product(range(5), ("rollout", "order"), range(12), range(12))]
    assert len({stream_seed(*n) for n in names}) == len(names)
    assert stream_seed(1, "a", 23) != stream_seed(1, "a", 2, 3)


def test_a_generator_starts_at_its_stream_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    drawn = torch.rand(5, generator=generator(7, "rollout", 0, 3))
    assert torch.equal(drawn, torch.rand(5, generator=torch.Generator().manual_seed(0x8B50B5180A1987C1 // 2)))
    assert torch.equal(drawn, torch.rand(5, generator=generator(7, "rollout", 0, 3)))
    assert not torch.equal(drawn, torch.rand(5, generator=generator(7, "rollout", 1, 3)))
    assert torch.equal(torch.get_rng_state(), before)
