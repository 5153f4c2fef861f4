"""Captioning, VQA and grounding on tiny models: pictures, batches, modules, rewards, runs through the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from tiny_vision import random_images, save_tiny_vision
from torch import Tensor
from toy_experiment import merge_dotted
from toy_text_runs import Rounds

from rslit.cli import main
from rslit.language import LoraOptions
from rslit.modules import CaptioningModule, GroundingModule, VqaModule
from rslit.modules.vision import VisionModule
from rslit.rewards import FunctionReward
from rslit.rollouts import RolloutLoader
from rslit.samples import Samples
from rslit.scenes import World, write_world
from rslit.vision.answers import AnswerDecoding, AnswerSampling
from rslit.vision.box_codecs import FlorenceBoxCodec
from rslit.vision.images import load_image
from rslit.vision.options import VisionOptions

TASKS = ("captioning", "vqa", "grounding")
KINDS = {"captioning": "vit-gpt2", "vqa": "blip-vqa", "grounding": "florence2"}
MODULES: dict[str, Any] = {"captioning": CaptioningModule, "vqa": VqaModule, "grounding": GroundingModule}
#: What is trained with the image encoder frozen.
TEXT_PARTS = {
    "captioning": ["decoder.*", "enc_to_dec_proj.*"],
    "vqa": ["text_encoder.*", "text_decoder.*"],
    "grounding": ["model.language_model.*", "model.multi_modal_projector.*"],
}
LORA = LoraOptions(r=2, alpha=4)
BINS = 16  # location tokens

CAPTIONS = ["The film is long", "A small firm", "my friend had a fight", "Read every day", "an egg", "Shares rose"]
QUESTIONS = ["What is it?", "Is the film boring?", "How long is it", "Who rose?", "a", "What is the best way to cut?"]
ANSWERS = ["yes", "no", "seven", "the firm", "egg", "taxes"]
EXPRESSIONS = ["the film", "a small firm", "hot water", "my friend on the left", "egg", "the best one"]
SIZE = (40, 30)
BOXES = [(0, 0, 20, 15), (10, 5, 40, 30), (2, 2, 38, 12), (20, 0, 40, 15), (0, 15, 10, 30), (5, 8, 25, 28)]

# -- rewards --------------------------------------------------------------------------------------------------------


def share(samples: Samples, letter: str) -> Tensor:
    """Share of a letter in what was said."""
    texts = samples["caption"] if "caption" in samples.fields else samples["answer"]
    return torch.tensor([text.count(letter) / max(len(text), 1) for text in texts])


def letter_e(samples: Samples) -> Tensor:
    return share(samples, "e")


def letter_a(samples: Samples) -> Tensor:
    return share(samples, "a")


class Recorder:
    """Keeps the samples it was asked about; row k is worth k² mod 7, as good as random.

    Args:
        name: Column name of its scores.
    """

    unit = "points"
    range = (0.0, 6.0)

    def __init__(self, name: str = "recorded") -> None:
        self.name = name
        self.seen: list[Samples] = []

    def __call__(self, samples: Samples) -> Tensor:
        self.seen.append(samples)
        return torch.tensor([float(k * k % 7) for k in range(len(samples))])


def reward(name: str) -> dict[str, Any]:
    """A function of this file for YAML."""
    return {"class_path": "rslit.rewards.FunctionReward", "init_args": {"function": f"toy_vision.{name}"}}


# -- modules and batches ----------------------------------------------------------------------------------------------


class Bases:
    """Saves each kind of model when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, kind: str) -> Path:
        folder = self.root / kind
        return folder if folder.exists() else save_tiny_vision(kind, folder, locations=BINS)


def pictures(folder: Path, count: int = 6) -> list[Path]:
    """Different images, as files."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{k}.png" for k in range(count)]
    for path, image in zip(paths, random_images(count, size=SIZE), strict=True):
        if not path.exists():
            image.save(path)
    return paths


def batch_of(task: str, folder: Path, count: int = 4) -> dict[str, list[Any]]:
    """A batch as the task's datamodule makes them, of as many images."""
    batch: dict[str, list[Any]] = {"items": [f"i{k}" for k in range(count)], "image": list(pictures(folder)[:count])}
    if task == "captioning":
        said = [[text, f"{text} again"] for text in CAPTIONS[:count]]
        return batch | {"references": said, "target": CAPTIONS[:count]}
    if task == "vqa":
        given = [[text] * 9 + ["maybe"] for text in ANSWERS[:count]]
        return batch | {"question": QUESTIONS[:count], "answers": given, "target": ANSWERS[:count]}
    boxes = [tuple(map(float, box)) for box in BOXES[:count]]
    region = {"box": boxes, "image_size": [SIZE] * count, "target": boxes}
    return batch | {"expression": EXPRESSIONS[:count], **region}


def build(task: str, bases: Bases, policy: Mapping[str, Any] | None = None, reward: Any = None, **options: Any) -> Any:
    """A module on the tiny model of its task; all but the image encoder is trained unless `policy` says otherwise."""
    given = {"trained": TEXT_PARTS[task]} if policy is None else dict(policy)
    small = {"max_new_tokens": 6}
    parts: dict[str, Any] = {
        "sampling": AnswerSampling(**small | {"samples": 3} | options.pop("sampling", {})),
        "evaluation": AnswerDecoding(**small | options.pop("evaluation", {})),
    }
    if task == "grounding":
        parts["codec"] = FlorenceBoxCodec(BINS)
    options = {"optimizer": adam(0.01)} | options
    return MODULES[task](VisionOptions(str(bases[KINDS[task]]), **given), reward or Recorder(), **parts, **options)


def adam(rate: float) -> Callable[..., Any]:
    return lambda p: torch.optim.Adam(p, lr=rate)


def functional(function: Any) -> FunctionReward:
    return FunctionReward(function)


def move(module: VisionModule, scale: float = 0.2, seed: int = 5) -> dict[str, Tensor]:
    """Puts noise on what is trained, as updates would, and gives it back."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.policy.parameters():
            if p.requires_grad:
                p += scale * torch.randn(p.shape, generator=stream)
    return module.policy_state()


@torch.no_grad()
def logprobs_alone(module: VisionModule, batch: Mapping[str, Sequence[Any]], row: int, tokens: Sequence[int]) -> Tensor:
    """Log-probabilities of an answer to one row: nothing beside it, from pixels, float64 (R,)."""
    one = {name: column[row : row + 1] for name, column in batch.items()}
    encoded = module.parts.encode([load_image(one["image"][0])], module.texts(one))
    ids = torch.tensor([list(tokens)])
    temperature = module.sampling.temperature
    scored = module.parts.score(encoded, ids, torch.ones_like(ids, dtype=torch.bool), temperature=temperature)
    return scored.logprobs[0].double()


# -- training -------------------------------------------------------------------------------------------------------


class Ledger(DummyLogger):
    """Keeps what is logged once a rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, float]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if any(name.startswith("loss/") for name in metrics):
            self.lines.append(dict(metrics))

    def column(self, name: str) -> list[float]:
        return [line[name] for line in self.lines]


def train(module: VisionModule, batch: Any, root: Path, rollouts: int, **options: Any) -> Ledger:
    """Trains for one Lightning epoch of some rollouts, all on the same batch; `options` are the trainer's."""
    ledger = Ledger()
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": ledger,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": root,
        "limit_val_batches": 0,
    }
    resume = options.pop("ckpt_path", None)
    batches = Rounds(batch, rollouts)
    loader = RolloutLoader(batches, module, epochs=module.epochs, minibatches=module.minibatches)
    Trainer(**given | options).fit(module, loader, batches, ckpt_path=resume)
    return ledger


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# -- runs through the command line ----------------------------------------------------------------------------------

_CONFIGS: dict[str, dict[str, Any]] = {
    "captioning": {
        "rewards": [
            {"class_path": "rslit.rewards.cider.CiderReward"},
            {"class_path": "rslit.rewards.bleu.BleuReward", "init_args": {"n": 1}},
            reward("letter_e"),
        ],
        "data": ("CaptioningDataModule", "KarpathyCaptions"),
        "module": "CaptioningModule",
    },
    "vqa": {
        "rewards": [{"class_path": "rslit.rewards.VqaAccuracyReward"}, reward("letter_e"), reward("letter_a")],
        "data": ("VqaDataModule", "VqaV2"),
        "module": "VqaModule",
        "init": {"prompt": "question: {} answer:"},
    },
    "grounding": {
        "rewards": [
            {"class_path": "rslit.rewards.IoUReward"},
            {"class_path": "rslit.rewards.BoxHitReward", "init_args": {"sizes": ["small"], "small_below": 150}},
        ],
        "data": ("GroundingDataModule", "RefCoco"),
        "module": "GroundingModule",
        "init": {
            "codec": {"class_path": "rslit.vision.box_codecs.FlorenceBoxCodec", "init_args": {"bins": BINS}},
            "cross_entropy": 1.0,
            "reinforce": 5.0,
        },
    },
}
_DATA = {
    "CaptioningDataModule": "rslit.datamodules.captioning",
    "VqaDataModule": "rslit.datamodules.vqa",
    "GroundingDataModule": "rslit.datamodules.grounding",
}


def vision_config(task: str, root: Path, **extra: Any) -> dict[str, Any]:
    """A run on a tiny world in `root`/world that trains in about a second; `extra` is merged in, dotted keys by `__`.

    With frozen image encoder; the training reward is the first of the evaluation's.
    """
    about, world = _CONFIGS[task], root / "world"
    write_world(world, World(12, 6, 1, 32))
    module, source = about["data"]
    config: dict[str, Any] = {
        "seed_everything": 3,
        "ckpt_path": "last",
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "rslit.callbacks.SoupCallback", "init_args": {"initialisation": True}}],
        },
        "model": {
            "class_path": f"rslit.modules.{about['module']}",
            "init_args": {
                "policy": {"base": str(Bases(root)[KINDS[task]]), "trained": TEXT_PARTS[task]},
                "reward": about["rewards"][0],
                "evaluation_rewards": list(about["rewards"]),
                "sampling": {"samples": 2, "max_new_tokens": 6},
                "evaluation": {"max_new_tokens": 6},
                "minibatches": 2,
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
                **about.get("init", {}),
            },
        },
        "data": {
            "class_path": f"{_DATA[module]}.{module}",
            "init_args": {
                "source": {"class_path": f"rslit.vision.files.{source}", "init_args": {"folder": str(world)}},
                "batch_size": 4,
                "rollouts_per_epoch": 2,
                "eval_items": 6,
            },
        },
    }
    return merge_dotted(config, extra)


def fit_vision(task: str, write: Callable[..., Path], root: Path, name: str, *extra: str, **config: Any) -> Path:
    """Trains through the command line and returns the ingredients' folder."""
    path = write(vision_config(task, root, **config), f"{name}.yaml")
    assert main(["fit", "--config", str(path), "--trainer.default_root_dir", str(root / name), *extra]) == 0
    return root / name / "ingredients"
