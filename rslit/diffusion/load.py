"""Loading a text-to-image pipeline."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from rslit.diffusion.families import Family, family_of
from rslit.diffusion.options import DiffusionOptions
from rslit.errors import RslitError

__all__ = ["load_pipeline", "quiet"]

# What pipelines hold beside the models that draw: filters, watermarks. Rewards do that here.
_LEFT_OUT = ("safety_checker", "feature_extractor", "watermarker", "image_encoder")


def load_pipeline(options: DiffusionOptions) -> tuple[Any, Family]:
    """The pipeline, frozen, and how its class is handled. Its filters are left out: rewards see every image.

    Raises:
        RslitError: diffusers is not installed, the pipeline is missing, damaged or not supported, or its weights are
            pickled.
    """
    try:
        from diffusers import DiffusionPipeline
    except ImportError:
        raise RslitError("text-to-image needs diffusers: pip install 'rslit[diffusion]'") from None
    given: dict[str, Any] = {"revision": options.revision} if options.revision else {}
    with _load_errors(options.base), quiet():
        index = DiffusionPipeline.load_config(options.base, **given)
        family = family_of(index, options.base)
        given |= {name: None for name in _LEFT_OUT if name in index}
        given |= _absent(index)
        if "requires_safety_checker" in index:
            given["requires_safety_checker"] = False
        if options.variant is not None:
            given["variant"] = options.variant
        _check_weights(options.base)
        pipe: Any = DiffusionPipeline.from_pretrained(
            options.base, torch_dtype=getattr(torch, options.dtype), use_safetensors=True, **given
        )
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe, family


def _absent(index: Mapping[str, Any]) -> dict[str, None]:
    """Components that a pipeline takes and this one was saved without, such as the largest text encoder."""
    import diffusers

    taken = inspect.signature(getattr(diffusers, index["_class_name"]).__init__).parameters.values()
    needed = [each.name for each in taken if each.default is each.empty and each.name != "self"]
    missing = [name for name in needed if name not in index or index[name] == [None, None]]
    return {name: None for name in missing if name.startswith(("text_encoder", "tokenizer"))}


def _check_weights(base: str) -> None:
    folder = Path(base)
    if not folder.is_dir():
        return
    for part in ("unet", "transformer", "vae", "text_encoder"):
        own = folder / part
        if own.is_dir() and not any(own.glob("*.safetensors")):
            raise RslitError(f"policy.base: {own} has no *.safetensors; pickled weights are not read, save it anew")


@contextmanager
def _load_errors(name: str) -> Iterator[None]:
    """The many errors of diffusers and transformers for a pipeline that cannot be loaded, as one line."""
    try:
        yield
    except RslitError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, SafetensorError) as error:
        lines = str(error).strip().splitlines()
        hint = "give a hub name or a folder with model_index.json and its models"
        raise RslitError(
            f"policy.base: '{name}' cannot be loaded ({lines[0] if lines else error!r}); {hint}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and progress bars of diffusers, for what is checked here."""
    import transformers
    from diffusers.utils import logging

    bars: Any = transformers.utils.logging  # untyped
    level, shown = logging.get_verbosity(), (logging.is_progress_bar_enabled(), bars.is_progress_bar_enabled())
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.set_verbosity(level)
        for module, was in zip((logging, bars), shown, strict=True):
            if was:
                module.enable_progress_bar()
