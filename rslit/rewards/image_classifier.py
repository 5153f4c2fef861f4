"""Image classifiers of the hub as rewards: probability of a label, such as *aesthetic* of the paper's cafe model.

Or, where the labels are what prompts name, whether an image shows what its prompt says.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.image_field import images_of, pixels, refuse_nan, texts_of
from rslit.rewards.pretrained import Dtype, Pretrained, require
from rslit.samples import Samples

__all__ = ["ImageClassifierReward", "PromptLabelReward"]


class _Classifier:
    """What both rewards share.

    Args:
        owner: The reward, for messages.
        model: Hub name or local folder.
        batch_size: Images in one forward pass.
        device: See `ImageClassifierReward`.
        dtype: The same.
        revision: The same.

    Attributes:
        labels: In the order of the logits.
        several: Several can hold at once.
    """

    def __init__(
        self, owner: str, model: str, batch_size: int, device: str, dtype: Dtype, revision: str | None
    ) -> None:
        self._owner = owner
        require("PIL", "pillow", owner, "diffusion")
        if batch_size < 1:
            raise RslitError(f"{owner}: batch_size is {batch_size}; it must be 1 or more")
        self._batch_size = batch_size
        self._source = Pretrained(model, owner, revision, device, dtype, extra="diffusion")
        config: Any = self._source.config()
        self.labels: list[str] = [config.id2label[index] for index in sorted(config.id2label)]
        self.several: bool = config.problem_type == "multi_label_classification"
        self._processor = self._source.image_processor()

    def logits(self, samples: Samples) -> Tensor:
        """Of B images, float32 (B, labels) on the model's device."""
        images = images_of(samples, self._owner)
        network: Any = self._source.weights("image_classifier")
        parts = []
        with self._source.running(self._batch_size):
            for chunk in torch.split(images, self._batch_size):
                values = pixels(self._processor, chunk).to(network.device, network.dtype)
                parts.append(network(pixel_values=values).logits.float())
        return torch.cat(parts)

    def some_labels(self) -> str:
        """For messages."""
        return ", ".join(self.labels[:20]) + (f" and {len(self.labels) - 20} more" if len(self.labels) > 20 else "")


class ImageClassifierReward:
    """Probability of a label, in [0, 1], as transformers' image-classification pipeline gives it.

    That is the softmax over the labels; the sigmoid of the label's own logit where the config says that several labels
    can hold at once (`problem_type: multi_label_classification`) or there is only one label.

    The paper's *cafe* reward is label `aesthetic` of `cafeai/cafe_aesthetic`.

    Args:
        model: Hub name or local folder of a model for `AutoModelForImageClassification`.
        label: The label whose probability counts, as in the model's config.
        name: Column name of its scores.
        batch_size: Images in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.

    Raises:
        RslitError: The model cannot be found or read, has no weights or no such label, or the batch size or device is
            wrong.
    """

    unit = "probability"
    range = (0.0, 1.0)

    def __init__(
        self,
        model: str,
        label: str,
        name: str,
        batch_size: int = 32,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        self._owner = f"ImageClassifierReward '{name}'"
        if not name:
            raise RslitError("ImageClassifierReward: the name is empty; give it one")
        self.name = name
        self.label = label
        self._classifier = _Classifier(self._owner, model, batch_size, device, dtype, revision)
        labels = self._classifier.labels
        if labels.count(label) != 1:
            raise RslitError(f"{self._owner}: {model} has no label '{label}'; it has: {self._classifier.some_labels()}")
        self._index = labels.index(label)
        self._alone = len(labels) == 1 or self._classifier.several

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Raises:
            RslitError: `image` is missing or wrong, the weights cannot be read, or the model gives NaN.
        """
        logits = self._classifier.logits(samples)
        shares = logits.sigmoid() if self._alone else logits.softmax(dim=-1)
        return refuse_nan(shares[:, self._index], samples, self._owner)


class PromptLabelReward:
    """Whether an image shows what its prompt names: 1 if the classifier's first label is the prompt's, else 0.

    Its mean is the share of images that follow their prompts, as a classifier sees it (in "GenEval" of Ghosh et al.
    2023 a detector does). A label such as `red circle` is named by prompts that have all of its words, in any order.

    Args:
        model: Hub name or local folder of a model for `AutoModelForImageClassification`, whose labels prompts name.
        name: Column name of its scores.
        batch_size: Images in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.

    Raises:
        RslitError: The model cannot be found or read, or has no weights; or the batch size or device is wrong.
    """

    unit = "share"
    range = (0.0, 1.0)

    def __init__(
        self,
        model: str,
        name: str = "follows",
        batch_size: int = 64,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        self.name = name
        self._owner = f"PromptLabelReward '{name}'"
        self._classifier = _Classifier(self._owner, model, batch_size, device, dtype, revision)
        self._words = [set(_words(label)) for label in self._classifier.labels]

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Raises:
            RslitError: A prompt names no label, or several; or as of an `ImageClassifierReward`.
        """
        wanted = [
            self._named(item, prompt)
            for item, prompt in zip(samples.items, texts_of(samples, self._owner), strict=True)
        ]
        logits = refuse_nan(self._classifier.logits(samples), samples, self._owner)
        return (logits.argmax(1) == torch.tensor(wanted, device=logits.device)).float()

    def _named(self, item: int | str, prompt: str) -> int:
        said = set(_words(prompt))
        found = [k for k, label in enumerate(self._words) if label <= said]
        if len(found) != 1:
            names = ", ".join(f"'{self._classifier.labels[k]}'" for k in found[:3]) or "none"
            raise RslitError(
                f"{self._owner}: the prompt of item {item!r} ('{prompt:.60}') must name one label, it names {names}; "
                f"the labels are {self._classifier.some_labels()}"
            )
        return found[0]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
