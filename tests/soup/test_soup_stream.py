from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from soup_kit import TRAINABLE, states, write_all

from rslit.errors import RslitError
from rslit.soup import Soup
from rslit.soup import storage as storage_module


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bytes_are_those_of_save_file(
    tmp_path: Path, n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rslit.soup.streaming._TILE", 7)  # many tiles, the last one short
    soup = Soup.load(write_all(tmp_path, states(n, dtype)))
    lam = {name: 1 / n for name in soup.names}
    soup.stream(lam, tmp_path / "ours.safetensors")
    save_file(soup.state_dict(lam), tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_casts_the_weights_and_not_the_buffers(tmp_path: Path) -> None:
    soup = Soup(states(2), trainable_keys=TRAINABLE)
    lam = {"a": 0.3, "b": 0.7}
    soup.stream(lam, tmp_path / "out", dtype=torch.bfloat16)
    full, read = soup.state_dict(lam), load_file(tmp_path / "out")
    assert read.keys() == full.keys()
    for key, tensor in full.items():
        wanted = tensor.bfloat16() if key in TRAINABLE else tensor
        assert read[key].dtype == wanted.dtype
        torch.testing.assert_close(read[key], wanted, rtol=0, atol=0, equal_nan=True)


def test_strided_experts(tmp_path: Path) -> None:
    soup = Soup({name: {"w": torch.randn(5, 4).T} for name in "ab"})
    soup.stream({"a": 0.5, "b": 0.5}, tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out")["w"], soup.state_dict({"a": 0.5, "b": 0.5})["w"])


def test_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soup = Soup(states(2), trainable_keys=TRAINABLE)
    out = tmp_path / "out"
    out.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage_module.os, "fsync", full)
    with pytest.raises(RslitError, match=re.escape(f"{out}: cannot write: No space left on device")):
        soup.stream({"a": 1}, out)
    monkeypatch.undo()
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(RslitError, match=r"gone/out: cannot write: No such file"):
        soup.stream({"a": 1}, tmp_path / "gone" / "out")
    with pytest.raises(RslitError, match=r"cannot be stored in torch\.int8"):
        soup.stream({"a": 1}, out, dtype=torch.int8)
    soup.stream({"a": 1}, out)
    assert load_file(out)["count"] == 7


MEMORY = """
import json, os, select, sys, time
from pathlib import Path
import torch
from rslit.soup import Soup

def anonymous(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024

folder = Path(sys.argv[1])
soup = Soup.load([folder / name for name in "abc"])
lam = {"a": 0.25, "b": 0.25, "c": 0.5}

def measure(call):  # watched by another process, which no lock of this one delays
    start, watched = anonymous(os.getpid()), os.getpid()
    stop, stopper = os.pipe()
    told, teller = os.pipe()
    if os.fork() == 0:
        os.close(stopper)
        peak = 0
        while not select.select([stop], [], [], 0.0005)[0]:
            peak = max(peak, anonymous(watched))
        os.write(teller, str(peak).encode())
        os._exit(0)
    kept = call()
    time.sleep(0.2)  # on a crowded machine the watcher looks rarely: what is kept it sees in any case
    os.close(stopper)
    return int(os.read(told, 100)) - start

tiny = Soup({name: {"w": torch.randn(100_000)} for name in "abc"})
tiny.stream(lam, folder / "warm", dtype=torch.bfloat16)  # threads of torch that stay
result = {"stream": measure(lambda: soup.stream(lam, folder / "out")),
          "half": measure(lambda: soup.stream(lam, folder / "half", dtype=torch.bfloat16)),
          "state_dict": measure(lambda: soup.state_dict(lam))}
print(json.dumps(result))
"""


def test_streams_in_a_few_megabytes(tmp_path: Path) -> None:
    """Anonymous memory (the map of the experts is the page cache's) of a process that streams 3 x 40 MB."""
    sizes = {"big": 8_000_000, "small": 2_000_000}
    experts = {n: {k: torch.full((size,), float(i)) for k, size in sizes.items()} for i, n in enumerate("abc")}
    write_all(tmp_path, experts, trainable_keys=list(sizes))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed goes back at once, so sums are exact
    )
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    # Largest tensor: 32 MB. One tile of 4 MB at a time, and in half precision the float64 pieces of the report.
    assert grown["stream"] < 10e6
    assert grown["half"] < 20e6
    assert grown["state_dict"] > 39e6  # the measure sees a whole model where there is one
