"""Rewards by CLIP: how well an image fits its prompt, whether its prompt can be told from it, how safe it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.clip_model import ClipModel
from rslit.rewards.image_field import images_of, refuse_nan, texts_of
from rslit.rewards.pretrained import Dtype
from rslit.samples import Samples

__all__ = ["UNSAFE_WORDS", "ClipMatchReward", "ClipSafetyReward", "ClipScoreReward"]

# Cosines closer than this differ by rounding only.
_TIE = 1e-6

# Ours: the paper does not print its list.
UNSAFE_WORDS = (
    "nsfw",
    "nudity",
    "a naked person",
    "pornography",
    "sexual content",
    "explicit content",
    "genitals",
    "blood and gore",
)


class ClipScoreReward:
    """CLIPScore of image and prompt: w * max(cos, 0) (Hessel et al. 2021, arXiv:2104.08718, section 3).

    torchmetrics' `CLIPScore` and the paper (30.2 for Stable Diffusion on COCO) take w = 100 and the bare prompt;
    Hessel et al. take w = 2.5 and the prefix "A photo depicts ".

    Args:
        model: Hub name or local folder of a CLIP; torchmetrics' default is openai/clip-vit-large-patch14.
        name: Column name of its scores.
        scale: w.
        prefix: Put before each prompt.
        batch_size: Images in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.

    Attributes:
        range: 0 to w.

    Raises:
        RslitError: The model cannot be found or read or is no CLIP, or the scale, batch size or device is wrong.
    """

    unit = "CLIPScore"

    def __init__(
        self,
        model: str,
        name: str = "clip_score",
        scale: float = 100.0,
        prefix: str = "",
        batch_size: int = 32,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        self._owner = f"ClipScoreReward '{name}'"
        if not 0 < scale < float("inf"):
            raise RslitError(f"{self._owner}: scale is {scale}; give a positive number such as 100")
        self.name = name
        self.range = (0.0, float(scale))
        self._prefix = prefix
        self._clip = ClipModel(model, self._owner, batch_size, device, dtype, revision)

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Raises:
            RslitError: `image` or `prompt` is missing or wrong, or the model gives NaN.
        """
        images = self._clip.images(images_of(samples, self._owner))
        texts = self._clip.prompts([self._prefix + text for text in texts_of(samples, self._owner)])
        # Unit vectors that are equal can be 1.0000001 apart in rounding.
        cosines = (images * texts).sum(dim=-1).clamp(0.0, 1.0)
        return refuse_nan(self.range[1] * cosines, samples, self._owner)


class ClipMatchReward:
    """1 where the prompt can be told from the image, else 0; its mean is CLIP R-precision, or an accuracy on classes.

    CLIP R-precision (Park et al. 2021, NeurIPS Datasets and Benchmarks) asks whether, among some texts, CLIP finds the
    image's own prompt closest to the image. The texts are either

    - `prompts`: a file of prompts. The sample's own is compared with all others, and need not be among them itself.
      Texts that describe the image equally well in other words make it fail: list no paraphrases.
    - `classes`: phrases such as "red circle". The sample's own is the one that its prompt holds, as "a large red circle
      on the left" does. This is zero-shot classification: with `template`, CLIP reads "a photo of a red circle".

    A tie is no match.

    Args:
        model: Hub name or local folder of a CLIP.
        prompts: Text file, UTF-8, one prompt a line; empty lines and repetitions are skipped.
        classes: Two or more phrases, of which each prompt holds one, whatever the case of its letters.
        template: What CLIP reads of a class, with {} in the place of the class.
        name: Column name of its scores.
        batch_size: Images or texts in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.

    Raises:
        RslitError: The model cannot be found or read or is no CLIP; not one of `prompts` and `classes` is given; there
            are fewer than two texts; the file cannot be read; or the template, batch size or device is wrong.
    """

    unit = "share of matches"
    range = (0.0, 1.0)

    def __init__(
        self,
        model: str,
        prompts: Path | None = None,
        classes: list[str] | None = None,
        template: str = "{}",
        name: str = "clip_match",
        batch_size: int = 32,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        self._owner = f"ClipMatchReward '{name}'"
        self.name = name
        if (prompts is None) == (classes is None):
            raise RslitError(f"{self._owner}: give either prompts (a text file) or classes (a list of texts)")
        lines = self._lines(Path(prompts)) if prompts is not None else list(classes or [])
        self.texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if len(self.texts) < 2:
            where = f" in {prompts}" if prompts is not None else ""
            raise RslitError(f"{self._owner}: {len(self.texts)} distinct texts{where}; matching needs at least 2")
        self._classes: dict[str, str] = {}
        if template.count("{}") != 1 or (classes is None and template != "{}"):
            raise RslitError(f"{self._owner}: template {template!r} must hold {{}} once, and is for classes only")
        if classes is not None:
            self._classes = {template.replace("{}", text): _spaced(text) for text in self.texts}
            self.texts = list(self._classes)
        self._index = {text: row for row, text in enumerate(self.texts)}
        self._clip = ClipModel(model, self._owner, batch_size, device, dtype, revision)
        self._others: Tensor | None = None

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Raises:
            RslitError: `image` or `prompt` is missing or wrong, a prompt holds no class or several, or the model gives
                NaN.
        """
        images = self._clip.images(images_of(samples, self._owner))
        own = self._own(samples)
        if self._others is None:
            self._others = self._clip.texts(self.texts).cpu()
        similarities = self._clip.cosines(images, self._others)
        ours = (images * self._clip.prompts(own)).sum(dim=-1)
        for row, text in enumerate(own):
            if text in self._index:
                # Its vector from another batch may differ in the last bit, and is no rival.
                similarities[row, self._index[text]] = -torch.inf
        refuse_nan(ours, samples, self._owner)
        return (ours > similarities.max(dim=1).values + _TIE).to(torch.float32)

    def _own(self, samples: Samples) -> list[str]:
        """The text that each image should be closest to."""
        prompts = [text.strip() for text in texts_of(samples, self._owner)]
        if not self._classes:
            return prompts
        result = []
        for item, prompt in zip(samples.items, prompts, strict=True):
            found = [text for text, phrase in self._classes.items() if phrase in _spaced(prompt)]
            if len(found) != 1:
                which = f"{len(found)} classes" + (f" ({', '.join(found[:3])})" if found else "")
                raise RslitError(
                    f"{self._owner}: the prompt of item {item!r}, '{prompt}', holds {which}; it must be one"
                )
            result += found
        return result

    def _lines(self, file: Path) -> list[str]:
        try:
            return file.expanduser().read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            raise RslitError(f"{self._owner}: there is no file {file}; check `prompts`") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RslitError(f"{self._owner}: cannot read {file}: {error}; give a text file in UTF-8") from None


class ClipSafetyReward:
    """1 minus the largest cosine of the image with a list of unsafe words: the paper's nsfw reward (appendix E.1).

    The paper says that LAION was filtered in this manner (Schuhmann et al., arXiv:2210.08402). The value is no
    probability: even texts that fit an image have cosines of only about 0.3 with it (the CLIPScore of 30 above).

    Args:
        model: Hub name or local folder of a CLIP.
        words: Unsafe words or phrases; defaults to `UNSAFE_WORDS`, our own short list.
        name: Column name of its scores.
        batch_size: Images or words in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.

    Raises:
        RslitError: The model cannot be found or read or is no CLIP, a word is empty or there is none, or the batch size
            or device is wrong.
    """

    unit = "1 - cosine"
    range = (0.0, 2.0)

    def __init__(
        self,
        model: str,
        words: list[str] | None = None,
        name: str = "nsfw",
        batch_size: int = 32,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        self._owner = f"ClipSafetyReward '{name}'"
        self.name = name
        self.words: Sequence[str] = list(UNSAFE_WORDS) if words is None else list(words)
        if not self.words or not all(word.strip() for word in self.words):
            raise RslitError(f"{self._owner}: words is empty or holds an empty word; name unsafe words or leave it out")
        self._clip = ClipModel(model, self._owner, batch_size, device, dtype, revision)

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Raises:
            RslitError: `image` is missing or wrong, or the model gives NaN.
        """
        images = self._clip.images(images_of(samples, self._owner))
        cosines = self._clip.cosines(images, self._clip.prompts(self.words))
        return refuse_nan(1.0 - cosines.max(dim=1).values, samples, self._owner)


def _spaced(text: str) -> str:
    """The words between single spaces, so that a phrase is found only as whole words."""
    words = re.findall(r"\w+", text.lower())
    return f" {' '.join(words)} "
