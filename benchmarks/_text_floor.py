"""The arithmetic floor of text_training.py: the matrix products of a generation with its updates, and nothing else.

Each turn runs the products of the model's own weights, one layer after the other, at the numbers of rows that the
phases have, so that weights come from memory as they do in the model. Left out: attention's own products (about 1 %
at these lengths), norms, activations, softmax, sampling, the optimiser, padding. Counted at 2 m k n FLOP.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import torch
from _turns import report
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Cost:
    """Seconds and FLOP of some work."""

    seconds: float = 0.0
    flop: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.flop + other.flop)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.seconds * times, self.flop * times)


class Products:
    """The products of a policy's weights.

    Args:
        model: A PEFT model.
    """

    def __init__(self, model: nn.Module) -> None:
        linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        head = next(name for name in linear if name.endswith("lm_head"))
        self.head = [linear[head].weight]
        self.body = [module.weight for name, module in linear.items() if "lora_" not in name and name != head]
        downs = [name for name in linear if ".lora_A." in name]
        self.lora = [(linear[name].weight, linear[name.replace("lora_A", "lora_B")].weight) for name in downs]

    @torch.no_grad()
    def forward(self, rows: int, heads: int, lora: bool = True) -> Cost:
        """A forward pass of `rows` tokens, with logits for `heads` of them."""
        x, y = _inputs(self.body, rows, 1), _inputs(self.head, heads, 1)
        began = time.perf_counter()
        for weight in self.body:
            F.linear(x[weight.shape[1]], weight)
        for a, b in self.lora if lora else ():
            F.linear(F.linear(x[a.shape[1]], a), b)
        for weight in self.head:
            F.linear(y[weight.shape[1]], weight)
        return Cost(time.perf_counter() - began, self._flop(rows, heads, 2, 2 if lora else 0))

    @torch.no_grad()
    def backward(self, rows: int, heads: int) -> Cost:
        """Its backward pass: gradients of the inputs everywhere, of the weights in the adapter alone."""
        x, g = _inputs(self.body, rows, 1), _inputs(self.body, rows, 0)
        y = _inputs(self.head, heads, 0)
        z = torch.randn(rows, self.lora[0][0].shape[0])
        began = time.perf_counter()
        for weight in self.head:
            torch.mm(y[weight.shape[0]], weight)
        for weight in self.body:
            torch.mm(g[weight.shape[0]], weight)
        for a, b in self.lora:
            torch.mm(g[b.shape[0]].t(), z)
            down = torch.mm(g[b.shape[0]], b)
            torch.mm(down.t(), x[a.shape[1]])
            torch.mm(down, a)
        return Cost(time.perf_counter() - began, self._flop(rows, heads, 2, 4))

    def _flop(self, rows: int, heads: int, each: int, lora: int) -> float:
        adapter = sum(a.numel() + b.numel() for a, b in self.lora)
        body, head = sum(w.numel() for w in self.body), sum(w.numel() for w in self.head)
        return float(rows * (each * body + lora * adapter) + each * heads * head)


def _inputs(weights: list[Tensor], rows: int, side: int) -> dict[int, Tensor]:
    return {size: torch.randn(rows, size) for size in {weight.shape[side] for weight in weights}}


def phases(products: Products, given: argparse.Namespace, prompt_tokens: int) -> dict[str, Cost]:
    """Cost of each phase, with so many prompt tokens in all to go through."""
    answers = given.prompts * given.group
    step = sum((products.forward(answers, answers) for _ in range(3)), Cost())
    step = Cost(step.seconds / 3, step.flop / 3)
    rows, heads = prompt_tokens + answers * (given.tokens - 1), answers * given.tokens
    update = products.forward(rows, heads) + products.backward(rows, heads)
    return {
        "generation": products.forward(prompt_tokens, answers) + step * (given.tokens - 1),
        "policy": products.forward(rows, heads),
        "reference": products.forward(rows, heads, lora=False) if given.beta else Cost(),
        "update": update * given.epochs,
    }


def floor(given: argparse.Namespace) -> None:
    """Take turns as a contender."""
    from _text_setup import policy

    from rslit.language import build_policy

    batch = json.loads((given.folder / f"{given.task}-{given.prompts}.json").read_text())
    products = Products(build_policy(policy()).model)
    once = sum(map(len, batch["prompt_ids"]))
    phases(products, given, once)
    report(what=f"torch {torch.__version__}")
    while True:
        ways = {"each": phases(products, given, once * given.group), "once": phases(products, given, once)}
        costs = {way: {name: [cost.seconds, cost.flop] for name, cost in found.items()} for way, found in ways.items()}
        report(costs=costs, seconds=sum(cost.seconds for cost in ways["each"].values()))
