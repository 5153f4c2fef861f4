"""Soups loaded from disk, and what is no soup."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from soup_kit import TRAINABLE, info, same_bits, states, write_all
from torch import Tensor

from rslit.errors import RslitError
from rslit.soup import Soup, fingerprint, write_ingredient


def test_loads_from_disk(tmp_path: Path) -> None:
    experts = states(3)
    paths = write_all(tmp_path, experts)
    soup = Soup.load([str(path) for path in paths])
    assert soup.names == ["a", "b", "c"]
    assert soup.space == "weights"
    assert soup.initialisation == soup.ingredients["a"].info.initialisation
    assert sorted(soup.trainable_keys) == TRAINABLE
    lam = {"a": 0.2, "b": 0.3, "c": 0.5}
    memory = Soup(experts, trainable_keys=TRAINABLE)
    assert memory.initialisation is None
    ours, theirs = soup.state_dict(lam), memory.state_dict(lam)
    assert ours.keys() == theirs.keys()
    assert all(same_bits(ours[key], theirs[key]) for key in ours)
    named = Soup.load({"x": paths[0], "y": paths[1]})
    assert named.names == ["x", "y"]


def edited(experts: dict[str, dict[str, Tensor]], key: str, value: Tensor | None) -> dict[str, dict[str, Tensor]]:
    changed = {k: v for k, v in experts["b"].items() if k != key}
    return experts | {"b": changed if value is None else changed | {key: value}}


def test_load_refuses_strangers(tmp_path: Path) -> None:
    experts = states(2)
    first = write_ingredient(tmp_path / "a", experts["a"], info(experts["a"], "a"))

    def refuse(message: str, state: dict[str, Tensor] = experts["b"], **changes: object) -> None:
        second = write_ingredient(tmp_path / "b", state, info(state, **({"expert": "b"} | changes)))
        with pytest.raises(RslitError, match=message) as caught:
            Soup.load([first, second])
        assert str(first) in str(caught.value)
        assert str(second) in str(caught.value)
        assert "\n" not in str(caught.value)

    refuse("strangers: they started from different initialisations", initialisation=fingerprint({}))
    refuse("different tasks", task="rslit.modules.Other")
    refuse(r"train different weights \('0.bias'\)", trainable_keys=TRAINABLE[1:])
    refuse("both called 'a'", expert="a")
    refuse("are the same weights", state=experts["a"])
    refuse("shapes of '0.bias' differ: .*8.* in expert 'a'", edited(experts, "0.bias", torch.zeros(9))["b"])
    refuse("frozen buffer 'count' differs", edited(experts, "count", torch.tensor(8))["b"])
    refuse("different keys", edited(experts, "count", None)["b"])
    half = {key: tensor.bfloat16() if key in TRAINABLE else tensor for key, tensor in experts["b"].items()}
    refuse("dtypes of '0.bias' differ: torch.float32 in", half)
    with pytest.raises(RslitError, match="are the same weights"):
        Soup.load({"a": first, "b": first})
    with pytest.raises(RslitError, match="at least one ingredient"):
        Soup.load([])
    with pytest.raises(RslitError, match="give a list of ingredients"):
        Soup.load(str(first))


def test_constructor_refuses() -> None:
    experts = states(2)
    nan_moved = edited(experts, "mean", torch.tensor([0.5, 0.0]))
    cases: list[tuple[dict[str, dict[str, Tensor]], dict[str, object], str]] = [
        ({}, {}, "at least one expert"),
        ({"a": {}}, {}, "at least one expert"),
        (experts, {"trainable_keys": ["gone"]}, "expert 'a' has no weight 'gone'"),
        (experts, {"trainable_keys": []}, "expert 'a' has no floating weight"),
        (experts, {"trainable_keys": ["count"]}, "'count' has dtype torch.int64, which cannot be interpolated"),
        (experts | {"c": {"x": torch.zeros(1)}}, {}, "expert 'a' and expert 'c' have no weight in common"),
        (experts | {"c": experts["a"]}, {}, "expert 'a' and expert 'c' are the same weights"),
        (edited(experts, "new", torch.zeros(1)), {}, r"different keys \('new'\)"),
        (edited(experts, "count", torch.tensor(7.0)), {"trainable_keys": TRAINABLE}, "dtypes of 'count' differ"),
        (nan_moved, {"trainable_keys": TRAINABLE}, "frozen buffer 'mean' differs between expert 'a' and expert 'b'"),
    ]
    for given, arguments, message in cases:
        with pytest.raises(RslitError, match=message):
            Soup(given, **arguments)  # type: ignore[arg-type]
    assert "mean" in Soup(nan_moved).trainable_keys
