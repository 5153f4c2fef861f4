"""Classes of vision-language models behind one interface, a file for each."""

from __future__ import annotations

from typing import Any

from rslit.errors import RslitError
from rslit.vision.families import blip, encoder_decoder, florence, git, kosmos, paligemma
from rslit.vision.families.base import Decoder, Family

__all__ = ["FAMILIES", "Decoder", "Family", "class_name"]

FAMILIES: dict[str, Family] = {
    "VisionEncoderDecoderModel": encoder_decoder.FAMILY,
    "BlipForConditionalGeneration": blip.CAPTIONS,
    "BlipForQuestionAnswering": blip.QUESTIONS,
    "GitForCausalLM": git.FAMILY,
    "Florence2ForConditionalGeneration": florence.FAMILY,
    "Kosmos2ForConditionalGeneration": kosmos.FAMILY,
    "PaliGemmaForConditionalGeneration": paligemma.FAMILY,
}


def class_name(config: Any, name: str) -> str:
    """The supported class that a model's configuration names.

    Args:
        config: A configuration of transformers.
        name: Hub name or folder, for the message.

    Raises:
        RslitError: It names none.
    """
    kinds: list[str] = list(config.architectures or [])
    found = [kind for kind in kinds if kind in FAMILIES]
    if found:
        return found[0]
    what = kinds[0] if kinds else f"model of type '{config.model_type}' (config.json names no architecture)"
    raise RslitError(f"policy.base: '{name}' is a {what}; supported are {', '.join(FAMILIES)}")
