"""The base model that ingredients name, loaded as it is stored, and saved again beside what belongs to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from rslit.errors import RslitError
from rslit.soup.base import base_fingerprint

__all__ = ["LoadedBase", "library_of", "load_base"]


@dataclass(frozen=True)
class LoadedBase:
    """A base.

    Attributes:
        model: What the experts were trained from.
        save: Writes it, as it then is, into an existing folder, with tokenizer, image processor or the whole pipeline.
    """

    model: nn.Module
    save: Callable[[Path], None]


def library_of(record: Mapping[str, str]) -> Literal["transformers", "diffusers"]:
    """Which library loads a base and what is merged into it: ``transformers`` or ``diffusers``."""
    return "diffusers" if "pipeline" in record else "transformers"


def load_base(record: Mapping[str, str]) -> LoadedBase:
    """The base in the dtype it is stored in.

    Args:
        record: ``config.base`` of an ingredient: hub name or folder, fingerprint, and how it was loaded. With a
            ``pipeline`` it is that pipeline's ``component``. Without a ``class`` of transformers it is a causal
            language model.

    Warns:
        UserWarning: The experts were trained on the base quantised: whether it is the same cannot be seen.

    Raises:
        RslitError: There is no such model, it is another one than the experts', or its library is not installed.
    """
    name = record["name"]
    try:
        base = _pipeline(record) if library_of(record) == "diffusers" else _model(record)
    except ImportError:
        needed = "diffusion" if library_of(record) == "diffusers" else "text"
        raise RslitError(f"--merged needs {library_of(record)}; install rslit[{needed}]") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RslitError(
            f"base model '{name}' of the ingredients cannot be loaded ({reason}); put it there, or correct config.base "
            "in their ingredient.json"
        ) from error
    if "quantization" in record:
        text = f"the experts were trained on {name} in {record['quantization']}; whether its weights are still the same"
        warnings.warn(f"{text} cannot be checked, and merged into the full ones the soup is another", stacklevel=4)
    elif base_fingerprint(base.model) != record["fingerprint"]:
        raise RslitError(f"base model '{name}' is not the one the experts were trained on; put that one there")
    return base


def _model(record: Mapping[str, str]) -> LoadedBase:
    import transformers

    extra = {key: record[key] for key in ("revision", "gguf_file") if key in record}
    packed = {"quantization_config": transformers.GgufConfig(dequantize=True)} if "gguf_file" in record else {}
    kind: Any = getattr(transformers, record.get("class", "AutoModelForCausalLM"), None)
    if not hasattr(kind, "from_pretrained"):
        raise RslitError(f"config.base of the ingredients: transformers has no model class '{record['class']}'")
    model: Any = kind.from_pretrained(record["name"], dtype="auto", **extra, **packed)

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        _save_processors(record, folder)

    return LoadedBase(model, save)


def _pipeline(record: Mapping[str, str]) -> LoadedBase:
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    extra = {key: record[key] for key in ("revision", "variant") if key in record}
    # "auto" is of transformers; a pipeline that is told nothing comes in float32, half precisions included.
    pipe: Any = DiffusionPipeline.from_pretrained(record["name"], use_safetensors=True, **extra)
    return LoadedBase(getattr(pipe, record["component"]), pipe.save_pretrained)


def _save_processors(base: Mapping[str, str], folder: Path) -> None:
    """The tokenizer and, of a model that looks at images, the image processor."""
    from transformers import AutoImageProcessor, AutoTokenizer

    loaders: dict[str, Any] = {"tokenizer": AutoTokenizer}
    if "class" in base:
        loaders["image processor"] = AutoImageProcessor
    origin = base.get("processor", base["name"])
    for what, loader in loaders.items():
        try:
            loader.from_pretrained(origin, revision=base.get("revision", "main")).save_pretrained(folder)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            text = f"{origin} has no {what} to copy ({reason}); the folder has none"
            warnings.warn(text, UserWarning, stacklevel=4)
