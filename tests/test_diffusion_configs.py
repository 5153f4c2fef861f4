"""Every YAML file of text-to-image runs as its recipe runs it; the paper's values stand in them; what is refused.

One file: all its tests look at the same stages, which are run once.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from config_kit import CONFIGS, DIFFUSION, label, load, rewards_of, run_recipe
from PIL import Image
from tiny_diffusion_configs import (
    PIPELINES,
    SDXL,
    SIZES,
    DiffusionRuns,
    check_unchanged,
    denoiser_of,
    start_of,
    write_head,
    write_hub,
)
from tiny_vision_configs import Run, check_beyond, check_study_of_a_run, name_of

from rslit.cli import main
from rslit.diffusion.image_folder import INDEX, REWARDS, image_text, read_index, read_rewards
from rslit.diffusion.load import quiet
from rslit.front import read_scores
from rslit.recipes import load_recipe
from rslit.soup import Ingredient, fingerprint

PAPER, SMALL = CONFIGS / "text_to_image/paper", CONFIGS / "text_to_image/small"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with all that the files name; nothing is looked for on a hub."""
    import huggingface_hub.constants

    root = tmp_path_factory.mktemp("text_to_image")
    write_hub(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.chdir(root)
        yield root


@pytest.fixture(scope="module")
def runs(hub: Path) -> DiffusionRuns:
    """The stages, each run when the first test asks for it."""
    return DiffusionRuns(hub)


def kind_of(path: Path) -> Callable[[Path, DiffusionRuns, Path], None] | None:
    """How a file is checked, by what is in it; None if nobody knows."""
    config = load(path)
    given = config.get("model", {}).get("init_args", {})
    if "stages" in config:
        return check_study_of_a_run if "run" in config["vars"] else check_recipe
    if "extrapolate" in given:
        return check_beyond
    if "lattice" in given:
        return check_sweep
    if set(config) == {"model"} and set(given) == {"reward"}:
        return check_overlay
    if not {"model", "data"} <= set(config):
        return None
    kinds = {
        "PromptDataModule": check_drawing,
        "CaptionedImagesDataModule": check_supervised,
        "GeneratedImagesDataModule": check_scoring if "rewards" in given else check_expert,
    }
    return kinds.get(config["data"]["class_path"].rpartition(".")[2])


def check_recipe(path: Path, _: DiffusionRuns, root: Path) -> None:
    """Names what is there."""
    run_recipe(path, root)


def check_drawing(path: Path, runs: DiffusionRuns, _: Path) -> None:
    """An image for each prompt, by the initialisation."""
    run = runs.of(path)
    check_unchanged(run)
    images = read_index(drawn_by(run))
    assert len({image.item for image in images}) == len({image.seed for image in images}) == SIZES["limit"]
    prompts = json.loads(Path(load(path)["data"]["init_args"]["prompts"]).read_text())["annotations"]
    assert {image.prompt for image in images} <= {entry["caption"] for entry in prompts}
    base = run.options.get("model.init_args.policy.base", load(path)["model"]["init_args"]["policy"]["base"])
    for image in images:
        text = image_text(image.path, decode=True)
        assert (text["prompt"], text["seed"], text["item"]) == (image.prompt, str(image.seed), image.item)
        assert (text["model"], text["lam"]) == (base, "initialisation")


def drawn_by(run: Run) -> Path:
    """The folder of images of a stage that draws."""
    return Path(run.options["trainer.callbacks.init_args.folder"])


def check_scoring(path: Path, runs: DiffusionRuns, _: Path) -> None:
    """A number for every image by every reward."""
    run = runs.of(path)
    check_unchanged(run)
    folder = Path(run.options["data.init_args.folder"])
    found = read_rewards(folder)
    assert list(found.index) == [image.item for image in read_index(folder)]
    assert list(found) == list(map(name_of, load(path)["model"]["init_args"]["rewards"]))
    assert not found.isna().to_numpy().any()
    trained = [name_of(load(file)["model"]["init_args"]["reward"]) for file in rewards_of(path)]
    assert (found[trained].nunique() > 1).all(), "rewards tell images apart"


def check_training(run: Run) -> None:
    """One optimisation step from the base, of what the file says, with the file's rewards at its end."""
    last = run.ingredient()
    config = load(run.configs[0])["model"]["init_args"]
    assert last.info.step == 1
    start = start_of(run)
    assert last.info.initialisation == fingerprint(start) != fingerprint(last.state_dict())
    assert set(last.info.scores) == set(map(name_of, config["evaluation_rewards"]))
    assert all(map(math.isfinite, last.info.scores.values()))
    base = run.options.get("model.init_args.policy.base", config["policy"]["base"])
    assert last.info.config["base"]["name"] == base
    assert base in PIPELINES or Path(base).parent.name in run.recipe.stages
    parameters = dict(denoiser_of(base).named_parameters())
    if config["policy"]["trained"] == "cross_attention":
        parameters = {key: p for key, p in parameters.items() if ".attn2." in key or p.ndim == 1}
    assert set(last.info.trainable_keys) == set(parameters)
    check_unchanged(run)


def check_supervised(path: Path, runs: DiffusionRuns, _: Path) -> None:
    """All weights, on captioned images; the ingredient is called as the recipe's next stage calls it."""
    run = runs.of(path)
    check_training(run)
    assert run.ingredient().info.expert == load(path)["trainer"]["callbacks"][0]["init_args"]["expert"]
    (export,) = runs.after(run)
    found, last = denoiser_of(str(export.folder / "model")).state_dict(), run.ingredient().state_dict()
    assert set(found) == set(last)
    assert all(torch.equal(found[key], value) for key, value in last.items()), "exported as a pipeline"


def check_expert(path: Path, runs: DiffusionRuns, _: Path) -> None:
    """With the first of the rewards; what it starts from is written down, too."""
    run = runs.of(path)
    check_training(run)
    assert run.configs[0] == path
    assert run.configs[-1] in rewards_of(path)
    start = run.ingredient("initialisation")
    assert fingerprint(start.state_dict()) == run.ingredient().info.initialisation


def check_overlay(path: Path, runs: DiffusionRuns, _: Path) -> None:
    """A reward, or MORL's, on the expert.yaml beside it or above it."""
    run = runs.of(path)
    check_training(run)
    info, reward = run.ingredient().info, load(path)["model"]["init_args"]["reward"]
    assert info.reward == info.expert == name_of(reward) == run.name
    if path.parent.name == "rewards":
        assert info.reward in info.scores
    else:
        weighed = reward["init_args"]
        names = list(map(name_of, weighed["rewards"]))
        assert info.config["mu"] == dict(zip(names, weighed["weights"], strict=True))
        assert set(names) <= set(info.scores)
        assert sum(weighed["weights"]) == pytest.approx(1, abs=1e-12)


def check_sweep(path: Path, runs: DiffusionRuns, root: Path) -> None:
    """The λ, the initialisation and MORL on the same prompts and seeds, the page, the front; then the soup itself."""
    run = runs.of(path)
    check_unchanged(run)
    frame = read_scores(run.folder / "scores.parquet").frame
    lattice = load(run.configs[-1])["model"]["init_args"]["lattice"]
    # Halves of two experts, thirds of three, or a list.
    soups = len(lattice) if isinstance(lattice, list) else {2: 3, 3: 10}[len(run.ingredients)]
    points = {"soup": soups, "initialisation": 1}
    points |= {"morl": len(run.morl)} if run.morl else {}
    assert frame.groupby("kind")["point"].nunique().to_dict() == points
    rewards = load(run.configs[0])["model"]["init_args"]["module"]["init_args"]["evaluation_rewards"]
    assert set(frame["reward"]) == set(map(name_of, rewards)) >= set(run.ingredients)
    assert len(frame) == sum(points.values()) * SIZES["eval_items"] * len(rewards)
    assert frame["score"].notna().all()
    page = run.folder / "samples"
    assert {"index.html", "sheet.png", "samples.jsonl", "images"} == {file.name for file in page.iterdir()}
    rows = [json.loads(line) for line in (page / "samples.jsonl").read_text().splitlines()]
    # An expert that also stands in MORL's front draws once.
    twice = set(run.morl) & set(run.ingredients.values())
    assert len(rows) == (sum(points.values()) - len(twice)) * SIZES["eval_items"]
    assert len({(row["item"], row["prompt"], row["seed"]) for row in rows}) == SIZES["eval_items"]
    for row in rows:
        text = image_text(page / row["file"], decode=True)
        assert (text["prompt"], text["seed"], text["lam"]) == (row["prompt"], str(row["seed"]), row["label"])
    fronts = runs.after(run)
    assert fronts, "the recipe makes a front of it"
    for front in fronts:
        assert {"front.json", "front.html", "front.png"} <= {file.name for file in front.folder.iterdir()}
    check_export(run, root)


def check_export(run: Run, root: Path) -> None:
    """Plain diffusers load the merged soup and draw; its weights are the experts' means, all else is the base's."""
    from diffusers import DiffusionPipeline

    experts = run.ingredients
    lam = ",".join(f"{name}=1/{len(experts)}" for name in experts)
    command = ["soup", "--ingredients", *map(str, experts.values()), "--lam", lam, "--out"]
    assert main([*command, str(root / "model"), "--merged"]) == 0
    assert main([*command, str(root / "soup")]) == 0
    states = [Ingredient.load(path).state_dict() for path in experts.values()]
    soup = Ingredient.load(root / "soup")
    name = soup.info.config["base"]["name"]
    pipe: Any = DiffusionPipeline.from_pretrained(root / "model")
    origin: Any = DiffusionPipeline.from_pretrained(name)
    found, base = pipe.unet.state_dict(), origin.unet.state_dict()
    trained = soup.info.trainable_keys
    for key in trained:
        mean = torch.stack([state[key].double() for state in states]).mean(0)
        for weight in (found[key], soup.tensor(key)):
            torch.testing.assert_close(weight.double(), mean, rtol=1e-6, atol=1e-8)
    moved = [key for key in trained if not torch.equal(found[key], base[key])]
    assert len(moved) > len(trained) / 2
    assert all(torch.equal(found[key], base[key]) for key in base if key not in trained)
    assert type(pipe) is type(origin)
    assert {k: type(v) for k, v in pipe.components.items()} == {k: type(v) for k, v in origin.components.items()}
    pipe.set_progress_bar_config(disable=True)
    # What diffusers' own schedulers warn of is no matter of the folder.
    with Image.open(run.folder / "samples" / "images" / "0000.png") as drawn, quiet():
        assert pipe("a red circle", num_inference_steps=2).images[0].size == drawn.size


@pytest.mark.parametrize("path", DIFFUSION, ids=label)
# After one step at the paper's rates experts differ in their last bits, of which float32 cannot hold a mean.
@pytest.mark.filterwarnings("ignore:storing this soup in float32 changes it")
def test_runs(path: Path, runs: DiffusionRuns, tmp_path: Path) -> None:
    kind = kind_of(path)
    assert kind is not None, f"{label(path)} is of no kind that this test knows how to run"
    kind(path, runs, tmp_path)


@pytest.mark.filterwarnings("ignore:storing this soup in float32 changes it")
def test_the_papers_files_run_on_sdxl(hub: Path, tmp_path: Path) -> None:
    """Images, rewards, experts, MORL, sweep, front, export: one option names the pipeline."""
    runs = DiffusionRuns(hub, SDXL)
    for name, check in {
        "generate": check_drawing,
        "score": check_scoring,
        "rewards/ava": check_overlay,
        "rewards/cafe": check_overlay,
        "morl": check_overlay,
        "sweep": check_sweep,
    }.items():
        check(PAPER / f"{name}.yaml", runs, tmp_path)
    assert runs.of(PAPER / "expert.yaml").ingredient().info.config["base"]["pipeline"] == "StableDiffusionXLPipeline"


# -- once more --------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file of a folder was written, and what is in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_drawing_goes_on_with_what_is_missing(runs: DiffusionRuns, tmp_path: Path) -> None:
    run = runs.of(PAPER / "generate.yaml")
    whole = {name: content for name, (_, content) in files_of(drawn_by(run)).items() if name != REWARDS}
    folder = tmp_path / "drawn"
    args = [*run.args, "--trainer.callbacks.init_args.folder", str(folder)]
    args += ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*args, "--trainer.limit_predict_batches", "1"]) == 0  # stopped early
    first = files_of(folder)
    assert (len(first), INDEX in first) == (SIZES["batch_size"], False)
    assert main(args) == 0
    found = files_of(folder)
    assert {name: content for name, (_, content) in found.items()} == whole
    assert {name: found[name] for name in first} == first, "what was there is not drawn again"
    assert main(args) == 0
    assert {name: found[name] for name in found if name != INDEX} == {
        name: entry for name, entry in files_of(folder).items() if name != INDEX
    }


def test_an_expert_again_is_the_same_byte_by_byte(runs: DiffusionRuns, tmp_path: Path) -> None:
    run = runs.of(PAPER / "rewards" / "ava.yaml")
    found = []
    for name in ("once", "again"):
        folder = tmp_path / "run"
        assert main([*run.args, "--trainer.default_root_dir", str(folder)]) == 0
        folder.rename(tmp_path / name)
        files = files_of(tmp_path / name / "ingredients")
        found.append({file: content for file, (_, content) in files.items()})
    assert found[0] == found[1]
    assert {"last/weights.safetensors", "last/ingredient.json"} <= set(found[0])


# -- what stands in the files -----------------------------------------------------------------------------------------


def task_of(path: Path) -> dict[str, Any]:
    """The task's module in a file."""
    given = load(path)["model"]["init_args"]
    found: dict[str, Any] = given.get("module", {}).get("init_args", given)
    return found


@pytest.mark.parametrize("folder", [PAPER, SMALL], ids=label)
@pytest.mark.usefixtures("hub")
def test_one_policy_and_one_list_of_rewards(folder: Path) -> None:
    """Else images are scored for what nobody trains on, or a soup for what nothing was trained to be."""
    expert, sweep, generate, score = (task_of(folder / f"{n}.yaml") for n in ("expert", "sweep", "generate", "score"))
    listed = {name_of(reward): reward for reward in expert["evaluation_rewards"]}
    others = [task_of(path) for path in [folder / "pretrain.yaml"] if path.exists()]
    for rewards in (score["rewards"], *(task["evaluation_rewards"] for task in (sweep, *others))):
        assert rewards == expert["evaluation_rewards"]
    assert sweep["policy"] == expert["policy"]
    assert generate["policy"]["base"] == expert["policy"]["base"]
    assert expert["policy"]["trained"] == {PAPER: "cross_attention", SMALL: "all"}[folder]
    for task in (sweep, generate, *others):
        assert task["drawing"] == expert["drawing"], "images of one kind throughout"
    trained = [load(path)["model"]["init_args"]["reward"] for path in rewards_of(folder / "expert.yaml")]
    assert len(trained) == 3
    assert all(listed[name_of(reward)] == reward for reward in trained)
    for path in folder.glob("morl*.yaml"):
        assert all(reward in trained for reward in load(path)["model"]["init_args"]["reward"]["init_args"]["rewards"])
    data = [load(folder / f"{name}.yaml")["data"]["init_args"] for name in ("expert", "sweep", "generate", "score")]
    assert data[0]["eval_prompts"] == data[1]["eval_prompts"] != data[2]["prompts"], "held out"
    assert data[0]["folder"] == data[3]["folder"]
    writer = load(folder / "generate.yaml")["trainer"]["callbacks"]
    assert writer["init_args"]["folder"] == data[0]["folder"], "also by hand, one stage goes on where another stopped"


@pytest.mark.usefixtures("hub")
def test_as_in_table_3() -> None:
    config = load(PAPER / "expert.yaml")
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    assert model["policy"]["trained"] == "cross_attention", "and biases and scales"
    assert model["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 5e-6}}
    assert "lr_scheduler" not in model
    assert trainer["devices"] == 1
    assert data["batch_size"] * trainer["accumulate_grad_batches"] == 64
    assert trainer["max_epochs"] == 25
    steps = trainer["max_epochs"] * data["rollouts_per_epoch"] / trainer["accumulate_grad_batches"]
    assert steps == 4000
    assert data["keep"] == 0.5
    generate, sweep = (load(PAPER / f"{name}.yaml")["data"]["init_args"] for name in ("generate", "sweep"))
    assert (generate["limit"], sweep["eval_items"]) == (10_000, 1_000)
    assert {Path(generate["prompts"]).name, Path(sweep["eval_prompts"]).name} == {
        "captions_train2014.json",
        "captions_val2014.json",
    }
    rewards = [load(path)["model"]["init_args"]["reward"] for path in rewards_of(PAPER / "expert.yaml")]
    assert list(map(name_of, rewards)) == ["ava", "cafe", "nsfw"]
    kinds = [reward["class_path"].rpartition(".")[2] for reward in rewards]
    assert kinds == ["AestheticReward", "ImageClassifierReward", "ClipSafetyReward"]
    assert load(PAPER / "uniform.yaml")["model"]["init_args"]["lattice"] % 3 == 0, "has the uniform average"


# -- what is refused --------------------------------------------------------------------------------------------------


def without_denoiser(run: Run, folder: Path, root: Path) -> list[str]:
    """A pipeline that makes embeddings, by a part of another name."""
    index = {"_class_name": "StableCascadePriorPipeline", "_diffusers_version": "0.42.1"}
    parts = {"prior": ["stable_cascade", "StableCascadeUNet"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    (root / "prior").mkdir()
    (root / "prior" / "model_index.json").write_text(json.dumps(index | parts))
    return ["--model.init_args.policy.base", str(root / "prior")]


def without_prompts(run: Run, folder: Path, root: Path) -> list[str]:
    (root / "empty.txt").write_text("\n \n")
    return ["--data.init_args.prompts", str(root / "empty.txt")]


def with_a_corrupt_image(run: Run, folder: Path, root: Path) -> list[str]:
    """The run was killed, and the disk was full."""
    for name in (INDEX, REWARDS):
        (folder / name).unlink()
    images = sorted((folder / "images").iterdir())
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:-60])
    return ["--trainer.callbacks.init_args.folder", str(folder)]


def with_rewards_that_are_equal(run: Run, folder: Path, root: Path) -> list[str]:
    frame = pd.read_parquet(folder / REWARDS)
    frame["ava"] = frame["ava"].mean().astype("float32")
    frame.to_parquet(folder / REWARDS)
    return ["--data.init_args.folder", str(folder)]


def with_a_head_of_another_clip(run: Run, folder: Path, root: Path) -> list[str]:
    reward = load(PAPER / "rewards/ava.yaml")["model"]["init_args"]["reward"]
    reward["init_args"]["head"] = str(write_head(root / "head.pth", 24))
    return ["--model.init_args.rewards", json.dumps([reward])]


@pytest.mark.parametrize(
    ("file", "spoil", "said"),
    [
        ("generate", without_denoiser, ["prior is a StableCascadePriorPipeline without a UNet or transformer"]),
        ("generate", without_prompts, ["data.prompts", "empty.txt has no prompts"]),
        ("generate", with_a_corrupt_image, ["drawn/images/", ".png is no image that can be read", "delete it and run"]),
        ("rewards/ava", with_rewards_that_are_equal, ["reward 'ava'", "have the reward", "nothing to rescale"]),
        ("score", with_a_head_of_another_clip, ["head.pth reads embeddings of 24 numbers", "gives 16"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_refused(
    file: str,
    spoil: Callable[[Run, Path, Path], list[str]],
    said: list[str],
    runs: DiffusionRuns,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run, scored = (runs.of(PAPER / f"{name}.yaml") for name in (file, "score"))
    folder = tmp_path / "drawn"
    shutil.copytree(scored.options["data.init_args.folder"], folder)
    args = [*run.args, *spoil(run, folder, tmp_path), "--trainer.default_root_dir", str(tmp_path / "run")]
    capfd.readouterr()
    assert main(args) == 2
    printed = capfd.readouterr()
    *before, line = printed.err.strip().splitlines()
    assert line.startswith("rslit: error: ")
    for part in said:
        assert part in line
    assert not any("Traceback" in other or "rslit: error" in other for other in before)


def test_recipes_have_a_stage_for_every_file() -> None:
    for folder in (PAPER, SMALL):
        recipes = {path: load_recipe(path) for path in folder.glob("*.yaml") if "stages" in load(path)}
        commands = [recipe.command(name, Path("root")) for recipe in recipes.values() for name in recipe.stages]
        named = {word for command in commands for word in command}
        for path in folder.rglob("*.yaml"):
            assert path in recipes or str(path) in named, label(path)
