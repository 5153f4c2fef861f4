"""Pouring into sharded weights (DTensor, as FSDP2 makes them): each rank gets its own part, without communication."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys, warnings
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from rslit.errors import RslitError
from rslit.soup import Soup

rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
mesh = init_device_mesh("cpu", (world,))
generator = torch.Generator().manual_seed(0)
shapes = {"even": (4, 6), "uneven": (5, 3), "short": (1, 4), "columns": (3, 7), "whole": (2, 2), "plain": (3,)}
experts = {n: {k: torch.randn(s, generator=generator) for k, s in shapes.items()} for n in "abc"}
placements = {"columns": Shard(1), "whole": Replicate()}
soup = Soup(experts)

def spread(key, value):
    return value.clone() if key == "plain" else distribute_tensor(value, mesh, [placements.get(key, Shard(0))])

class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for key, shape in shapes.items():
            self.register_parameter(key, torch.nn.Parameter(spread(key, torch.ones(shape))))

module = Module()
for lam in ({"a": 0.25, "b": 0.75}, {"a": 0.2, "b": 0.3, "c": 0.5}, {"b": 1}):
    full = soup.state_dict(lam)
    with soup.at(lam, module):
        for key, parameter in module.named_parameters():
            wanted = spread(key, full[key])
            ours, theirs = (t.to_local() if isinstance(t, DTensor) else t for t in (parameter.detach(), wanted))
            assert ours.shape == theirs.shape and torch.equal(ours, theirs), (rank, key, ours, theirs)
    for key, parameter in module.named_parameters():
        local = parameter.detach().to_local() if isinstance(parameter, DTensor) else parameter
        assert bool((local == 1).all()), key
strided = DTensor.from_local(torch.zeros(4 // world, 6), mesh, [_StridedShard(0, split_factor=2)])
try:
    soup.pour({"a": 1}, dict(module.named_parameters()) | {"even": strided})
except RslitError as error:
    assert "cannot pour into 'even' placed as" in str(error), error
else:
    raise AssertionError("a strided shard was poured into")
dist.destroy_process_group()
print("poured")
"""


def run(world: int, store: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(world), str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(world)
    ]
    results = [rank.communicate(timeout=120) for rank in ranks]
    for rank, (out, err) in zip(ranks, results, strict=True):
        assert rank.returncode == 0, err
        assert out.strip() == "poured"


def test_one_rank(tmp_path: Path) -> None:
    run(1, tmp_path / "store")


def test_two_ranks(tmp_path: Path) -> None:
    run(2, tmp_path / "store")
