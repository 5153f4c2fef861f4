"""Runs `rslit fit` again and again and kills it, until one run ends by itself.

Lightning's import takes seconds, so this process imports once and forks a child for each run.
Usage: python fork_runs.py SEED KILLS MIN MAX ARGS...   (delays in seconds)
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import torch

import rslit.lightning_cli  # noqa: F401  # the expensive part
from rslit.cli import main


def run(args: list[str]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(main(args))
    return child


if __name__ == "__main__":
    torch.set_num_threads(1)
    seed, kills, least, most = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    rng, killed = random.Random(seed), 0
    while True:
        pid = run(sys.argv[5:])
        if killed < kills:
            time.sleep(rng.uniform(least, most))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        print(f"killed {killed}")
        sys.exit(os.waitstatus_to_exitcode(status))
