"""Every YAML file of captioning, VQA and grounding runs as its recipe runs it; the paper's values stand in them."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from config_kit import CONFIGS, VISION, label, load, rewards_of, run_recipe
from tiny_vision_configs import (
    SIZES,
    Run,
    VisionRuns,
    check_beyond,
    check_study_of_a_run,
    check_unchanged,
    name_of,
    start_of,
)
from tiny_vision_data import MODELS

from rslit.cli import main
from rslit.front import read_scores
from rslit.rewards import BoxHitReward
from rslit.scenes import area_limits
from rslit.soup import Ingredient, fingerprint
from rslit.vision import FlorenceBoxCodec

TASKS = ("captioning", "vqa", "grounding")
FOLDERS = [f"{task}/{size}" for task in TASKS for size in ("paper", "small")]
METRICS = ["bleu1", "bleu4", "rouge", "meteor", "cider"]
ENCODERS = ("encoder.*", "vision_model.*", "model.vision_tower.*")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisionRuns]:
    """The stages, each run when the first test asks for it; nothing is looked for on a hub."""
    import huggingface_hub.constants

    root = tmp_path_factory.mktemp("vision")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        # Where data/coco, models/scenes and the models that the files name are found.
        patch.chdir(root)
        yield VisionRuns(root)


def kind_of(path: Path) -> Callable[[Path, VisionRuns, Path], None] | None:
    """How a file is checked, by what is in it; None if nobody knows."""
    config = load(path)
    given = config.get("model", {}).get("init_args", {})
    if "stages" in config:
        return check_study_of_a_run if "run" in config["vars"] else check_recipe
    if "extrapolate" in given:
        return check_beyond
    if "lattice" in given:
        return check_sweep
    if set(config) == {"data"}:
        return check_data
    if set(config) == {"model"} and set(given) == {"reward"}:
        return check_overlay
    if {"model", "data"} <= set(config) and "policy" in given:
        return check_supervised if "reward" in given else check_expert
    return None


def check_training(run: Run) -> None:
    """One optimisation step from where the recipe says, with what the file says, and an evaluation."""
    last = run.ingredient()
    config = load(run.configs[0])["model"]["init_args"]
    assert last.info.step == 1
    assert last.info.initialisation == fingerprint(start_of(run))
    if run.name != "bleu4":  # random words hold no four of a reference in a row: a reward of 0, and nothing to learn
        assert fingerprint(last.state_dict()) != last.info.initialisation
    rewards = config.get("evaluation_rewards", [config.get("reward")])
    assert set(last.info.scores) == set(map(name_of, rewards))
    assert all(map(math.isfinite, last.info.scores.values()))
    base = run.options.get("model.init_args.policy.base", config["policy"]["base"])
    assert last.info.config["base"]["name"] == base
    assert base in MODELS or Path(base).parent.name in run.recipe.stages
    patterns = config["policy"].get("trained", ["*"])
    assert all(any(fnmatchcase(key, p) for p in patterns) for key in last.info.trainable_keys)
    seeing = [key for key in last.info.trainable_keys if any(fnmatchcase(key, p) for p in ENCODERS)]
    assert bool(seeing) == (patterns == ["*"]), "the image encoder is trained, or else frozen whole"
    check_unchanged(run)


def check_supervised(path: Path, runs: VisionRuns, _: Path) -> None:
    """Cross-entropy alone; the ingredient is called as the recipe's next stage calls it."""
    run = runs.of(path)
    check_training(run)
    config = load(path)
    assert run.ingredient().info.expert == config["trainer"]["callbacks"][0]["init_args"]["expert"]
    given = config["model"]["init_args"]
    assert (given["reinforce"], given["cross_entropy"]) == (0.0, 1.0)


def check_expert(path: Path, runs: VisionRuns, _: Path) -> None:
    """With the first of the rewards; what it starts from is written down, too."""
    run = runs.of(path)
    check_training(run)
    assert run.configs[0] == path
    assert run.configs[-1] in rewards_of(path)
    start = run.ingredient("initialisation")
    assert fingerprint(start.state_dict()) == run.ingredient().info.initialisation


def check_overlay(path: Path, runs: VisionRuns, _: Path) -> None:
    """A reward, or MORL's, on the expert.yaml beside it or above it."""
    run = runs.of(path)
    check_training(run)
    info, reward = run.ingredient().info, load(path)["model"]["init_args"]["reward"]
    assert info.reward == info.expert == name_of(reward) == path.stem == run.name
    if path.parent.name == "rewards":
        assert path.stem in info.scores
    else:
        weighed = reward["init_args"]
        names = list(map(name_of, weighed["rewards"]))
        assert info.config["mu"] == dict(zip(names, weighed["weights"], strict=True))
        assert set(names) <= set(info.scores)
        assert sum(weighed["weights"]) == pytest.approx(1, abs=1e-12)


def check_data(path: Path, runs: VisionRuns, _: Path) -> None:
    """The supervised stage and an expert on other data."""
    run = runs.of(path)
    for stage in (run, runs.stage(run.recipe, "bleu1")):
        assert path in stage.configs
        check_training(stage)


def check_recipe(path: Path, _: VisionRuns, root: Path) -> None:
    """With each of its data sets, if it has several."""
    data = sorted((path.parent / "data").glob("*.yaml"))
    for settings in [{"data": file.stem} for file in data] or [{}]:
        run_recipe(path, root, **settings)


def check_sweep(path: Path, runs: VisionRuns, root: Path) -> None:
    """The λ, the initialisation and MORL on the same items, the page, the front; then the soup as a model."""
    run = runs.of(path)
    check_unchanged(run)
    frame = read_scores(run.folder / "scores.parquet").frame
    given = load(path)["model"]["init_args"]
    points = {"soup": len(given["lattice"]) if isinstance(given["lattice"], list) else 3, "initialisation": 1}
    points |= {"morl": len(run.morl)} if run.morl else {}
    assert frame.groupby("kind")["point"].nunique().to_dict() == points
    rewards = load(run.configs[0])["model"]["init_args"]["module"]["init_args"]["evaluation_rewards"]
    items = frame["item"].nunique()
    assert 4 <= items <= SIZES["eval_items"]
    assert len(frame) == sum(points.values()) * items * len(rewards)
    some = [name_of(r) for r in rewards if r.get("init_args", {}).get("other_sizes") == "leave_out"]
    assert set(frame["reward"]) == set(map(name_of, rewards)) >= set(run.ingredients) | set(some)
    scored = frame[frame["score"].notna()]
    assert set(frame["reward"]) - set(scored["reward"]) == set()
    assert set(frame.loc[frame["score"].isna(), "reward"]) == set(some)
    assert set(scored[scored["reward"].isin(some)].groupby(["point", "item"]).size()) <= {1}, "an object has one size"
    assert {"index.html", "sheet.png"} <= {file.name for file in (run.folder / "samples").iterdir()}
    fronts = runs.after(run)
    assert fronts, "the recipe makes a front of it"
    for front in fronts:
        assert {"front.json", "front.html", "front.png"} <= {file.name for file in front.folder.iterdir()}
    check_export(run, root)


def check_export(run: Run, root: Path) -> None:
    """Plain transformers load the merged soup; its weights are the means of the experts', all else is the base's."""
    experts = run.ingredients
    lam = ",".join(f"{name}=1/{len(experts)}" for name in experts)
    command = ["soup", "--ingredients", *map(str, experts.values()), "--lam", lam, "--out"]
    assert main([*command, str(root / "model"), "--merged"]) == 0
    assert main([*command, str(root / "soup")]) == 0
    states = [Ingredient.load(path).state_dict() for path in experts.values()]
    soup = Ingredient.load(root / "soup")
    kind, name = (soup.info.config["base"][key] for key in ("class", "name"))
    found, base = (getattr(transformers, kind).from_pretrained(x).state_dict() for x in (root / "model", name))
    trained = soup.info.trainable_keys
    for key in trained:
        mean = torch.stack([state[key].double() for state in states]).mean(0)
        for weight in (found[key], soup.tensor(key)):
            torch.testing.assert_close(weight.double(), mean, rtol=1e-6, atol=1e-8)
    moved = [key for key in trained if not torch.equal(found[key], base[key])]
    assert len(moved) > len(trained) / 2
    shared = {found[key].data_ptr() for key in trained}  # tied weights have several names
    assert all(torch.equal(found[key], base[key]) for key in base if found[key].data_ptr() not in shared)
    loaders: tuple[Any, ...] = (transformers.AutoTokenizer, transformers.AutoImageProcessor)
    for loader, of in zip(loaders, ("get_vocab", "to_dict"), strict=True):
        assert getattr(loader.from_pretrained(root / "model"), of)() == getattr(loader.from_pretrained(name), of)()


@pytest.mark.parametrize("path", VISION, ids=label)
# After one step at the paper's rates experts differ in their last bits, of which float32 cannot hold a mean.
@pytest.mark.filterwarnings("ignore:storing this soup in float32 changes it")
def test_runs(path: Path, runs: VisionRuns, tmp_path: Path) -> None:
    kind = kind_of(path)
    assert kind is not None, f"{label(path)} is of no kind that this test knows how to run"
    kind(path, runs, tmp_path)


# -- what stands in the files -----------------------------------------------------------------------------------------


def model_of(name: str) -> dict[str, Any]:
    """The task's module in a file."""
    given = load(CONFIGS / name)["model"]["init_args"]
    found: dict[str, Any] = given.get("module", {}).get("init_args", given)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_one_policy_and_one_list_of_rewards(folder: str) -> None:
    """The same in supervised training, experts and sweep: else a soup is scored for what nothing was trained to be."""
    before = {"captioning/paper": [], "captioning/small": ["pretrain"]}.get(folder, ["supervised"])
    names = ["expert", "sweep", *before]
    expert, *others = (model_of(f"{folder}/{name}.yaml") for name in names)
    for other in others:
        for key in ("evaluation_rewards", "evaluation", "codec", "prompt"):
            assert other.get(key) == expert.get(key), key
    assert others[0]["policy"] == expert["policy"]
    # An evaluation leaves out what a training scores with 0: objects of other sizes.
    listed = {name_of(reward): copy.deepcopy(reward) for reward in expert["evaluation_rewards"]}
    sized = [r["init_args"].pop("other_sizes", None) for r in listed.values() if "init_args" in r]
    assert set(sized) == ({"leave_out"} if "grounding" in folder else {None})
    files = rewards_of(CONFIGS / folder / "expert.yaml")
    trained = {path.stem: load(path)["model"]["init_args"]["reward"] for path in files}
    assert trained == {name: listed[name] for name in trained}
    assert len(listed) - len(trained) == (0 if "captioning" in folder else 1), "and one to measure by"
    assert all(r in trained.values() for r in model_of(f"{folder}/morl.yaml")["reward"]["init_args"]["rewards"])
    fitted, swept = (load(CONFIGS / folder / f"{name}.yaml")["data"]["init_args"].get("source") for name in names[:2])
    if swept is not None:
        swept["init_args"].pop("eval_split", None)
    assert swept == fitted


def test_captioning_as_in_table_2() -> None:
    config = load(CONFIGS / "captioning/paper/expert.yaml")
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    assert model["policy"]["trained"] == ["text_decoder.*"], "the image encoder is frozen"
    assert model["optimizer"]["class_path"] == "torch.optim.RAdam"
    assert model["optimizer"]["init_args"]["lr"] == 1e-5
    annealed = {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.8}}
    assert model["lr_scheduler"] == annealed
    assert (data["batch_size"], trainer["accumulate_grad_batches"], trainer["max_epochs"]) == (18, 2, 6)
    assert (model["sampling"]["samples"], model["sampling"]["baseline"]) == (5, "leave_one_out")
    assert not {"reinforce", "cross_entropy", "minibatches"} & set(model), "self-critical training alone"
    assert data["source"]["class_path"] == "rslit.datamodules.KarpathyCaptions"
    assert list(map(name_of, model["evaluation_rewards"])) == METRICS
    for size in ("paper", "small"):
        *alone, together = load(CONFIGS / f"captioning/{size}/uniform.yaml")["model"]["init_args"]["lattice"]
        assert alone == [{name: 1.0} for name in METRICS]
        assert together == dict.fromkeys(METRICS, 0.2)


def test_vqa_as_in_table_5() -> None:
    config, supervised = (load(CONFIGS / f"vqa/paper/{name}.yaml") for name in ("expert", "supervised"))
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-5}}
    assert (data["batch_size"], config["trainer"]["max_epochs"]) == (32, 5)
    assert not {"trained", "lora"} & set(model["policy"]), "end to end"
    assert not {"reinforce", "cross_entropy", "minibatches"} & set(model), "REINFORCE alone"
    averaged = {"field": "answer", "references": "answers", "average": True}
    rewards = [load(path)["model"]["init_args"]["reward"] for path in rewards_of(CONFIGS / "vqa/paper/expert.yaml")]
    assert [reward["init_args"] for reward in rewards] == [{"n": 1, **averaged}, averaged]
    assert [reward["class_path"].rpartition(".")[2] for reward in rewards] == ["BleuReward", "MeteorReward"]
    for size, split in (("paper", 0.9), ("small", 0.5)):
        files = [load(CONFIGS / f"vqa/{size}/{name}.yaml") for name in ("supervised", "expert")]
        parts = [file["data"]["init_args"]["train_part"] for file in files]
        assert parts == [[0.0, split], [split, 1.0]], "held out for reinforcement learning"
    assert supervised["data"]["init_args"]["source"] == data["source"]


def test_grounding_as_in_table_4() -> None:
    config = load(CONFIGS / "grounding/paper/expert.yaml")
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 3e-5}}
    assert (8 * data["batch_size"], config["trainer"]["max_epochs"]) == (256, 10)
    assert not {"trained", "lora"} & set(model["policy"]), "end to end"
    assert (model["cross_entropy"], model["reinforce"]) == (1.0, 5.0)
    assert (model["sampling"]["samples"], model["sampling"]["baseline"]) == (1, "none")
    assert data["source"]["init_args"]["dataset"] == "refcoco+"
    assert len(FlorenceBoxCodec(**model["codec"].get("init_args", {})).locations) == 1000
    sizes = ["large", "medium", "small"]
    for size, limits in (
        ("paper", {}),
        ("small", dict(zip(("small_below", "large_from"), area_limits(64), strict=True))),
    ):
        files = rewards_of(CONFIGS / "grounding" / size / "expert.yaml")
        given = [load(path)["model"]["init_args"]["reward"]["init_args"] for path in files]
        assert given == [{"sizes": [name], **limits} for name in sizes]
    default = {name: p.default for name, p in inspect.signature(BoxHitReward).parameters.items()}
    assert (default["threshold"], default["small_below"], default["large_from"]) == (0.5, 30_000, 100_000)
    assert default["other_sizes"] == "zero"
