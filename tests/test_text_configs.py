"""Every YAML file under configs/text runs through the command line on tiny models; the paper's values stand in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from config_kit import CONFIGS, TEXT, check_study, label, load, rewards_of, run_recipe
from peft import PeftModel
from tiny_text_configs import SIZES, Runs, TinyHub, leaves
from toy_experiment import rslit_apart
from transformers import AutoModelForCausalLM

from rslit.cli import main
from rslit.front import read_scores
from rslit.rewards import ClassifierReward
from rslit.samples import Samples
from rslit.soup import Ingredient, fingerprint, lattice

PAPER = {task: CONFIGS / "text" / task / "paper" for task in sorted(p.name for p in (CONFIGS / "text").iterdir())}
SUMMARIES = ("news_summary", "reddit_summary")

# Name, template and formula of each reward model, and whether it reads the first sentence only: as the paper's code has
# them, but for the question, which there is empty in the tasks without "### Input:".
_QUESTION = "{question}{sep}{response}"
_REVIEW = "{cls}{question}{sep}{response}"
_BASE, _ELECTRA = "OpenAssistant/reward-model-deberta-v3-base", "OpenAssistant/reward-model-electra-large-discriminator"
_SUMMARY = [
    ("Tristan/gpt2_reward_summarization", "{response} {bos} {question}", "0", True),
    ("CogComp/bart-faithful-summary-detector", "{response}{sep}{sep}{question}", "1-0", True),
]
REWARDS = {
    "news_summary": _SUMMARY,
    "reddit_summary": _SUMMARY,
    "stack_exchange": [(_BASE, _QUESTION, "0", False), (_ELECTRA, _QUESTION, "0", False)],
    "movie_review": [(_BASE, _REVIEW, "0", False), (_ELECTRA, _REVIEW, "0", False)],
    "helpful_assistant": [
        ("OpenAssistant/reward-model-deberta-v3-large-v2", _QUESTION, "0", False),
        (_ELECTRA, _QUESTION, "0", False),
        ("theblackcat102/reward-model-deberta-v3-base-v2", _QUESTION, "0", False),
        (_BASE, _QUESTION, "0", False),
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The trainings, each made when the first test asks for it; nothing is looked for on a hub."""
    import datasets
    import huggingface_hub.constants

    root = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "datasets")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield Runs(root)


def kind_of(path: Path) -> Callable[[Path, Runs, Path], None] | None:
    """How a file is run, by what is in it; None if nobody knows."""
    config = load(path)
    given = config.get("model", {}).get("init_args", {})
    if "stages" in config:
        return run_study if "run" in config["vars"] else lambda path, _, root: run_recipe(path, root)
    if "extrapolate" in given:
        return run_beyond
    if "lattice" in given:
        return run_sweep
    if set(config) == {"model"} and set(given) == {"reward"}:
        return run_overlay
    if {"model", "data"} <= set(config) and "policy" in given and rewards_of(path):
        return run_expert
    return None


def run_expert(path: Path, runs: Runs, _: Path) -> None:
    """An expert with the first of its rewards: one optimisation step from the initialisation, an evaluation."""
    overlay = rewards_of(path)[0]
    run = runs.expert(path, overlay)
    start, last = (Ingredient.load(run / "ingredients" / name) for name in ("initialisation", "last"))
    given = load(path)["model"]["init_args"]
    assert last.info.step == 1
    assert last.info.initialisation == fingerprint(start.state_dict()) != fingerprint(last.state_dict())
    assert set(last.info.scores) == {reward["init_args"]["name"] for reward in given["evaluation_rewards"]}
    assert last.info.config["base"]["name"] == runs.hub.model(given["policy"]["base"])
    assert last.info.config["adapter"]["base_model_name_or_path"] == last.info.config["base"]["name"]
    assert last.info.config["adapter"]["lora_alpha"] == last.info.config["adapter"]["r"] == 16
    if "adapter" in given["policy"]:
        folder = Path(runs.hub.adapter(given["policy"]["adapter"], ""))
        saved = torch.load(folder / "adapter_model.bin", weights_only=True)
        for key, weight in start.state_dict().items():
            assert torch.equal(weight, saved[key.replace(".default", "")]), "the hub's adapter is where training starts"
    check_unchanged([path, overlay], run)


def run_overlay(path: Path, runs: Runs, _: Path) -> None:
    """A reward on the expert.yaml beside it or above it."""
    folder = path.parent.parent if path.parent.name == "rewards" else path.parent
    run = runs.expert(folder / "expert.yaml", path)
    info = Ingredient.load(run / "ingredients" / "last").info
    reward = load(path)["model"]["init_args"]["reward"]["init_args"]
    assert info.reward == reward["name"]
    if path.parent.name == "rewards":
        assert path.stem == reward["name"], "the file is called as its reward"
        assert reward["name"] in info.scores
    else:
        weighed = [r["init_args"]["name"] for r in reward["rewards"]]
        assert info.config["mu"] == dict(zip(weighed, reward["weights"], strict=True))
        assert set(weighed) == set(info.scores)
    check_unchanged([path], run)


def run_sweep(path: Path, runs: Runs, root: Path) -> None:
    """Three λ between the experts of the files beside it; the soup as a PEFT adapter; the front."""
    run = runs.sweep(path)
    names = [r.stem for r in rewards_of(path)]
    frame = read_scores(run / "scores.parquet").frame
    assert len(frame) == (3 + 1 + 1) * SIZES["eval_prompts"] * len(names)
    assert set(frame["reward"]) == set(names)
    assert frame["score"].notna().all()
    config = load(path)
    assert len(lattice(len(names), config["model"]["init_args"]["lattice"])) <= 40
    check_unchanged([path], run)
    assert (run / "samples" / "index.html").is_file()
    experts = [runs.expert(path.parent / "expert.yaml", r) / "ingredients" / "last" for r in rewards_of(path)]
    lam = ",".join(f"{name}=1/{len(names)}" for name in names)
    out = root / "soup"
    assert main(["soup", "--ingredients", *map(str, experts), "--lam", lam, "--out", str(out)]) == 0
    check_soup(out, experts, runs.hub.model(config["model"]["init_args"]["module"]["init_args"]["policy"]["base"]))
    front = ["front", str(run / "scores.parquet"), "--out", str(root / "front"), "--replicates", "20"]
    assert main(front) == 0


def run_study(path: Path, runs: Runs, root: Path) -> None:
    """All its stages, of runs of the recipe's files."""
    run_recipe(path, root)
    check_study(runs.study(path) / "front", {r.stem for r in rewards_of(path)})


def run_beyond(path: Path, runs: Runs, _: Path) -> None:
    """The λ of the file, outside [0, 1] too."""
    frame = read_scores(runs.study(path.parent / "study.yaml") / "beyond" / "scores.parquet").frame
    lams = load(path)["model"]["init_args"]["lattice"]
    assert frame.groupby("kind")["point"].nunique().to_dict() == {"soup": len(lams)}
    assert all(sum(lam.values()) == 1 and set(lam) == {r.stem for r in rewards_of(path)} for lam in lams)


def check_soup(out: Path, experts: list[Path], base: str) -> None:
    """Plain transformers and peft load the export; its factors are the means of the experts'."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(20, 30).unsqueeze(0)
    before = model(ids).logits
    model = PeftModel.from_pretrained(model, out)
    loaded = {key: weight for key, weight in model.named_parameters() if ".lora_" in key}
    states = [Ingredient.load(expert).state_dict() for expert in experts]
    assert set(loaded) == set(states[0])
    for key, weight in loaded.items():
        mean = torch.stack([state[key].double() for state in states]).mean(0)
        torch.testing.assert_close(weight.double(), mean, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(model(ids).logits, before, atol=1e-6)
    assert model.peft_config["default"].base_model_name_or_path == base


def check_unchanged(configs: list[Path], run: Path) -> None:
    """The run was the file's own, but for names, paths and sizes."""
    mine = {**SIZES, **dict.fromkeys(("base", "adapter", "model", "path", "eval_path", "lattice"))}
    done = leaves(yaml.safe_load((run / "config.yaml").read_text()))
    for keys, value in (item for config in configs for item in leaves(load(config)).items()):
        if keys[0] == "trainer" or keys[-1] in mine or "lattice" in keys:
            continue
        assert done[keys] == value, ".".join(keys)


@pytest.mark.parametrize("path", TEXT, ids=label)
def test_runs(path: Path, runs: Runs, tmp_path: Path) -> None:
    kind = kind_of(path)
    assert kind is not None, f"{label(path)} is of no kind that this test knows how to run"
    kind(path, runs, tmp_path)


@pytest.mark.slow
def test_two_devices(runs: Runs, tmp_path: Path) -> None:
    """The strategy that the paper's files ask for, which leaves its process group behind: in processes of their own."""
    path = PAPER["news_summary"] / "expert.yaml"
    args = runs.arguments([path, rewards_of(path)[0]], tmp_path / "run", devices=2, strategy="ddp")
    rslit_apart(tmp_path, "fit", *args, timeout=500)
    ingredient = Ingredient.load(tmp_path / "run" / "ingredients" / "last")
    assert ingredient.info.step == 1
    assert set(ingredient.info.scores) == {"summary", "faithful"}


def test_every_task_is_there() -> None:
    assert set(PAPER) == set(REWARDS)
    for folder in PAPER.values():
        files = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml") if path.parent == folder}
        assert files == {"expert.yaml", "morl.yaml", "recipe.yaml", "sweep.yaml"}
    assert load(PAPER["helpful_assistant"] / "sweep.yaml")["model"]["init_args"]["lattice"] == 4


@pytest.mark.parametrize("task", PAPER)
def test_the_papers_values(task: str) -> None:
    """Table 1, and what the paper's code sets that the table leaves out."""
    config = load(PAPER[task] / "expert.yaml")
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["policy"]["adapter"] == "tloen/alpaca-lora-7b"
    assert model["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 1.41e-5}}
    assert data["batch_size"] == 128
    assert data["batch_size"] // model["minibatches"] == 4
    assert model["sampling"] == {"min_new_tokens": 16, "max_new_tokens": 32, "stop_at_eos": False}
    assert model["kl"] == {"coefficient": 0.05 if task in SUMMARIES else 0.2, "target": 6.0, "horizon": 10_000}
    assert config["trainer"]["max_epochs"] == (2 if task == "news_summary" else 1)
    assert not {"gradient_clip_val", "precision"} & set(config["trainer"])
    assert config["trainer"]["strategy"] == "ddp"
    numbers = {"epochs": 4, "gamma": 1.0, "gae_lambda": 0.95, "clip": 0.2, "value_clip": 0.2, "value_coefficient": 0.1}
    assert {key: model[key] for key in numbers} == numbers
    assert data["source"]["class_path"] == f"rslit.datamodules.{task.title().replace('_', '')}"
    assert "init_args" not in data["source"], "the data set's own splits"
    assert (data["template"], data["prefix_tokens"], data["eval_prompts"]) == ("alpaca", [2, 7], 200)
    assert data.get("max_prompt_tokens") == (511 if task == "stack_exchange" else None)


@pytest.mark.parametrize("task", PAPER)
def test_the_papers_rewards(task: str) -> None:
    """One list, the same in the expert's evaluation, the overlays, MORL and the sweep."""
    folder = PAPER[task]
    rewards = load(folder / "expert.yaml")["model"]["init_args"]["evaluation_rewards"]
    given = [reward["init_args"] for reward in rewards]
    found = [(g["model"], g["template"], g["formula"], g.get("first_sentence", False)) for g in given]
    assert found == REWARDS[task]
    named = {reward["init_args"]["name"]: reward for reward in rewards}
    assert {r.stem: load(r)["model"]["init_args"]["reward"] for r in rewards_of(folder / "expert.yaml")} == named
    morl = load(folder / "morl.yaml")["model"]["init_args"]["reward"]["init_args"]
    assert morl["rewards"] == rewards
    assert morl["weights"] == [1 / len(rewards)] * len(rewards)
    expert, sweep = load(folder / "expert.yaml"), load(folder / "sweep.yaml")
    module = sweep["model"]["init_args"]["module"]["init_args"]
    assert module["evaluation_rewards"] == rewards
    assert module["policy"].items() <= expert["model"]["init_args"]["policy"].items()
    assert sweep["data"]["init_args"].items() <= expert["data"]["init_args"].items()


@pytest.mark.parametrize("task", PAPER)
def test_every_reward_reads_question_and_response(task: str, tmp_path: Path) -> None:
    hub = TinyHub(tmp_path)
    fields = {
        "question": ["How do I boil an egg?"] * 2 + ["Why not?"],
        "response": ["Hot water.", "Read.", "Hot water."],
    }
    samples = Samples(["a", "b", "c"], fields)
    for reward in load(PAPER[task] / "expert.yaml")["model"]["init_args"]["evaluation_rewards"]:
        given = reward["init_args"]
        values = ClassifierReward(**{**given, "model": hub.model(given["model"])})(samples)
        assert len(set(values.tolist())) == 3, given["name"]
