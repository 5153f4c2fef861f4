"""Stages that run side by side on one machine share out its GPUs and cores."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rslit.recipes import submission

Start = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("visible", "listed", "jobs", "expected"),
    [
        (None, "", 2, [None]),
        (None, "GPU 0: H100\n", 2, [None]),
        (None, "GPU 0: H100\nGPU 1: H100\n", 3, ["0", "1", "0"]),
        ("", "GPU 0: H100\nGPU 1: H100\n", 2, [""]),
        ("5", "", 2, ["5"]),
        ("4,7", "", 2, ["4", "7"]),
    ],
)
def test_jobs_share_out_the_gpus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    listed: str,
    jobs: int,
    expected: list[str | None],
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    environs = submission._local_environs(jobs)
    assert [environ["CUDA_VISIBLE_DEVICES"] for environ in environs] == expected


@pytest.mark.parametrize(("set_by_user", "cores", "expected"), [(None, 8, "2"), (None, 2, "1"), ("5", 8, "5")])
def test_jobs_share_out_the_cores(
    monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, cores: int, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    assert submission._local_environs(4)[0]["OMP_NUM_THREADS"] == expected


def test_parallel_jobs_see_the_runners_gpus_and_have_time(
    write: Callable[..., Path], root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    stages = "".join(f"  {name}: {{run: 'fit --folder {{{name}}} --ticks 30'}}\n" for name in ("left", "right"))
    assert start(write(f"name: a\nstages:\n{stages}"), jobs=2)[0] == 0
    environs = [json.loads((root / name / "environ.json").read_text()) for name in ("left", "right")]
    assert [environ["CUDA_VISIBLE_DEVICES"] for environ in environs] == ["6", "7"]
    # Submitit's own limit would be two minutes.
    assert int(environs[0]["SUBMITIT_LOCAL_TIMEOUT_S"]) == 365 * 24 * 3600
