"""Exported soups of LoRA experts, read back by plain peft and transformers."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_kit import (
    Expert,
    adapters,
    base_folder,
    base_print,
    expert,
    experts,
    load,
    merged,
    prompts,
    states,
    wrap,
    write,
)
from peft import PeftModel
from safetensors.torch import load_file, save
from soup_kit import same_bits
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from rslit.cli import main
from rslit.errors import RslitError
from rslit.soup import (
    Ingredient,
    IngredientInfo,
    LoraStack,
    Soup,
    adapter_files,
    dtype_name,
    export_soup,
    fingerprint,
    fisher_mean,
    write_ingredient,
)

# peft reads a name that transformers 5.23 renames.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LAM = [0.3, 0.7]
TEXT = "a=0.3,b=0.7"
KINDS = ["llama", "gpt2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {kind: base_folder(kind, root, tie_word_embeddings=False) for kind in KINDS}


def written(root: Path, given: dict[str, Expert], base: Path, **options: Any) -> list[Path]:
    return [write(root, name, one, base, **options) for name, one in given.items()]


def named(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    return data


@torch.no_grad()
def assert_same(model: Any, reference: Any, tolerance: float = 1e-5) -> None:
    batch = prompts(4)
    seen = batch["attention_mask"].bool()
    found, expected = model.eval()(**batch).logits[seen], reference(**batch).logits[seen]
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(model.generate(**batch, **options), reference.generate(**batch, **options))


@pytest.mark.parametrize("space", ["factors", "delta"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_peft_folder_speaks_as_the_sweep_does(
    tmp_path: Path, folders: dict[str, Path], kind: str, space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, base, out = experts(folders[kind], kind, 2), folders[kind], tmp_path / "poured"
    paths = [str(path) for path in written(tmp_path, given, base)]
    assert main(["soup", "--ingredients", *paths, "--lam", TEXT, "--out", str(out), "--space", space]) == 0
    assert "soup written to" in capsys.readouterr().out
    files = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    own = {"weights.safetensors", "ingredient.json"} if space == "factors" else {"soup.json"}
    assert {path.name for path in out.iterdir()} == files | own
    model = PeftModel.from_pretrained(load(base), out)
    assert model.peft_config["default"].r == (4 if space == "factors" else 8)
    assert_same(model, merged(base, given, LAM, space))
    stack = LoraStack(states(given), adapters(given), space)
    with stack.per_sample(load(base), torch.tensor([LAM])) as swept:
        assert_same(model, swept)
    # transformers finds the base by itself.
    assert_same(AutoModelForCausalLM.from_pretrained(out), merged(base, given, LAM, space))
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\ntags: [lora, rewarded-soups")
    assert f'base_model: "{base}"' in card
    assert f"- Space: {space} (" in card
    assert "| a | reward a | 3 | 3/10 | 0.3 |" in card
    assert "PeftModel.from_pretrained(base" in card
    assert "| a | 1.5 |" in card
    assert ("--space delta" in card) == (space == "delta")
    recipe = (named(out / "soup.json") if space == "delta" else named(out / "ingredient.json")["config"])["soup"]
    assert recipe["space"] == space
    assert recipe["lam"] == {"a": "3/10", "b": "7/10"}


def test_vertices_and_second_soups_in_factors(tmp_path: Path, folders: dict[str, Path]) -> None:
    given, base = experts(folders["llama"], "llama", 2), folders["llama"]
    paths = written(tmp_path, given, base)
    vertex = export_soup(paths, {"a": 1}, tmp_path / "vertex")
    saved = load_file(vertex / "adapter_model.safetensors")
    assert {key.replace(".weight", ".default.weight") for key in saved} == set(given["a"].state)
    for key, value in given["a"].state.items():
        assert same_bits(saved[key.replace(".default.", ".")], value)
        assert same_bits(Ingredient.load(vertex).tensor(key), value)
    half = export_soup(paths, {"a": 0.5, "b": 0.5}, tmp_path / "half")
    again = Soup.load([half, paths[1]])
    assert again.space == "factors"
    third = export_soup([half, paths[1]], {"half": Fraction(3, 5), "b": Fraction(2, 5)}, tmp_path / "third")
    assert_same(PeftModel.from_pretrained(load(base), third), merged(base, given, LAM, "factors"))


def test_delta_stacks_ranks_exactly(tmp_path: Path, folders: dict[str, Path]) -> None:
    base = folders["llama"]
    options: list[dict[str, Any]] = [
        {"r": 3, "lora_alpha": 5},
        {"r": 2, "use_rslora": True, "rank_pattern": {"v_proj": 5}, "alpha_pattern": {"layers.1.mlp.down_proj": 3}},
    ]
    models = zip("ab", (wrap(base, "llama", **given) for given in options), strict=True)
    given = {name: expert(model, seed, start=seed) for seed, (name, model) in enumerate(models)}
    paths = [write(tmp_path, name, one, base, start=name) for name, one in given.items()]
    out = export_soup(paths, {"a": 0.3, "b": 0.7}, tmp_path / "poured", space="delta")
    config = named(out / "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (5, 5, False)
    assert sorted(config["rank_pattern"].values()) == [8, 8]  # both v_proj
    assert_same(PeftModel.from_pretrained(load(base), out), merged(base, given, LAM, "delta"))
    with pytest.raises(RslitError, match="different initialisations"):
        export_soup(paths, {"a": 1}, tmp_path / "other")
    # It is no ingredient, but known as ours: it may be replaced by either kind.
    with pytest.raises(RslitError, match=r"has no ingredient.json"):
        Ingredient.load(out)
    export_soup(paths, {"b": 1}, out, space="delta")
    assert named(out / "adapter_config.json")["r"] == 2
    export_soup(paths[:1], {"a": 1}, out)
    assert not (out / "soup.json").exists()


@pytest.mark.parametrize("space", ["factors", "delta"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_folder(tmp_path: Path, folders: dict[str, Path], kind: str, space: str) -> None:
    given, base, out = experts(folders[kind], kind, 2), folders[kind], tmp_path / "poured"
    paths = [str(path) for path in written(tmp_path, given, base)]
    arguments = ["soup", "--ingredients", *paths, "--lam", TEXT, "--out", str(out), "--space", space, "--merged"]
    assert main(arguments) == 0
    assert main(arguments) == 0  # over the first
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "README.md", "soup.json"}
    assert (out / "generation_config.json").exists()
    assert_same(AutoModelForCausalLM.from_pretrained(out), merged(base, given, LAM, space))
    sentence = "My friend and I had a fight last week"
    first, second = (AutoTokenizer.from_pretrained(path)(sentence)["input_ids"] for path in (out, base))
    assert first == second
    assert "library_name: transformers" in (out / "README.md").read_text()
    assert "--merged" in (out / "README.md").read_text()
    assert named(out / "soup.json")["soup"]["rounding_error"] < 1e-3


def test_merging_into_a_half_base_says_what_it_costs(tmp_path: Path, folders: dict[str, Path]) -> None:
    base = tmp_path / "half"
    load(folders["llama"], torch.bfloat16).save_pretrained(base)
    given = experts(base, "llama", 2)
    for one in given.values():
        one.state.update({key: 0.03 * value for key, value in one.state.items()})
    paths = written(tmp_path, given, base)
    with (
        pytest.warns(UserWarning, match="storing this soup in bfloat16 changes it: asked for lam a=0.3, b=0.7"),
        pytest.warns(UserWarning, match="half has no tokenizer to copy"),
    ):
        out = export_soup(paths, {"a": 0.3, "b": 0.7}, tmp_path / "poured", merged=True)
    layer = load_file(out / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    exact = merged(base, given, LAM, "factors").model.layers[0].self_attn.q_proj.weight
    assert same_bits(layer, exact.detach().bfloat16())
    assert named(out / "soup.json")["soup"]["rounding_error"] > 0.1


def full(root: Path, folder: Path, name: str, seed: int, **config: Any) -> tuple[Path, dict[str, Tensor]]:
    """A fully fine-tuned model as an ingredient."""
    generator = torch.Generator().manual_seed(seed)
    live = load(folder).named_parameters()
    state = {key: p.detach() + 0.05 * torch.randn(p.shape, generator=generator) for key, p in live}
    fields = ("rslit.modules.TextModule", f"reward {name}", 3, fingerprint({"start": torch.zeros(1)}))
    info = IngredientInfo(name, *fields, sorted(state), dtype_name(state, state), config=config)
    return write_ingredient(root / name, state, info), state


def test_merged_folder_of_fully_fine_tuned_experts(tmp_path: Path, folders: dict[str, Path]) -> None:
    base = {"base": {"name": str(folders["gpt2"]), "fingerprint": base_print(folders["gpt2"])}}
    both = [full(tmp_path, folders["gpt2"], name, seed, **base) for seed, name in enumerate("ab")]
    out = export_soup([path for path, _ in both], {"a": 0.3, "b": 0.7}, tmp_path / "poured", merged=True)
    reference = load(folders["gpt2"])
    mean = {key: 0.3 * value + 0.7 * both[1][1][key] for key, value in both[0][1].items()}
    assert not reference.load_state_dict(mean, strict=False).unexpected_keys
    assert_same(AutoModelForCausalLM.from_pretrained(out), reference)
    assert "- Space: weights\n" in (out / "README.md").read_text()
    kept = export_soup([path for path, _ in both], {"a": 0.5, "b": 0.5}, tmp_path / "kept")
    assert Ingredient.load(kept).info.config["base"] == base["base"]


def test_merging_into_another_base_of_the_same_shapes_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    base = {"base": {"name": str(folders["gpt2"]), "fingerprint": "sha256:of another"}}
    both = [full(tmp_path, folders["gpt2"], name, seed, **base)[0] for seed, name in enumerate("ab")]
    with pytest.raises(RslitError, match="is not the one the experts were trained on"):
        export_soup(both, {"a": 0.3, "b": 0.7}, tmp_path / "out", merged=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_refused(tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    baseless = [full(tmp_path, folders["gpt2"], name, seed)[0] for seed, name in enumerate("xy")]
    with pytest.raises(RslitError, match=r"x: names no base model \(config.base\) to merge into; export without"):
        export_soup(baseless, {"x": 1}, tmp_path / "out", merged=True)
    given = experts(folders["llama"], "llama", 2)
    gone = written(tmp_path / "gone", given, tmp_path / "nowhere")
    arguments = ["--ingredients", *map(str, gone), "--lam", TEXT, "--out", str(tmp_path / "out"), "--merged"]
    assert main(["soup", *arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(
        f"rslit: error: base model '{tmp_path / 'nowhere'}' of the ingredients cannot be loaded ("
    )
    other = written(tmp_path / "other", given, folders["gpt2"])
    with pytest.raises(RslitError, match=r"GPT2LMHeadModel has no layer 'model\.layers\.0\.mlp\.down_proj'"):
        export_soup(other, {"a": 1}, tmp_path / "out", merged=True)
    tied = base_folder("llama", tmp_path / "tied", tie_word_embeddings=True)
    heads = experts(tied, "llama", 2, target_modules=["lm_head"])
    with pytest.raises(RslitError, match="'lm_head' shares its weight with another layer of the base"):
        export_soup(written(tmp_path / "heads", heads, tied), {"a": 1}, tmp_path / "out", merged=True)
    assert not (tmp_path / "out").exists()


def test_adapter_files_are_those_of_save_pretrained(tmp_path: Path, folders: dict[str, Path]) -> None:
    model = wrap(folders["llama"], "llama", rank_pattern={"v_proj": 2})
    model.save_pretrained(tmp_path / "theirs")
    trained = {key: value for key, value in model.state_dict().items() if "lora_" in key}
    files = adapter_files(trained | {"value_head.weight": torch.ones(1)}, model.peft_config["default"].to_dict())
    (tmp_path / "ours").mkdir()
    for name, content in files.items():
        (tmp_path / "ours" / name).write_bytes(content)
    ours, theirs = (load_file(tmp_path / who / "adapter_model.safetensors") for who in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(same_bits(value, theirs[key]) for key, value in ours.items())
    first, second = (named(tmp_path / who / "adapter_config.json") for who in ("ours", "theirs"))
    unordered = {"target_modules": sorted(second["target_modules"])}
    assert first == second | unordered


def test_fisher_weighs_the_factors_and_refuses_what_is_no_average_of_them(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = experts(folders["llama"], "llama", 2)
    paths = written(tmp_path, given, folders["llama"])
    generator = torch.Generator().manual_seed(0)
    fishers = {
        path.name: {
            key: torch.rand(t.shape, generator=generator) for key, t in Ingredient.load(path).state_dict().items()
        }
        for path in paths
    }
    for path in paths:
        (path / "fisher.safetensors").write_bytes(save(fishers[path.name]))
    command = ["soup", "--ingredients", *map(str, paths), "--lam", TEXT, "--out", str(tmp_path / "out"), "--fisher"]
    assert main(command) == 0
    lam = {name: Fraction(value).limit_denominator(10) for name, value in zip("ab", LAM, strict=True)}
    expected = fisher_mean(states(given), list(fishers["a"]), lam, fishers)
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for key, tensor in expected.items():
        assert same_bits(saved[key.replace(".default.weight", ".weight")], tensor)
    for option in (["--merged"], ["--space", "delta"]):
        assert main([*command, *option]) == 2
        assert "--fisher averages the experts' own weights; leave out --merged" in capsys.readouterr().err
