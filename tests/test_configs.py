"""Every YAML file under configs/ runs through the command line, at a size of a second.

Text is in test_text_configs.py, captioning, VQA and grounding in test_vision_configs.py, text-to-image in
test_diffusion_configs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from config_kit import CONFIGS, DIFFUSION, FILES, TEXT, VISION, label, load, rewards_of, run_recipe
from toy_experiment import rslit_apart

from rslit.cli import main
from rslit.front import read_scores
from rslit.soup import Ingredient

Kind = Callable[[Path, Path], None]


def kind_of(path: Path) -> Kind | None:
    """How a file is run, by what is in it; None if nobody knows."""
    config = load(path)
    model = config.get("model", {})
    given = model.get("init_args", {})
    if "stages" in config:
        return run_recipe
    if set(config) == {"trainer"} and set(config["trainer"]) <= {"strategy", "devices"}:
        return run_strategy
    if str(model.get("class_path")).endswith(".InterpolationEvaluator") or "lattice" in given:
        return run_sweep
    if set(config) == {"model"} and set(given) == {"reward"}:
        return run_overlay
    if set(config) == {"model"} and "optimizer" in given:
        return run_settings
    if "data" in config and "reward" in given:
        return run_complete
    if "data" in config and "env" in given and rewards_of(path):
        return run_complete
    return None


def tiny(root: Path, config: Mapping[str, Any]) -> list[str]:
    """An overlay that leaves the networks as they are and takes a handful of steps; Brax becomes the point."""
    model, data = config["model"], config["data"]["class_path"]
    task = model["init_args"].get("module", model)
    env = dict(task["init_args"]["env"])
    if env["class_path"] == "rslit.envs.BraxEnvironment":
        env = {"class_path": "toy_env.PointEnvironment"}
    env["init_args"] = {**env.get("init_args", {}), "episode_length": 12}
    # Without the warm-up of the critic, or the experts would still be the initialisation.
    small: dict[str, Any] = {"class_path": task["class_path"], "init_args": {"env": env, "critic_warmup": 0}}
    if task is not model:
        small = {"class_path": model["class_path"], "init_args": {"module": small}}
    sizes = {"num_envs": 8, "rollouts_per_epoch": 1, "eval_episodes": 4}
    root.mkdir(exist_ok=True)
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump({"model": small, "data": {"class_path": data, "init_args": sizes}}))
    return ["--config", str(path), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def fit(root: Path, *configs: Path, initialisation: Path | None = None) -> Path:
    """Trains for an epoch, evaluating once, and returns the ingredient."""
    args = ["fit", *(a for c in configs for a in ("--config", str(c))), *tiny(root, load(configs[0]))]
    args += ["--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"]
    if initialisation is not None:
        args += ["--model.init_args.initialisation", str(initialisation)]
    assert main([*args, "--trainer.default_root_dir", str(root)]) == 0
    return root / "ingredients" / "last"


def run_complete(path: Path, root: Path) -> None:
    """A run by itself, or an expert with the first of its rewards."""
    config = load(path)
    given = config["model"]["init_args"]
    overlays = [] if "reward" in given else rewards_of(path)[:1]
    ingredient = Ingredient.load(fit(root, path, *overlays))
    shapes = ingredient.shapes()
    layers = [2 * k for k in range(len(given["policy_layers"]))]  # an activation between any two
    widths = [shapes[f"net.{k}.bias"][0] for k in layers]
    assert widths == given["policy_layers"], "the file's own networks"
    names = {reward["init_args"]["name"] for reward in given["evaluation_rewards"]}
    assert set(ingredient.info.scores) == names


def run_overlay(path: Path, root: Path) -> None:
    """A reward on the expert.yaml beside it or above it."""
    folder = path.parent.parent if path.parent.name == "rewards" else path.parent
    ingredient = Ingredient.load(fit(root, folder / "expert.yaml", path))
    reward = load(path)["model"]["init_args"]["reward"]["init_args"]
    assert ingredient.info.reward == reward["name"]
    if path.parent.name == "rewards":
        assert path.stem == reward["name"], "the file is called as its reward"
    else:
        weighed = [r["init_args"]["name"] for r in reward["rewards"]]
        assert ingredient.info.config["mu"] == dict(zip(weighed, reward["weights"], strict=True))
        assert set(weighed) <= set(ingredient.info.scores)


def run_settings(path: Path, root: Path) -> None:
    """Hyper-parameters on the expert.yaml above them; the first are its own."""
    expert = path.parent.parent / "expert.yaml"
    fit(root, expert, rewards_of(expert)[0], path)
    done = yaml.safe_load((root / "config.yaml").read_text())["model"]["init_args"]
    given, own = load(path)["model"]["init_args"], load(expert)["model"]["init_args"]
    assert all(done[key] == value for key, value in given.items() if key != "optimizer")
    assert done["optimizer"]["init_args"].items() >= given["optimizer"]["init_args"].items()
    if path.stem == "1":
        assert given.items() <= {"entropy_coefficient": 1e-3, **own}.items()


def run_sweep(path: Path, root: Path) -> None:
    """A sweep between experts of the files beside it, from an initialisation of theirs; or an overlay of one."""
    folder = path.parent
    whole = path if "class_path" in load(path)["model"] else folder / "sweep.yaml"
    start = fit(root / "start", folder / "pretrain.yaml")
    made = {r.stem: fit(root / r.stem, folder / "expert.yaml", r, initialisation=start) for r in rewards_of(path)}
    morl = fit(root / "morl", folder / "expert.yaml", folder / "morl.yaml", initialisation=start)
    args = ["--config", str(whole), "--config", str(path), *tiny(root, load(whole))]
    args += ["--trainer.default_root_dir", str(root / "sweep")]
    for name, ingredient in made.items():
        args += [f"--model.init_args.ingredients.{name}", str(ingredient)]
    args += ["--model.init_args.initialisation", str(start), "--model.init_args.morl+", str(morl)]
    assert main(["validate", *args]) == 0
    frame = read_scores(root / "sweep" / "scores.parquet").frame
    lattice = load(path)["model"]["init_args"]["lattice"]
    soups = lattice + 1 if isinstance(lattice, int) else len(lattice)
    assert len(frame) == (soups + 1 + 1) * 4 * 2
    assert set(frame["reward"]) == set(made)


def run_strategy(path: Path, root: Path) -> None:
    """An overlay of an expert, in a process of its own: a strategy leaves its process group behind."""
    expert = CONFIGS / "locomotion" / "halfcheetah" / "expert.yaml"
    configs = [a for c in (expert, rewards_of(expert)[0], path) for a in ("--config", str(c))]
    one = ["--trainer.devices", "1", "--trainer.strategy.init_args.data_parallel_size", "1"]
    args = ["fit", *configs, *tiny(root, load(expert)), *one, "--trainer.max_epochs", "1"]
    rslit_apart(root, *args, "--trainer.default_root_dir", str(root))
    assert Ingredient.load(root / "ingredients" / "last").shapes()["net.0.weight"] == (256, 2)


def test_there_are_configs() -> None:
    assert len(FILES) >= 20
    assert {p.parent.name for p in FILES if p.name == "recipe.yaml"} >= {"halfcheetah", "humanoid"}


def cases() -> list[Any]:
    """A strategy needs a process of its own, which takes its time."""
    files = [path for path in FILES if path not in TEXT + VISION + DIFFUSION]
    slow = {path: [pytest.mark.slow] for path in files if kind_of(path) is run_strategy}
    return [pytest.param(path, id=label(path), marks=slow.get(path, [])) for path in files]


@pytest.mark.parametrize("path", cases())
# A point on a line has no bodies to draw, as the simulator that it stands for has.
@pytest.mark.filterwarnings("ignore:EpisodeCallback. PointEnvironment does not say where its bodies are")
def test_runs(path: Path, tmp_path: Path) -> None:
    kind = kind_of(path)
    assert kind is not None, f"{label(path)} is of no kind that this test knows how to run"
    kind(path, tmp_path)


def test_the_papers_sizes() -> None:
    """Table 6: interactions, learning rates and all else that it gives."""
    folder = CONFIGS / "locomotion" / "humanoid"
    for name, interactions, rate, entropy in (("pretrain", 5e8, 5e-5, 1e-3), ("expert", 1e8, 3e-5, 3e-3)):
        config = load(folder / f"{name}.yaml")
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        per_rollout = data["num_envs"] * model["unroll_length"]
        total = config["trainer"]["max_epochs"] * data["rollouts_per_epoch"] * per_rollout
        assert total == pytest.approx(interactions, rel=2e-3)
        assert model["optimizer"]["init_args"]["lr"] == rate
        assert model["entropy_coefficient"] == entropy
        assert model["env"]["init_args"] | {"backend": ""} == {
            "name": "humanoid",
            "backend": "",
            "episode_length": 1000,
        }
        assert (data["num_envs"], model["unroll_length"], model["gamma"], model["reward_scaling"]) == (
            4096,
            10,
            0.99,
            1,
        )
        assert (model["policy_layers"], model["value_layers"]) == ([512] * 6, [256] * 5)
        # A minibatch is 1024 unrolls, and an interaction is paid for with as many optimiser steps as in Brax's own
        # humanoid: 8 passes over 32 minibatches of 1024 unrolls of 10 steps.
        assert per_rollout == model["minibatches"] * 1024 * 10
        assert model["epochs"] * model["minibatches"] / per_rollout == 8 * 32 / (32 * 1024 * 10)


def test_a_file_of_no_known_kind_is_noticed(tmp_path: Path) -> None:
    for text in ("a: 1", "trainer: {max_epochs: 3}", "model: {class_path: x.Y, init_args: {gamma: 0.9}}"):
        (tmp_path / "odd.yaml").write_text(text)
        assert kind_of(tmp_path / "odd.yaml") is None


@pytest.mark.slow
# Brax 0.14.2 looks for contacts in the way of MuJoCo before 3.3; Python shows users no such warning of a library.
@pytest.mark.filterwarnings(r"ignore:Accessing `\w+` directly from `Data` is deprecated:DeprecationWarning")
def test_halfcheetah_on_brax_itself(tmp_path: Path) -> None:
    pytest.importorskip("brax")
    folder = CONFIGS / "locomotion" / "halfcheetah"
    args = ["--config", str(folder / "expert.yaml"), "--config", str(folder / "rewards" / "risky.yaml")]
    args += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    args += ["--data.init_args.num_envs", "8", "--data.init_args.rollouts_per_epoch", "1"]
    args += ["--data.init_args.eval_episodes", "4", "--model.init_args.env.init_args.episode_length", "6"]
    args += ["--trainer.check_val_every_n_epoch", "1", "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", *args]) == 0
    ingredient = Ingredient.load(tmp_path / "ingredients" / "last")
    assert ingredient.shapes()["net.0.weight"] == (256, 17)
    unroll = load(folder / "expert.yaml")["model"]["init_args"]["unroll_length"]
    assert float(ingredient.tensor("normaliser.count")) == 8 * unroll, "all observations seen"
    assert torch.isfinite(ingredient.tensor("normaliser.mean")).all()
    assert ingredient.info.scores["risky"] > ingredient.info.scores["cautious"]
