from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rslit.distributed import full_tensor, gather_states, own_state, sum_over_ranks
from rslit.errors import RslitError


def test_alone_nothing_is_collected() -> None:
    state, values = {"a": 1}, torch.tensor([1.0, 2.0])
    assert gather_states(state) == [state]
    assert own_state([state], "state") is state
    assert sum_over_ranks(values) is values
    weight = torch.nn.Parameter(torch.ones(2))
    whole = full_tensor(weight)
    assert torch.equal(whole, torch.ones(2))
    assert not whole.requires_grad


def test_states_of_another_number_of_processes_are_refused() -> None:
    with pytest.raises(
        RslitError, match="sampler state comes from 3 processes and this run has 1: resume with 3 devices"
    ):
        own_state([{}, {}, {}], "sampler state")


def worker(rank: int, folder: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=limit)
    try:
        states = gather_states({"rank": rank, "noise": torch.full((2,), float(rank))})
        assert [s["rank"] for s in states] == [0, 1]
        assert states[1]["noise"].tolist() == [1.0, 1.0]
        assert own_state(states, "state")["rank"] == rank
        with pytest.raises(RslitError, match="from 1 processes and this run has 2"):
            own_state([{}], "state")
        values = torch.tensor([1.0, 10.0 * rank])
        assert sum_over_ranks(values).tolist() == [2.0, 10.0]
        assert values.tolist() == [1.0, 10.0 * rank], "left alone"
        # 5 rows over 2 ranks: shards of unequal sizes
        whole = torch.arange(10.0).view(5, 2)
        sharded = distribute_tensor(whole.clone(), init_device_mesh("cpu", (2,)), [Shard(0)]).requires_grad_()
        assert sharded.to_local().shape == ((3, 2), (2, 2))[rank]
        again = full_tensor(sharded)
        assert type(again) is torch.Tensor
        assert not again.requires_grad
        assert torch.equal(again, whole)
    finally:
        dist.destroy_process_group()
    (Path(folder) / f"done{rank}").touch()


def test_two_processes(tmp_path: Path) -> None:
    mp.spawn(worker, (str(tmp_path),), nprocs=2)
    assert (tmp_path / "done0").exists()
    assert (tmp_path / "done1").exists()
