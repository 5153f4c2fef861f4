"""Lemma 3 on random quadratic rewards: how much of its bound soups lose, and what λ = μ costs beside the best λ.

python benchmarks/quadratic.py --out docs/results/quadratic.md --figure docs/images/quadratic.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rslit.front.quadratic import QuadraticReward, best_weights, eigenvalue_ratio, lemma3_bound, regret

PROBLEMS, LEAST = 1000, 1e-12
BLUE, SKY, VERMILLION, GREY = "#0072B2", "#56B4E9", "#D55E00", "#7F7F7F"  # Okabe and Ito


def hessian(rng: np.random.Generator, size: int, spread: float) -> np.ndarray:
    """A positive definite matrix with random eigenvectors and eigenvalues from e^-spread to e^spread."""
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return np.asarray(basis * np.exp(rng.uniform(-spread, spread, size)) @ basis.T)


def study(size: int, spread: float, seed: int) -> tuple[list[str], int]:
    """A row of the table, and how many of its problems exceed the bound."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(PROBLEMS):
        rewards = [QuadraticReward(rng.normal(size=size), hessian(rng, size, spread)) for _ in range(2)]
        second = rng.uniform()
        mu = np.array([1 - second, second])
        # Each reward falls from 1 at its own expert to 0 at the other, as μ means it.
        rewards = [
            QuadraticReward(r.expert, r.hessian / -float(r(other.expert)), 1.0)
            for r, other in zip(rewards, reversed(rewards), strict=True)
        ]
        ratio = eigenvalue_ratio(rewards[0].hessian, rewards[1].hessian)
        found.append((ratio, regret(rewards, mu), float(lemma3_bound(second, ratio, 1, 1)), regret(rewards, mu, mu)))
    ratio, best, bound, same = np.array(found).T
    beyond = int((best > bound * (1 + 1e-9) + LEAST).sum())
    share = np.median(best[bound > LEAST] / bound[bound > LEAST]) if (bound > LEAST).any() else 0.0
    numbers = [np.median(ratio), beyond, np.median(best), np.median(bound), share, np.median(same - best)]
    return [str(size), f"e^±{spread:g}", *(f"{number:.3g}" for number in numbers)], beyond


def figure(path: Path) -> None:
    """The paper's Figure 8 drawn from the formulas, and a problem in two dimensions where a soup loses."""
    drawing = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = drawing.subplots(1, 2)
    mu = np.linspace(0, 1, 101)
    soup = 1 - mu * (1 - mu)
    for ratio, colour, style in ((10, SKY, "--"), (2, BLUE, "-.")):
        left.plot(
            mu, soup + lemma3_bound(mu, ratio, 1, 1), style, color=colour, label=f"bound on the optimum, M = {ratio}"
        )
    left.plot(mu, soup, color=VERMILLION, label="best soup (any M)")
    left.plot(mu, (1 - mu) ** 2 + mu**2, ":", color=GREY, label="interpolated scores (LMC)")
    left.set(xlabel="μ of the second reward", ylabel="weighted reward", title="Lemma 3, gaps of 1 (Figure 8)")
    left.set_ylim(0.25, 1.03)
    left.legend(frameon=False, fontsize=8, loc="lower center")
    rewards = [QuadraticReward(np.zeros(2), np.diag([4.0, 0.4])), QuadraticReward(np.ones(2), np.diag([0.4, 4.0]))]
    path_of = np.stack([best_weights(rewards, [1 - second, second]) for second in mu])
    right.plot(*path_of.T, color=BLUE, label="best weights there are, by μ")
    right.plot([0, 1], [0, 1], color=VERMILLION, label="soups")
    half = best_weights(rewards, [0.7, 0.3])
    right.plot(*half, "o", color=BLUE)
    right.annotate("μ = (0.7, 0.3)", half, xytext=(8, -12), textcoords="offset points", fontsize=8)
    for name, at in (("expert 1", (0, 0)), ("expert 2", (1, 1))):
        right.plot(*at, "s", color="black")
        right.annotate(name, at, xytext=(0, 8), textcoords="offset points", ha="right", fontsize=8)
    right.margins(0.2)
    right.set(xlabel="first weight", ylabel="second weight", title="Eigenvalues apart by M = 10")
    right.legend(frameon=False, fontsize=8, loc="lower right")
    drawing.savefig(path, dpi=150)


def main() -> int:
    """Writes the page and the figure; 1 if any problem exceeds the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the page; printed if left out")
    parser.add_argument("--figure", type=Path, help="the figure (.png, .svg)")
    args = parser.parse_args()
    sizes = [(size, spread) for size in (2, 8, 64) for spread in (0.2, 1.0, 2.0)]
    rows = [study(size, spread, seed) for seed, (size, spread) in enumerate(sizes)]
    head = [
        "weights",
        "eigenvalues",
        "M",
        "beyond the bound",
        "best soup loses",
        "bound",
        "of the bound",
        "λ = μ loses besides",
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *(row for row, _ in rows)))
    print(table)
    if args.out is not None:
        text = args.out.read_text(encoding="utf-8") if args.out.is_file() else ""
        before, _, after = text.partition("<!-- table -->")
        after = after.partition("<!-- end -->")[2]
        args.out.write_text(f"{before}<!-- table -->\n{table}\n<!-- end -->{after}", encoding="utf-8")
    if args.figure is not None:
        figure(args.figure)
    return int(any(beyond for _, beyond in rows))


if __name__ == "__main__":
    sys.exit(main())
