"""Aesthetic scores: a small head on CLIP's image embedding, in the format of LAION's predictors.

The paper's *ava* model is such a head (github.com/christophschuhmann/improved-aesthetic-predictor), trained on ratings
of photographs from 1 to 10. (Facts read from the public code, in our own words: the embedding is brought to unit
length; five linear layers 768-1024-128-64-16-1 follow, with dropout between, which does nothing here, and without an
activation in the published linearMSE heads, with ReLU in reluMSE.)
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from rslit.errors import RslitError
from rslit.rewards.clip_model import ClipModel
from rslit.rewards.image_field import images_of, refuse_nan
from rslit.rewards.pretrained import Dtype, Pretrained
from rslit.samples import Samples

__all__ = ["AestheticReward", "apply_head", "read_head"]

_KEY = re.compile(r"(?:layers\.(?P<layer>\d+)\.)?(?P<part>weight|bias)")

Layer = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out,) of a linear layer, float32."""


def read_head(file: Path, owner: str) -> list[Layer]:
    """The linear layers of a head, first to last.

    Args:
        file: safetensors, or a pickle of tensors (.pth, .pt, .bin), which is read with `weights_only=True` and so runs
            no code. Keys are `layers.<number>.weight` and `.bias`, or `weight` and `bias` of a single layer.
        owner: The reward, for messages.

    Raises:
        RslitError: The file is missing, cannot be read, or holds anything but layers that fit one another and end in
            one number.
    """
    if not file.is_file():
        raise RslitError(
            f"{owner}: there is no file {file}; give a head such as sac+logos+ava1-l14-linearMSE.pth of "
            "github.com/christophschuhmann/improved-aesthetic-predictor"
        )
    try:
        tensors: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise RslitError(f"{owner}: cannot read {file}; give the tensors of a head, nothing else") from error
    parts: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items() if isinstance(tensors, Mapping) else [("no mapping", None)]:
        found = _KEY.fullmatch(str(key))
        if found is None or not isinstance(tensor, Tensor):
            raise RslitError(
                f"{owner}: {file} is no head of LAION's kind: it holds '{key}' where layers.0.weight or weight "
                "is expected"
            )
        parts.setdefault(int(found["layer"] or 0), {})[found["part"]] = tensor.float()
    layers = [_layer(parts[number], f"{owner}: layer {number} of {file}") for number in sorted(parts)]
    sizes = [weight.shape[1] for weight, _ in layers] + [1]
    for number, (weight, _), size in zip(sorted(parts), layers, sizes[1:], strict=True):
        if weight.shape[0] != size:
            raise RslitError(
                f"{owner}: layer {number} of {file} gives {weight.shape[0]} numbers where {size} are expected; "
                "replace it"
            )
    if not layers:
        raise RslitError(f"{owner}: {file} holds no layers; replace it")
    return layers


def apply_head(layers: list[Layer], embeddings: Tensor, activation: Literal["none", "relu"] = "none") -> Tensor:
    """The head's value.

    Args:
        layers: See `read_head`.
        embeddings: (B, D) float32, unit vectors.
        activation: Between layers, not after the last.

    Returns:
        (B,) float32.
    """
    values = embeddings
    for number, (weight, bias) in enumerate(layers):
        if number and activation == "relu":
            values = values.relu()
        values = functional.linear(values, weight.to(values.device), bias.to(values.device))
    return values[:, 0]


class AestheticReward:
    """Aesthetic score of an image: a head on CLIP's image embedding of unit length.

    Args:
        model: Hub name or local folder of the CLIP that the head was trained with; LAION's MLP heads want
            openai/clip-vit-large-patch14.
        head: File of the head, see `read_head`; or a file of the hub as `owner/repository/file`, such as
            `trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth`.
        activation: `none` for LAION's linearMSE heads, `relu` for its reluMSE ones. The file does not say.
        name: Column name of its scores.
        batch_size: Images in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of CLIP's weights: float32, bfloat16 or float16. The head runs in float32.
        revision: Branch, tag or commit of the CLIP on the hub.

    Attributes:
        range: Unbounded; heads trained on AVA give about 1 to 10.

    Raises:
        RslitError: The model cannot be found or read or is no CLIP; the head cannot be read or is for embeddings of
            another length; or the activation, batch size or device is wrong.
    """

    unit = "aesthetic score"
    range = (-math.inf, math.inf)

    def __init__(
        self,
        model: str,
        head: str,
        activation: Literal["none", "relu"] = "none",
        name: str = "aesthetic",
        batch_size: int = 32,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        self._owner = f"AestheticReward '{name}'"
        if activation not in ("none", "relu"):
            raise RslitError(f"{self._owner}: activation is {activation!r}; choose none or relu")
        self.name = name
        self._activation = activation
        self._clip = ClipModel(model, self._owner, batch_size, device, dtype, revision, reads_texts=False)
        self._layers = read_head(self._find(str(head)), self._owner)
        wanted = self._layers[0][0].shape[1]
        if wanted != self._clip.size:
            raise RslitError(
                f"{self._owner}: the head {head} reads embeddings of {wanted} numbers, but {model} gives "
                f"{self._clip.size}; take the CLIP that the head was trained with (768: openai/clip-vit-large-patch14)"
            )

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Raises:
            RslitError: `image` is missing or wrong, or the model gives NaN.
        """
        embeddings = self._clip.images(images_of(samples, self._owner))
        with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
            return refuse_nan(apply_head(self._layers, embeddings, self._activation), samples, self._owner)

    def _find(self, head: str) -> Path:
        file = Path(head).expanduser()
        repository, _, name = head.rpartition("/")
        # A hub name has one slash; a folder of that name here comes first.
        if file.exists() or repository.count("/") != 1 or not head[:1].isalnum() or Path(repository).is_dir():
            return file
        return Pretrained(repository, self._owner, extra="diffusion").file(name) or file


def _layer(parts: Mapping[str, Tensor], where: str) -> Layer:
    if (
        set(parts) != {"weight", "bias"}
        or parts["weight"].ndim != 2
        or parts["bias"].shape != parts["weight"].shape[:1]
    ):
        raise RslitError(f"{where} is no linear layer with weight (out, in) and bias (out); replace the file")
    return parts["weight"], parts["bias"]
