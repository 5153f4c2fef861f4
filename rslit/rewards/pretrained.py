"""Frozen transformers models for rewards: found, checked and loaded in one place, shared by the rewards that use them.

Config and tokenizer are read at once, so that mistakes stop a run before it starts. Weights are read at the first call,
on the device of the process that calls, and stay outside every module tree: they are in no checkpoint and no DDP
bucket.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from rslit.errors import RslitError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Dtype", "Kind", "Pretrained", "require"]

Dtype = Literal["float32", "bfloat16", "float16"]

Kind = Literal["classifier", "encoder", "image_classifier"]

# A tokenizer without a limit says so with a number like 1e30.
_NO_LIMIT = 10**9


def require(module: str, package: str, owner: str, extra: str = "text") -> None:
    """Refuses a reward whose package is missing.

    Args:
        module: Name to import.
        package: Name to install.
        owner: The reward, for the message.
        extra: The extra of rslit that brings it.

    Raises:
        RslitError: There is no such module.
    """
    if find_spec(module) is None:
        raise RslitError(f"{owner} needs {package}: pip install 'rslit[{extra}]'")


@dataclass(frozen=True)
class Pretrained:
    """A model of the hub or of a local folder. Equal ones on the same device share their weights.

    Weights are read from safetensors where there are any. Else transformers reads the pickle (`pytorch_model.bin`) with
    `torch.load(weights_only=True)`, which builds tensors and runs no code; a warning says so.

    Args:
        model: Local folder or name on the hub.
        owner: The reward, for messages.
        revision: Branch, tag or commit on the hub.
        device: "auto" is the process's GPU if there is one, else the CPU; or a torch device such as "cuda:1".
        dtype: Of the weights.
        trust_remote_code: Let the model's folder run code of its own.
        extra: The extra of rslit that brings transformers for this reward, for messages.

    Raises:
        RslitError: transformers is missing, or there is no such device.
    """

    model: str
    owner: str = field(compare=False)
    revision: str | None = None
    device: str = field(default="auto", compare=False)
    dtype: Dtype = "float32"
    trust_remote_code: bool = False
    extra: str = field(default="text", compare=False)

    def __post_init__(self) -> None:
        require("transformers", "transformers", self.owner, self.extra)
        if self.device == "auto":
            return
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise RslitError(
                f"{self.owner}: no device '{self.device}'; say auto, cpu or a GPU such as cuda:1"
            ) from None
        gpus = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= gpus:
            raise RslitError(
                f"{self.owner}: there is no {device} here; this process sees {gpus} GPU{'' if gpus == 1 else 's'}; set "
                "device: auto"
            )

    def config(self) -> PreTrainedConfig:
        """The model's config.

        Raises:
            RslitError: There is no such folder or hub name, or the folder has no config or no weights.
        """
        from transformers import AutoConfig

        folder = Path(self.model).expanduser()
        # A hub name has at most one slash and starts with a letter or digit.
        on_hub = self.model.count("/") <= 1 and self.model[:1].isalnum() and not folder.exists()
        if not folder.is_dir() and not on_hub:
            raise RslitError(f"{self.owner}: there is no folder {self.model}; check `model`")
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise RslitError(f"{self.owner}: {self.model} has no config.json; give the folder of a saved model")
        with self._reading("config"):
            config: PreTrainedConfig = AutoConfig.from_pretrained(self._path, **self._options)
        if folder.is_dir() and not (any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))):
            raise RslitError(f"{self.owner}: {self.model} has a config but no weights; put model.safetensors beside it")
        return config

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's tokenizer, one that knows which characters each token covers.

        Raises:
            RslitError: It is missing, cannot be read or is of the slow kind.
        """
        from transformers import AutoTokenizer

        with self._reading("tokenizer"):
            tokenizer: Any = AutoTokenizer.from_pretrained(self._path, **self._options)
        if not tokenizer.is_fast:
            raise RslitError(f"{self.owner}: {self.model} has only a slow tokenizer; save one with a tokenizer.json")
        # Where the files are missing, transformers 5 makes up a tokenizer that knows only its special tokens.
        known = tokenizer("a", add_special_tokens=False)["input_ids"]
        if set(known) <= {tokenizer.unk_token_id}:
            raise RslitError(f"{self.owner}: {self.model} has no tokenizer; put its tokenizer.json beside the weights")
        result: PreTrainedTokenizerFast = tokenizer
        return result

    def image_processor(self) -> Any:
        """The model's image processor.

        Raises:
            RslitError: It is missing or cannot be read.
        """
        from transformers import AutoImageProcessor

        loader: Any = AutoImageProcessor  # untyped
        with self._reading("image processor"):
            # By Pillow: torchvision, where it is installed, resizes to other numbers.
            return loader.from_pretrained(self._path, backend="pil", **self._options)

    def max_length(self, tokenizer: PreTrainedTokenizerFast, config: PreTrainedConfig, wanted: int | None) -> int:
        """Tokens the model reads at most.

        Args:
            tokenizer: Knows one limit.
            config: Knows another.
            wanted: The user's, or None for the smaller of the two.

        Raises:
            RslitError: `wanted` is more than the model reads or less than 1.
        """
        limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
        known = [int(limit) for limit in limits if limit and limit < _NO_LIMIT]
        if wanted is None:
            return min(known, default=_NO_LIMIT)
        if wanted < 1 or (known and wanted > min(known)):
            most = min(known) if known else "any number of"
            raise RslitError(f"{self.owner}: max_length is {wanted}, but {self.model} reads 1 to {most} tokens")
        return wanted

    def file(self, name: str) -> Path | None:
        """A file beside the weights, None if there is none."""
        from transformers.utils.hub import cached_file

        with self._reading(name):
            found = cached_file(
                self._path,
                name,
                revision=self.revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        return None if found is None else Path(found)

    def weights(self, kind: Kind) -> PreTrainedModel:
        """The model, frozen and in evaluation mode; the same object for every equal call in this process.

        Args:
            kind: With a classification head for texts or images, or the bare encoder (also a CLIP of images and texts).

        Raises:
            RslitError: The weights are missing, do not fit the config, or do not hold the classification head.
        """
        return _load(self, kind, self._device)

    @contextmanager
    def running(self, batch_size: int) -> Iterator[None]:
        """No gradients, the dtype as asked for whatever precision the Trainer runs in, and a remedy for lack of memory.

        Args:
            batch_size: For the message.

        Raises:
            RslitError: The GPU is out of memory.
        """
        try:
            with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
                yield
        except torch.OutOfMemoryError as error:
            raise RslitError(
                f"{self.owner}: out of memory on {self._device}; lower its batch_size ({batch_size}), set dtype: "
                "bfloat16 or device: cpu"
            ) from error

    @property
    def _device(self) -> torch.device:
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        # With several GPUs, Lightning has set each process's own.
        return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)

    @property
    def _path(self) -> str:
        folder = Path(self.model).expanduser()
        return str(folder) if folder.is_dir() else self.model

    @property
    def _options(self) -> dict[str, Any]:
        return {"revision": self.revision or "main", "trust_remote_code": self.trust_remote_code}

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Errors of transformers, which has many kinds and long texts, as one line."""
        from transformers.utils.logging import get_verbosity, set_verbosity

        level = get_verbosity()
        # The tables it prints on the way would bury that line.
        set_verbosity(logging.ERROR)
        try:
            yield
        except RslitError:
            raise
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else type(error).__name__
            remedy = (
                "repair or replace that folder"
                if Path(self._path).is_dir()
                else "check the name and the connection, or download it and set `model` to the folder"
            )
            raise RslitError(f"{self.owner}: cannot read the {what} of {self.model}: {reason} ({remedy})") from error
        finally:
            set_verbosity(level)


@functools.cache
def _load(source: Pretrained, kind: str, device: torch.device) -> PreTrainedModel:
    from transformers import AutoModel, AutoModelForImageClassification, AutoModelForSequenceClassification

    loaders: dict[str, Callable[..., Any]] = {
        "classifier": AutoModelForSequenceClassification.from_pretrained,
        "image_classifier": AutoModelForImageClassification.from_pretrained,
        "encoder": AutoModel.from_pretrained,
    }
    if source.file("model.safetensors") is None and source.file("model.safetensors.index.json") is None:
        warnings.warn(
            f"{source.owner}: {source.model} has no safetensors; its pickle is read with weights_only=True, which runs "
            "no code",
            stacklevel=2,
        )
    # A resumed run loads at another step than the first one did: the generator must not notice.
    with source._reading("weights"), torch.random.fork_rng(devices=[]):
        model, report = loaders[kind](
            source._path,
            dtype=getattr(torch, source.dtype),
            weights_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **source._options,
        )
    # A mean-pooled encoder never uses its pooler, and many are saved without one.
    missing = sorted(key for key in report["missing_keys"] if kind != "encoder" or "pooler" not in key)
    if missing:
        head = "" if kind == "encoder" else " and is no trained classifier"
        raise RslitError(
            f"{source.owner}: {source.model} lacks {len(missing)} weights, such as {missing[0]},{head}; they would be "
            "random: choose a model that has them"
        )
    if report["mismatched_keys"]:
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"])
        raise RslitError(f"{source.owner}: the weights of {source.model} do not fit its config.json: {names[0]}")
    model.config.use_cache = False
    result: PreTrainedModel = model.eval().requires_grad_(False).to(device)
    return result
