"""Soups of LoRA experts: spaces, what belongs together, and the adapters that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lora_kit import KEY, Expert, adapters, base_folder, expert, experts, states, wrap, write
from soup_kit import info, mlp, same_bits

from rslit.errors import RslitError
from rslit.soup import LoraStack, Soup, is_poured, write_ingredient
from rslit.soup.adapters import lora_layers

# peft reads a name that transformers 5.23 renames.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LAM = {"a": 0.3, "b": 0.7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture
def pair(folder: Path) -> dict[str, Expert]:
    return experts(folder, "llama", 2)


def test_factors_pour_into_the_policy(tmp_path: Path, folder: Path, pair: dict[str, Expert]) -> None:
    soup = Soup.load([write(tmp_path, name, one, folder) for name, one in pair.items()])
    assert soup.space == "factors"
    assert soup.adapters == adapters(pair)
    model = wrap(folder, "llama")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with soup.at(LAM, model):
        assert is_poured(model)
        live = model.state_dict()
        for key, value in pair["a"].state.items():
            torch.testing.assert_close(live[key], 0.3 * value + 0.7 * pair["b"].state[key], rtol=1e-6, atol=1e-7)
    assert all(same_bits(value, before[key]) for key, value in model.state_dict().items())
    for name, one in pair.items():
        poured = soup.state_dict({name: 1})
        assert all(same_bits(poured[key], value) for key, value in one.state.items())


def test_a_soup_in_delta_is_not_poured(tmp_path: Path, folder: Path, pair: dict[str, Expert]) -> None:
    soup = Soup(states(pair), adapters=adapters(pair), space="delta")
    assert soup.space == "delta"
    model = wrap(folder, "llama")
    acts: list[Any] = [
        lambda: soup.pour(LAM, dict(model.named_parameters())),
        lambda: soup.state_dict({"a": 1}),
        lambda: soup.stream(LAM, tmp_path / "x"),
        lambda: soup.report(LAM),
        lambda: soup.at(LAM, model).__enter__(),
    ]
    for act in acts:
        with pytest.raises(RslitError, match=r"space delta has a higher rank .* evaluate it per sample .* export it"):
            act()
    assert not (tmp_path / "x").exists()
    assert not is_poured(model)


def test_layers_have_pefts_ranks_and_scalings(folder: Path) -> None:
    """PEFT's own layers say what rank and scaling a config gives them."""
    cases: list[dict[str, Any]] = [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.v_proj": 5}},
        {"rank_pattern": {r"^model\.layers\.0.*": 3, "q_proj": 5}, "use_rslora": True},
        {"target_modules": r".*\.(o|k)_proj", "lora_alpha": 1},
    ]
    for options in cases:
        one = expert(wrap(folder, "llama", **options), 0)
        layers = lora_layers(one.state, one.adapter, "it")
        assert {path: layer.scaling for path, layer in layers.items()} == one.scalings
        ranks = {path: one.state[KEY.format(path, "A")].shape[0] for path in layers}
        assert {path: layer.rank for path, layer in layers.items()} == ranks


def test_what_does_not_belong_together(tmp_path: Path, folder: Path, pair: dict[str, Expert]) -> None:
    a = write(tmp_path, "a", pair["a"], folder)
    b = write(tmp_path, "b", pair["b"], folder)
    other_start = write(tmp_path, "c", pair["b"], folder, start="elsewhere")
    other_base = write(tmp_path, "d", pair["b"], folder, print_of="another")
    baseless = write(tmp_path, "e", pair["b"], folder, config={"adapter": pair["b"].adapter})
    twin = write(tmp_path, "f", pair["a"], folder)
    plain_state = mlp().state_dict()
    plain = write_ingredient(tmp_path / "p", plain_state, info(plain_state, "p"))
    with pytest.raises(
        RslitError, match=r"different initialisations .* train both from the same one or use space delta"
    ):
        Soup.load([a, other_start])
    assert Soup.load([a, other_start], space="delta").initialisation is None
    assert Soup.load([a, b], space="delta").initialisation is not None
    for space in (None, "factors", "delta"):
        with pytest.raises(RslitError, match=f"{other_base} are adapters of different bases .*{folder}"):
            Soup.load([a, other_base], space=space)
        with pytest.raises(RslitError, match=r"e: has an adapter but names no base \(config.base\)"):
            Soup.load([a, baseless], space=space)
        with pytest.raises(RslitError, match="are the same weights"):
            Soup.load([a, twin], space=space)
        with pytest.raises(RslitError, match="expert 'a' is LoRA, expert 'p' is not"):
            Soup.load([plain, a], space=space)
    with pytest.raises(RslitError, match="space 'weights': LoRA experts are interpolated in space factors or delta"):
        Soup.load([a, b], space="weights")
    with pytest.raises(RslitError, match="space 'delta': experts that are not LoRA are interpolated in space weights"):
        Soup.load([plain], space="delta")
    with pytest.raises(RslitError, match="space 'product'"):
        LoraStack(states(pair), adapters(pair), "product")
    with pytest.raises(RslitError, match="expert 'b' has no adapter config"):
        LoraStack(states(pair), {"a": pair["a"].adapter})


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"r": 5}, "rank of 'model.layers.0.mlp.down_proj' is 4 in expert 'a'.* but 5 in expert 'b'"),
        ({"lora_alpha": 7}, "scaling of .* is 1.5 in expert 'a'.* but 1.75 in expert 'b'"),
        ({"use_rslora": True}, "scaling of .* is 1.5 in expert 'a'.* but 3 in expert 'b'"),
        ({"alpha_pattern": {"layers.1.mlp.down_proj": 2}}, "scaling of 'model.layers.1.mlp.down_proj' is 1.5"),
    ],
)
def test_factors_need_one_rank_and_scaling(
    tmp_path: Path, folder: Path, pair: dict[str, Expert], options: dict[str, Any], what: str
) -> None:
    both = {"a": pair["a"], "b": expert(wrap(folder, "llama", **options), 1)}
    paths = [write(tmp_path, name, one, folder) for name, one in both.items()]
    with pytest.raises(RslitError, match=what + ".* or use space delta") as caught:
        Soup.load(paths)
    assert "\n" not in str(caught.value)
    with pytest.raises(RslitError, match=r"one rank, lora_alpha and use_rslora"):
        LoraStack(states(both), adapters(both), "factors")
    assert Soup.load(paths, space="delta").space == "delta"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_dora": True}, "adapter config has 'use_dora' .True., which LoRA soups do not cover; train plain LoRA"),
    ({"lora_bias": True}, "'lora_bias'"),
    ({"bias": "lora_only"}, "'bias' .'lora_only'."),
    ({"modules_to_save": ["lm_head"]}, "'modules_to_save'"),
    ({"target_parameters": ["experts.up_proj"]}, "'target_parameters'"),
    ({"trainable_token_indices": [1, 2]}, "'trainable_token_indices'"),
    ({"layer_replication": [[0, 1], [0, 2]]}, "'layer_replication'"),
    ({"alora_invocation_tokens": [5]}, "'alora_invocation_tokens'"),
    ({"velora_config": {"num_groups": 2}}, "'velora_config'"),
    ({"kasa_config": {"beta": 1e-4}}, "'kasa_config'"),
    ({"use_bdlora": {"nblocks": 2}}, "'use_bdlora'"),
    ({"arrow_config": {"top_k": 2}}, "'arrow_config'"),
    ({"use_qalora": True}, "'use_qalora'"),
    ({"something_new": 1}, "'something_new'"),
    ({"init_lora_weights": "pissa"}, "'init_lora_weights' is 'pissa', which changes the base model"),
    ({"init_lora_weights": "mica"}, "'init_lora_weights' is 'mica'"),
    ({"peft_type": "LOHA"}, "is a LOHA adapter; soups cover plain LoRA"),
    ({"r": 8}, "rank of 'model.layers.0.mlp.down_proj' is 8 in the adapter config but 4 and 4 in its weights"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[next(iter(c)) for c, _ in REFUSED])
def test_adapters_beyond_plain_lora_are_refused(
    tmp_path: Path, folder: Path, pair: dict[str, Expert], changes: dict[str, Any], message: str
) -> None:
    pair["b"].adapter.update(changes)
    paths = [write(tmp_path, name, one, folder) for name, one in pair.items()]
    for space in ("factors", "delta"):
        with pytest.raises(RslitError, match=f"^expert 'b' .{paths[1]}.: .*{message}") as caught:
            Soup.load(paths, space=space)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        (
            "base_model.model.model.embed_tokens.lora_embedding_A.default",
            (4, 400),
            "is no LoRA factor of a linear layer",
        ),
        (
            "base_model.model.conv.lora_A.default.weight",
            (4, 3, 3, 3),
            r"has shape \(4, 3, 3, 3\); .* linear layers only",
        ),
        ("base_model.model.q.lora_magnitude_vector.default.weight", (4,), "is no LoRA factor"),
        ("base_model.model.score.modules_to_save.default.weight", (4, 4), "is no LoRA factor"),
        (
            "base_model.model.q.lora_A.default.weight",
            (4, 4),
            "lacks the weight 'base_model.model.q.lora_B.default.weight'",
        ),
    ],
)
def test_weights_beyond_plain_lora_are_refused(
    pair: dict[str, Expert], key: str, shape: tuple[int, ...], message: str
) -> None:
    extended = {name: state | {key: torch.ones(shape)} for name, state in states(pair).items()}
    for make in (lambda: Soup(extended, adapters=adapters(pair)), lambda: LoraStack(extended, adapters(pair), "delta")):
        with pytest.raises(RslitError, match=message):
            make()


def test_experts_with_lora_on_different_layers(pair: dict[str, Expert]) -> None:
    fewer = {key: value for key, value in pair["b"].state.items() if "v_proj" not in key}
    with pytest.raises(RslitError, match=r"expert 'a' and expert 'b' differ in having LoRA on '.*v_proj'"):
        LoraStack({"a": pair["a"].state, "b": fewer}, adapters(pair), "delta")
    with pytest.raises(RslitError, match="different keys"):
        Soup({"a": pair["a"].state, "b": fewer}, adapters=adapters(pair), space="delta")
