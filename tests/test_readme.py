"""What README tells a newcomer to type is run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from diffusers import DiffusionPipeline
from peft import PeftModel
from tiny_pipelines import save_pipeline
from toy_experiment import fit
from toy_runs import fit_config, run_config
from toy_text import fit_text
from toy_vision_runs import fit_vision
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoTokenizer

from rslit.cli import main
from rslit.demo.run_folder import open_run
from rslit.scenes import World, write_world
from rslit.soup import Ingredient

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


_BASH = "\n".join(blocks("bash")).replace("\\\n", " ")
COMMANDS = [shlex.split(line, comments=True) for line in _BASH.splitlines() if line.startswith("rslit ")]


@pytest.fixture
def after_make_soup(experiment: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks as `make soup` leaves it, on the point environment."""
    for stage in ("pretrain", "risky", "cautious", "morl"):  # other tests sweep in that folder too
        shutil.copytree(experiment["root"] / stage, tmp_path / "runs" / "halfcheetah" / stage)
    monkeypatch.chdir(tmp_path)
    run = ["--config", str(experiment["sweep.yaml"]), "--trainer.default_root_dir", "runs/halfcheetah/sweep"]
    assert main(["validate", *run]) == 0
    return tmp_path


def test_make_targets_exist() -> None:
    targets = re.findall(r"^make ([\w-]+)", "\n".join(blocks("bash")), re.MULTILINE)
    runs = {
        "soup": "rslit recipe configs/locomotion/halfcheetah/recipe.yaml",
        "soup-review": "rslit recipe configs/text/movie_review/small/recipe.yaml",
        "soup-news": "rslit recipe configs/text/news_summary/small/recipe.yaml",
        "soup-captioning": "rslit recipe configs/captioning/small/recipe.yaml",
        "soup-vqa": "rslit recipe configs/vqa/small/recipe.yaml",
        "soup-grounding": "rslit recipe configs/grounding/small/recipe.yaml",
        "soup-images": "rslit recipe configs/text_to_image/small/recipe.yaml",
        "test": "pytest",
    }
    assert targets == list(runs)
    for target, command in runs.items():
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert command in done.stdout


def test_commands(after_make_soup: Path) -> None:
    assert [c[1] for c in COMMANDS] == ["soup", "front", "front", "demo", "soup", "soup", "soup"]
    for command in COMMANDS:
        if command[1] == "demo":  # would serve until it is stopped; tests/demo do that
            assert open_run(Path(command[2])).scores.points
        elif not any(task in command[3] for task in ("movie_review", "captioning", "text_to_image")):
            assert main(command[1:]) == 0
    assert Ingredient.load(after_make_soup / "runs/my-soup").info.config["soup"]
    assert (after_make_soup / "runs/my-front/front.html").is_file()
    assert "For the preference risky 0.7, cautious 0.3" in (after_make_soup / "runs/my-choice/front.html").read_text()


def test_soup_of_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command for language models, on tiny ones; PEFT loads what it writes."""
    (command,) = [c for c in COMMANDS if "movie_review" in " ".join(c)]

    def write(config: Mapping[str, object], name: str) -> Path:
        (tmp_path / name).write_text(yaml.safe_dump(dict(config), sort_keys=False))
        return tmp_path / name

    for expert, letter in (("faithful", "letter_e"), ("positive", "letter_a")):
        made = fit_text(write, tmp_path, expert, function=letter, trainer__callbacks=[called(expert)])
        shutil.copytree(made / "last", tmp_path / f"runs/movie_review/{expert}/ingredients/last")
    monkeypatch.chdir(tmp_path)
    assert main(command[1:]) == 0
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, command[command.index("--out") + 1])
    assert Ingredient.load("runs/my-adapter").info.trainable_keys == sorted(
        name for name, _ in adapted.named_parameters() if "lora_" in name
    )


def test_soup_of_captioners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command for images and language, on tiny ones; transformers loads what it writes."""
    (command,) = [c for c in COMMANDS if "captioning" in " ".join(c)]

    def write(config: Mapping[str, object], name: str) -> Path:
        (tmp_path / name).write_text(yaml.safe_dump(dict(config), sort_keys=False))
        return tmp_path / name

    for expert, seed in (("bleu1", 0), ("rouge", 1)):
        given = {"trainer__callbacks": [called(expert)], "seed_everything": seed, "trainer__max_epochs": 1}
        made = fit_vision("captioning", write, tmp_path, expert, **given)
        shutil.copytree(made / "last", tmp_path / f"runs/captioning/{expert}/ingredients/last")
    monkeypatch.chdir(tmp_path)
    assert main(command[1:]) == 0
    out = command[command.index("--out") + 1]
    ingredient = Ingredient.load("runs/captioning/bleu1/ingredients/last")
    kind = getattr(transformers, ingredient.info.config["base"]["class"])
    weights = dict(kind.from_pretrained(out).named_parameters(remove_duplicate=False))
    for key in ingredient.info.trainable_keys:
        other = Ingredient.load("runs/captioning/rouge/ingredients/last").tensor(key)
        torch.testing.assert_close(weights[key], (ingredient.tensor(key) + other) / 2)
    assert AutoImageProcessor.from_pretrained(out, backend="pil") is not None
    assert AutoTokenizer.from_pretrained(out).vocab_size


def test_soup_of_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command for images from prompts, on a tiny pipeline; diffusers loads what it writes."""
    (command,) = [c for c in COMMANDS if "text_to_image" in " ".join(c)]
    save_pipeline("pixel", tmp_path / "base")
    write_world(tmp_path / "world", World(12, 6, 1, 32))

    def write(config: Mapping[str, object], name: str) -> Path:
        (tmp_path / name).write_text(yaml.safe_dump(dict(config), sort_keys=False))
        return tmp_path / name

    source = {"class_path": "rslit.datamodules.KarpathyCaptions", "init_args": {"folder": str(tmp_path / "world")}}
    data = {"source": source, "batch_size": 4, "rollouts_per_epoch": 1, "eval_items": 1}
    model = {
        "policy": {"base": str(tmp_path / "base")},
        "reward": {"class_path": "rslit.rewards.ContrastReward"},
        "drawing": {"steps": 1, "rows": 1},
    }
    for expert, seed in (("contrast", 0), ("compressibility", 1)):
        config = run_config(
            {"class_path": "rslit.modules.TextToImageModule", "init_args": model},
            {"class_path": "rslit.datamodules.CaptionedImagesDataModule", "init_args": data},
            {"seed_everything": seed, "trainer__max_epochs": 1, "trainer__callbacks": [called(expert)]},
        )
        made = fit_config(write, config, tmp_path, expert)
        shutil.copytree(made / "last", tmp_path / f"runs/text_to_image/{expert}/ingredients/last")
    monkeypatch.chdir(tmp_path)
    assert main(command[1:]) == 0
    pipe = DiffusionPipeline.from_pretrained(command[command.index("--out") + 1])
    weights = dict(pipe.unet.named_parameters())
    one, two = (Ingredient.load(f"runs/text_to_image/{n}/ingredients/last") for n in ("contrast", "compressibility"))
    for key in one.info.trainable_keys:
        torch.testing.assert_close(weights[key], (one.tensor(key) + two.tensor(key)) / 2)


def called(expert: str) -> dict[str, object]:
    return {"class_path": "rslit.callbacks.SoupCallback", "init_args": {"expert": expert}}


def test_python(after_make_soup: Path) -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102  # our own README
    weights = names["weights"]
    assert isinstance(weights, dict)
    one, two = (
        Ingredient.load(f"runs/halfcheetah/{n}/ingredients/last").tensor("net.0.bias") for n in ("risky", "cautious")
    )
    torch.testing.assert_close(weights["net.0.bias"], 0.3 * one + 0.7 * two)


def test_yaml_of_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("yaml")
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "rewards.py").write_text(
        "from rslit.samples import Samples\nfrom torch import Tensor\n\n"
        "def smoothness(samples: Samples) -> Tensor:\n    return -samples['energy']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def write(config: dict[str, object], name: str) -> Path:
        (tmp_path / name).write_text(yaml.safe_dump(config, sort_keys=False))
        return tmp_path / name

    done = fit(write, tmp_path, "smooth", reward=yaml.safe_load(text)["reward"])
    assert Ingredient.load(done).info.reward == "smooth"


def test_links_and_verbs() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        file, _, part = target.partition("#")
        assert (ROOT / file).exists(), target
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE) if part else []
        assert not part or part in [heading.lower().replace(" ", "-") for heading in headings], target
    for verb in ("fit", "validate", "test", "predict", "soup", "front", "recipe", "demo"):
        assert f"`{verb}`" in README
