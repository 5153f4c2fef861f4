from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from rslit.cli import main
from rslit.demo.live import LiveSoup
from rslit.demo.run_folder import open_run
from rslit.errors import RslitError
from rslit.modules import TextModule
from rslit.soup import Ingredient, Soup, is_poured

HALF = {"risky": Fraction(1, 2), "cautious": Fraction(1, 2)}


def held(live: LiveSoup) -> Callable[[], dict[str, Tensor]]:
    return lambda: {key: value.clone() for key, value in live.module.policy.state_dict().items()}


def paths(live: LiveSoup) -> dict[str, str]:
    return live.run.evaluator.ingredients


def test_the_policy_holds_the_soup_while_it_acts(live: LiveSoup) -> None:
    lam = {"risky": Fraction(3, 10), "cautious": Fraction(7, 10)}
    own = held(live)()
    found = live.play(lam, "weights", held(live))
    wanted = Soup.load(paths(live)).state_dict(lam)
    assert wanted.keys() == found.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)
    assert not is_poured(live.module.policy)
    for key, tensor in held(live)().items():
        torch.testing.assert_close(tensor, own[key], rtol=0, atol=0)


def test_references_are_the_ingredients_themselves(live: LiveSoup) -> None:
    for name, path in paths(live).items():
        found = live.play(live.references[f"expert {name}"], "weights", held(live))
        for key, tensor in Ingredient.load(path).state_dict().items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)
    start = live.run.evaluator.initialisation
    assert start is not None
    found = live.play(live.references["initialisation"], "weights", held(live))
    for key, tensor in Ingredient.load(start).state_dict().items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


def test_the_same_soup_on_the_same_thing_is_played_once(live: LiveSoup) -> None:
    calls: list[int] = []
    act = lambda: calls.append(1) or len(calls)  # noqa: E731
    expert = {"risky": Fraction(1), "cautious": Fraction(0)}
    assert live.play(expert, 5, act) == 1
    assert live.play(live.references["expert risky"], 5, act) == 1
    assert live.play(HALF, 5, act) == 2
    assert live.play(expert, 6, act) == 3
    for k in range(200):  # what is old is forgotten, so that memory does not grow with visits
        live.play(expert, k + 10, act)
    assert live.play(HALF, 5, act) == len(calls) == 204


def test_two_visitors_do_not_disturb_each_other(live: LiveSoup) -> None:
    """Each looks at the weights again and again while it acts, and asks for many λ; all are its own."""
    wanted = {k: Soup.load(paths(live)).state_dict(lam)["net.0.weight"] for k, lam in enumerate(map(point, range(11)))}
    faults: list[str] = []

    def visit(first: int) -> None:
        for number in range(20):
            k = (first + 3 * number) % 11
            if not live.play(point(k), (first, number), lambda k=k: watch(wanted[k])):
                faults.append(f"visitor {first} at λ {k}/10")

    def watch(weight: Tensor) -> bool:
        seen = []
        for _ in range(3):
            seen.append(torch.equal(live.module.policy.state_dict()["net.0.weight"], weight))
            time.sleep(0.001)
        return all(seen)

    threads = [threading.Thread(target=visit, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def point(k: int) -> dict[str, Fraction]:
    return {"risky": Fraction(k, 10), "cautious": 1 - Fraction(k, 10)}


def test_an_actor_that_fails_leaves_the_soup_usable(live: LiveSoup) -> None:
    def fail() -> Any:
        raise RslitError("no image")

    with pytest.raises(RslitError, match="no image"):
        live.play(HALF, "failing", fail)
    assert not is_poured(live.module.policy)
    assert live.play(HALF, "failing", lambda: 1) == 1


def test_export_is_the_soup(live: LiveSoup) -> None:
    lam = {"risky": Fraction(1, 3), "cautious": Fraction(2, 3)}
    out = live.export(lam)
    assert out == live.run.folder / "soups" / "risky=1_3,cautious=2_3"
    wanted = Soup.load(paths(live)).state_dict(lam)
    exported = Ingredient.load(out)
    assert exported.info.config["soup"]["lam"] == {"risky": "1/3", "cautious": "2/3"}
    for key, tensor in wanted.items():
        torch.testing.assert_close(exported.tensor(key), tensor, rtol=0, atol=0)
    assert live.export(lam) == out  # again, over the first
    assert not live.has_base
    with pytest.raises(RslitError, match="names no base model"):
        live.export(lam, merged=True)


def test_pouring_is_quick(live: LiveSoup) -> None:
    """A slider's move has 300 ms beside generation; pouring a small policy takes a small part of that."""
    seconds = []
    for k in range(101):
        began = time.perf_counter()
        live.play({"risky": Fraction(k, 100), "cautious": 1 - Fraction(k, 100)}, "clock", lambda: None)
        seconds.append(time.perf_counter() - began)
    print(f"pouring: median {1000 * statistics.median(seconds):.2f} ms")
    assert statistics.median(seconds) < 0.1


def test_space_delta_is_played_per_sample(runs: Callable[[str], Path], tmp_path: Path) -> None:
    """A soup that cannot be poured answers as the model it is exported to."""
    from transformers import AutoModelForCausalLM

    config = yaml.safe_load((runs("text") / "sweep.yaml").read_text())
    config["model"]["init_args"]["space"] = "delta"
    (tmp_path / "delta.yaml").write_text(yaml.safe_dump(config))
    args = ["--config", str(tmp_path / "delta.yaml"), "--trainer.default_root_dir", str(tmp_path / "sweep")]
    assert main(["validate", *args]) == 0
    live = LiveSoup(open_run(tmp_path))
    module = live.module
    assert isinstance(module, TextModule)
    ids = torch.tensor([[5, 9, 17]])
    lam = {"letter_e": Fraction(1, 4), "letter_a": Fraction(3, 4)}
    found = live.play(lam, "logits", lambda: module.policy(input_ids=ids).logits)
    merged = AutoModelForCausalLM.from_pretrained(live.export(lam, merged=True))
    with torch.no_grad():
        torch.testing.assert_close(found, merged(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    assert live.has_base
