"""What an ingredient says about itself: the text of `ingredient.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rslit
from rslit.errors import RslitError

__all__ = ["INFO", "IngredientInfo"]

INFO = "ingredient.json"


@dataclass(frozen=True)
class IngredientInfo:
    """What `ingredient.json` holds.

    Attributes:
        expert: Name of the expert.
        task: Path of the task's class, such as `rslit.modules.LocomotionModule`.
        reward: Name of the reward it was trained on.
        step: Number of optimiser steps, at least 0.
        initialisation: `fingerprint` of the weights training started from.
        trainable_keys: The weights that training changes. Other tensors of the ingredient are frozen buffers.
        dtype: `dtype_name` of the trainable weights.
        scores: Evaluation rewards by name; NaN (null in the file) where unknown.
        version: Version of rslit that wrote it.
        config: Anything JSON can hold.
    """

    expert: str
    task: str
    reward: str
    step: int
    initialisation: str
    trainable_keys: list[str]
    dtype: str
    scores: dict[str, float] = field(default_factory=dict)
    version: str = rslit.__version__
    config: dict[str, Any] = field(default_factory=dict)

    def to_json(self, source: str = INFO) -> str:
        """The text of `ingredient.json`.

        Raises:
            RslitError: A field has a wrong type or is not JSON; `source` names the file in the message.
        """
        data = dataclasses.asdict(self)
        _check(data, source)
        data["scores"] = {name: None if math.isnan(value) else float(value) for name, value in self.scores.items()}
        for key, value in data.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise RslitError(f"{source}: '{key}' is not valid JSON ({error}); use plain, finite values") from None
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = INFO) -> IngredientInfo:
        """Read the text of `ingredient.json`.

        Raises:
            RslitError: It is not JSON, a key is missing, unknown or of a wrong type; `source` names the file.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RslitError(f"{source}: is not JSON ({error}); write the ingredient again") from None
        if not isinstance(data, dict):
            raise RslitError(f"{source}: holds no JSON object; write the ingredient again")
        if isinstance(data.get("scores"), dict):
            data["scores"] = {name: math.nan if value is None else value for name, value in data["scores"].items()}
        _check(data, source)
        return cls(**data)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


def _is_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(score, int | float)
        and not isinstance(score, bool)
        and not math.isinf(score)
        for name, score in value.items()
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_FIELDS = {
    "expert": (_is_text, "a non-empty string"),
    "task": (_is_text, "a non-empty string"),
    "reward": (_is_text, "a non-empty string"),
    "step": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "an integer of at least 0"),
    "initialisation": (
        lambda v: isinstance(v, str) and re.fullmatch("sha256:[0-9a-f]{64}", v) is not None,
        "a fingerprint (sha256: and 64 hexadecimal digits)",
    ),
    "trainable_keys": (_is_names, "a list of distinct strings"),
    "dtype": (_is_text, "a non-empty string"),
    "scores": (_is_scores, "numbers by reward name"),
    "version": (_is_text, "a non-empty string"),
    "config": (lambda v: isinstance(v, dict) and all(isinstance(key, str) for key in v), "an object"),
}


def _check(data: Mapping[str, Any], source: str) -> None:
    missing, unknown = [key for key in _FIELDS if key not in data], [key for key in data if key not in _FIELDS]
    if missing:
        raise RslitError(f"{source}: lacks '{missing[0]}'; write the ingredient again with this version of rslit")
    if unknown:
        raise RslitError(f"{source}: has the unknown key '{unknown[0]}'; remove it (free entries go under 'config')")
    for key, (valid, wanted) in _FIELDS.items():
        if not valid(data[key]):
            raise RslitError(f"{source}: '{key}' is {data[key]!r:.80}; it must be {wanted}")
