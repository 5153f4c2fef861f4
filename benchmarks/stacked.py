"""Forward of 11 λ times 32 environments at once against one λ at a time.

python benchmarks/stacked.py --repeats 300
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rslit.soup import Soup, StackedSoup, lattice


class Wrapped(nn.Sequential):
    """The same layers behind a forward of their own: not recognised as a stack, so it runs under vmap."""

    def forward(self, x: Tensor) -> Tensor:
        """Call the layers."""
        return super().forward(x)


def policy(cls: type[nn.Sequential], width: int, seed: int) -> nn.Sequential:
    """Observation 18, two hidden layers, action 12."""
    torch.manual_seed(seed)
    return cls(nn.Linear(18, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 12))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--environments", type=int, default=32)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--width", type=int, default=256)
    arguments = parser.parse_args()
    experts = {name: policy(nn.Sequential, arguments.width, seed).state_dict() for seed, name in enumerate("ab")}
    soup = Soup(experts)
    lams = [dict(zip("ab", point, strict=True)) for point in lattice(2, arguments.parts)]
    stacked = StackedSoup(soup, lams)
    module, wrapped = policy(nn.Sequential, arguments.width, 2), policy(Wrapped, arguments.width, 2)
    separate = []
    for lam in lams:
        one = policy(nn.Sequential, arguments.width, 2)
        one.load_state_dict(soup.state_dict(lam))
        separate.append(one)
    x = torch.randn(len(lams), arguments.environments, 18)
    contenders: dict[str, Callable[[], object]] = {
        "separate forwards": lambda: torch.stack([one(batch) for one, batch in zip(separate, x, strict=True)]),
        "stack of layers": lambda: stacked(module, x),
        "vmap": lambda: stacked(wrapped, x),
        "build the stack": lambda: StackedSoup(soup, lams),
        "build by state_dict": lambda: [soup.state_dict(lam) for lam in lams],
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.inference_mode():
        for name in ("stack of layers", "vmap"):
            off = (contenders[name]() - contenders["separate forwards"]()).abs().max()  # type: ignore[operator]
            print(f"largest difference of an action, {name}: {float(off):.1e}")
        for _ in range(arguments.repeats):
            for name, run in contenders.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    base = statistics.median(times["separate forwards"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}\n")
    print("| | median µs | separate forwards / this |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        ratio = f"{base / median:.2f}" if "build" not in name else ""
        print(f"| {name} | {median * 1e6:.0f} | {ratio} |")


if __name__ == "__main__":
    main()
