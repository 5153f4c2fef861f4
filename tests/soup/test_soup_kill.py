"""A writer killed with SIGKILL at any moment, and readers beside a writer: always one whole ingredient."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from rslit.soup import Ingredient, IngredientInfo, fingerprint, write_ingredient

path = Path(sys.argv[1])
ZERO = fingerprint({"w": torch.zeros(1)})

def write(step):
    state = {"w": torch.full((20_000,), float(step)), "v": torch.full((7,), float(step))}
    write_ingredient(path, state, IngredientInfo("a", "t", "r", step, ZERO, ["v", "w"], "float32"))

def check():
    read = Ingredient.load(path)
    assert all(bool((t == read.info.step).all()) for t in read.state_dict().values()), "torn"
    return read.info.step

random.seed(0)
write(0)
began = time.monotonic()
write(0)
cost = min(max(time.monotonic() - began, 0.005), 0.15)  # of one write: a busy disk takes long to force it down
last, kills, aside, reads, seen = 0, 0, 0, 0, set()
for _ in range(40):
    child = os.fork()
    if child == 0:
        step = last
        while True:
            step += 1
            write(step)
    end = time.monotonic() + random.uniform(0.4, 12) * cost
    try:
        while time.monotonic() < end:
            seen.add(check())
            reads += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    kills += 1
    aside += not path.exists()
    step = check()
    assert step >= last, (step, last)
    last = step
write(last + 1)
assert check() == last + 1
print(json.dumps({"kills": kills, "steps": last, "reads": reads, "distinct": len(seen),
                  "left": sorted(p.name for p in path.parent.iterdir())}))
"""


def test_sigkill_and_concurrent_readers(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == 40
    assert result["steps"] > 40  # the writer got on between the kills
    assert result["distinct"] > 20  # readers met many versions, and the swaps between them
    assert result["left"] == ["a"]
