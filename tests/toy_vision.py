"""Captioning, VQA and grounding on tiny models: rewards, pictures, batches, modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_vision import random_images, save_tiny_vision
from torch import Tensor

from rslit.language import LoraOptions
from rslit.modules import CaptioningModule, GroundingModule, VqaModule
from rslit.modules.vision import VisionModule
from rslit.rollouts import Experience
from rslit.samples import Samples
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


def wreck(samples: Samples) -> Tensor:
    """letter_e, but it cuts off every file in the images' folder that it is not asked about."""
    for path in samples["image"][0].parent.iterdir():
        if path not in samples["image"]:
            path.write_bytes(path.read_bytes()[:200])
    return letter_e(samples)


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


def reward_of(name: str) -> dict[str, Any]:
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


def counted(experience: Experience, row: int, answer: int) -> list[int]:
    """The tokens of an answer in an experience."""
    tokens: list[int] = experience["tokens"][row, answer][experience["mask"][row, answer]].tolist()
    return tokens


def loss_of(module: VisionModule, experience: Experience) -> Tensor:
    """The loss of a whole rollout, as of the first of two minibatches: nothing is logged yet."""
    module.minibatches = 2
    return module.training_step(experience, 0)
