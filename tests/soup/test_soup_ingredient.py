from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from soup_kit import TRAINABLE, info, same_bits, states

from rslit.errors import RslitError
from rslit.soup import Ingredient, IngredientInfo, fingerprint, write_ingredient
from rslit.soup import storage as storage_module


def test_fingerprint_is_the_hash_of_what_it_says() -> None:
    state = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor(3, dtype=torch.int64)}
    expected = hashlib.sha256(
        b'["a", "int64", []]\n' + (3).to_bytes(8, "little") + b'["b", "float32", [2]]\n' + state["b"].numpy().tobytes()
    ).hexdigest()
    assert fingerprint(state) == f"sha256:{expected}"
    assert fingerprint(dict(reversed(state.items()))) == f"sha256:{expected}"
    strided = torch.tensor([[1.0, 0.0], [2.0, 0.0]])[:, 0].requires_grad_()
    assert fingerprint(state | {"b": strided}) == f"sha256:{expected}"


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, 2.5])},
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(0)},
    ],
)
def test_fingerprint_sees_every_difference(other: dict[str, torch.Tensor]) -> None:
    assert fingerprint({"a": torch.tensor([1.0, 2.0])}) != fingerprint(other)


def test_round_trip(tmp_path: Path) -> None:
    state = states(1)["a"]
    told = info(state, scores={"speed": 1.5, "length": math.nan}, config={"lr": 0.1, "nested": [1, None]})
    path = write_ingredient(tmp_path / "new" / "a", state, told, {"adapter_config.json": b"{}"})
    assert sorted(p.name for p in path.iterdir()) == ["adapter_config.json", "ingredient.json", "weights.safetensors"]
    assert json.loads((path / "ingredient.json").read_text())["scores"] == {"speed": 1.5, "length": None}
    read = Ingredient.load(path)
    assert math.isnan(read.info.scores.pop("length"))
    del told.scores["length"]
    assert read.info == told
    assert set(read.keys()) == set(state)
    assert all(same_bits(tensor, state[key]) for key, tensor in read.state_dict().items())
    assert read.shapes() == {key: tuple(tensor.shape) for key, tensor in state.items()}
    theirs = load_file(path / "weights.safetensors")
    assert all(same_bits(theirs[key], state[key]) for key in state)
    with pytest.raises(RslitError, match="has no tensor 'x'"):
        read.tensor("x")


def test_file_is_what_safetensors_writes(tmp_path: Path) -> None:
    dtypes = [torch.bfloat16, torch.float64, torch.bool, torch.int16, torch.uint8, torch.float16, torch.int32]
    state = {f'ключ "{i}"\n': torch.ones(2, 3).to(dtype) for i, dtype in enumerate(dtypes)}
    state |= {"w": torch.randn(5), "empty": torch.zeros(0, 4), "scalar": torch.tensor(1.0)}
    save_file(state, tmp_path / "theirs", metadata={"format": "pt"})
    told = info(states(1)["a"], trainable_keys=["w"], dtype="float32")
    path = write_ingredient(tmp_path / "ours", dict(reversed(state.items())), told)
    assert (path / "weights.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tied_and_strided_weights_are_written_whole(tmp_path: Path) -> None:
    tied = torch.randn(4, 6)
    state = {"embed": tied, "head": tied, "turned": tied.T}
    path = write_ingredient(tmp_path / "a", state, info(state, trainable_keys=["embed", "turned"]))
    read = Ingredient.load(path).state_dict()
    assert all(same_bits(read[key], state[key]) for key in state)


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    state = {"w": torch.randn(1000), "v": torch.randn(1000)}
    read = Ingredient.load(write_ingredient(tmp_path / "a", state, info(state | states(1)["a"], trainable_keys=["w"])))
    assert read.tensor("w").data_ptr() == read.tensor("w").data_ptr()
    assert read.tensor("w").data_ptr() - read.tensor("v").data_ptr() == 4000


def test_an_open_ingredient_keeps_its_weights_when_the_folder_is_replaced(tmp_path: Path) -> None:
    old, new = states(2).values()
    read = Ingredient.load(write_ingredient(tmp_path / "a", old, info(old)))
    write_ingredient(tmp_path / "a", new, info(new))
    assert all(same_bits(tensor, old[key]) for key, tensor in read.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainable_keys": []}, "trainable_keys is empty"),
        ({"trainable_keys": ["0.bias", "gone"]}, "trainable key 'gone' is not in the state"),
        ({"trainable_keys": ["count"]}, r"'count' has dtype torch.int64; only floats"),
        ({"trainable_keys": ["mean"]}, "weight 'mean' is not finite: training diverged"),
        ({"trainable_keys": ["0.bias", "0.bias"]}, "'trainable_keys' is .* distinct strings"),
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16' but the weights are 'float32'"),
        ({"expert": ""}, "'expert' is ''; it must be a non-empty string"),
        ({"step": -1}, "'step' is -1; it must be an integer of at least 0"),
        ({"step": True}, "'step' is True"),
        ({"initialisation": "md5:1"}, "'initialisation' is 'md5:1'; it must be a fingerprint"),
        ({"scores": {"r": math.inf}}, "'scores' is .* numbers by reward name"),
        ({"scores": {"r": "1"}}, "'scores' is .* numbers by reward name"),
        ({"config": {"f": object()}}, "'config' is not valid JSON"),
        ({"config": {"f": math.nan}}, "'config' is not valid JSON"),
        ({"config": {1: 2}}, "'config' is .* it must be an object"),
    ],
)
def test_refuses_to_write(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    state = states(1)["a"]
    with pytest.raises(RslitError, match=message) as caught:
        write_ingredient(tmp_path / "a", state, info(state, **changes))
    assert str(tmp_path / "a") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "sub/x", "ingredient.json", "weights.safetensors", "", ".."])
def test_refuses_extra_files(tmp_path: Path, name: str) -> None:
    state = states(1)["a"]
    with pytest.raises(RslitError, match="cannot be an extra file"):
        write_ingredient(tmp_path / "a", state, info(state), {name: b""})


def test_replaces_an_ingredient_and_nothing_else(tmp_path: Path) -> None:
    state = states(1)["a"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("x")
    for name, message in (("home", "holds something else"), ("file", "is a file")):
        with pytest.raises(RslitError, match=message):
            write_ingredient(tmp_path / name, state, info(state))
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years"
    (tmp_path / "empty").mkdir()
    for step in (1, 2):
        write_ingredient(tmp_path / "empty", state, info(state, step=step))
    assert Ingredient.load(tmp_path / "empty").info.step == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "home"]


def _truncate(path: Path) -> None:
    data = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(data[:-4])


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        data = json.loads((path / "ingredient.json").read_text()) | changes
        data = {key: value for key, value in data.items() if value != "drop"}
        (path / "ingredient.json").write_text(json.dumps(data))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "weights.safetensors").unlink(), "has no weights.safetensors"),
        (lambda p: (p / "ingredient.json").unlink(), "has no ingredient.json"),
        (lambda p: p.rename(p.with_name("b")), "no such folder"),
        (_truncate, "the file is damaged, write it again"),
        (lambda p: (p / "weights.safetensors").write_bytes(b""), "the file is damaged"),
        (lambda p: (p / "weights.safetensors").write_bytes(b"\xff" * 64), "the file is damaged"),
        (lambda p: (p / "ingredient.json").write_text("{"), "is not JSON"),
        (lambda p: (p / "ingredient.json").write_bytes(b"\xff\xfe"), "the file is damaged"),
        (lambda p: (p / "ingredient.json").write_text("[1]"), "holds no JSON object"),
        (_edit(step="drop"), "ingredient.json: lacks 'step'"),
        (_edit(colour="red"), "ingredient.json: has the unknown key 'colour'"),
        (_edit(step="10"), "ingredient.json: 'step' is '10'"),
        (_edit(trainable_keys=[*TRAINABLE, "9.weight"]), "lacks the trainable weight '9.weight'"),
    ],
)
def test_refuses_to_load(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    state = states(1)["a"]
    path = write_ingredient(tmp_path / "a", state, info(state))
    damage(path)
    with pytest.raises(RslitError, match=message) as caught:
        Ingredient.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _refuse(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["os.fsync", "Path.mkdir", "Path.rename"])
def test_a_refusing_disk_leaves_the_old_ingredient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    state = states(1)["a"]
    path = write_ingredient(tmp_path / "a", state, info(state, step=1))
    owner, name = call.split(".")
    monkeypatch.setattr(storage_module.os if owner == "os" else Path, name, _refuse(code))
    with pytest.raises(RslitError, match=f"{path}: cannot write: {os.strerror(code)}"):
        write_ingredient(path, state, info(state, step=2))
    monkeypatch.undo()
    assert Ingredient.load(path).info.step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_failing_second_rename_puts_the_old_ingredient_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = states(1)["a"]
    path = write_ingredient(tmp_path / "a", state, info(state, step=1))
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.name == ".a.new":
            raise OSError(errno.EIO, "broken")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(RslitError, match="cannot write: broken"):
        write_ingredient(path, state, info(state, step=2))
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert Ingredient.load(path).info.step == 1


def test_a_disk_that_fills_up_midway_leaves_the_old_ingredient(tmp_path: Path) -> None:
    """A real short write: the limit on the size of a file, which unlike a quota needs no mount."""
    state = {"w": torch.randn(100_000)}
    told = IngredientInfo("a", "t", "r", 1, fingerprint(state), ["w"], "float32")
    path = write_ingredient(tmp_path / "a", state, told)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(RslitError, match=f"{path}: cannot write: File too large"):
            write_ingredient(path, state, told)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert same_bits(Ingredient.load(path).tensor("w"), state["w"])
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_writer_that_died_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    state = states(1)["a"]
    path = write_ingredient(tmp_path / "a", state, info(state, step=1))
    path.rename(tmp_path / ".a.old")
    (tmp_path / ".a.new").mkdir()
    assert Ingredient.load(path).info.step == 1
    write_ingredient(path, state, info(state, step=2))
    assert Ingredient.load(path).info.step == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    # ... and with the old one still there after both renames, the new one counts.
    path.rename(tmp_path / ".a.new")
    write_ingredient(tmp_path / ".a.old", state, info(state, step=1))
    (tmp_path / ".a.new").rename(path)
    assert Ingredient.load(path).info.step == 2
