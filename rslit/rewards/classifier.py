"""Reward models of the hub: sequence classifiers that read question and response.

The paper's code scores with raw logits, without sigmoid, softmax or normalisation, combined by a formula: `0` is the
logit of class 0, `1-0` a difference, `0x0.4` a weight. (Facts read from the public code, in our own words.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rslit.errors import RslitError
from rslit.rewards.padding import pad_right
from rslit.rewards.pretrained import Dtype, Pretrained
from rslit.rewards.template import SPECIAL, Template
from rslit.samples import Samples

__all__ = ["ClassifierReward", "parse_formula"]

_TERM = re.compile(r"(?P<sign>[+-]?)(?P<label>\d+)(?:x(?P<weight>\d+(?:\.\d+)?))?")


def parse_formula(text: str) -> dict[int, float]:
    """Weights of the logits of a formula.

    Args:
        text: Terms joined by + and -, each the number of a class, with a weight after an x if it is not 1: `0`, `1-0`,
            `1x0.5-0x0.5`. No spaces.

    Returns:
        Weight by class.

    Raises:
        ValueError: It is not of this form, or names a class twice.
    """
    weights: dict[int, float] = {}
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or (position > 0 and not term["sign"]):
            raise ValueError(f"cannot read {text[position:]!r}; write it like 0, 1-0, 0x0.4 or 1x0.5-0x0.5")
        label = int(term["label"])
        if label in weights:
            raise ValueError(f"class {label} is named twice")
        weights[label] = float(term["weight"] or 1.0) * (-1.0 if term["sign"] == "-" else 1.0)
        position = term.end()
    if not weights:
        raise ValueError("it is empty; write it like 0, 1-0, 0x0.4 or 1x0.5-0x0.5")
    return weights


class ClassifierReward:
    """Logits of a sequence classifier that reads a template filled with question and response.

    Tokens are those of transformers' text-classification pipeline: the special tokens of the template are recognised in
    its text, and the tokenizer puts its own frame around the whole. A text longer than `max_length` loses the end of
    its question, never a part of its response (the pipeline's truncation would cut the response off where it comes
    last; where the question comes last both are the same). A batch gives the same values as its samples one by one.

    Weights are read at the first call, shared between rewards with the same model, revision, dtype and device, and kept
    until the process ends.

    Args:
        model: Hub name or local folder of a model for `AutoModelForSequenceClassification`.
        template: What the model reads, see `rslit.rewards.template.Template`: `{question}{sep}{response}`.
        name: Column name of its scores.
        formula: Sum of raw logits, see `parse_formula`; quote it in YAML. May be left out for a model with one label;
            one with more must be told which counts.
        unit: What one unit of the value is.
        question_free: The template has no question on purpose.
        first_sentence: Score only the response up to its first full stop, which is put back, as the paper's code does
            with summaries.
        batch_size: Texts in one forward pass.
        max_length: Tokens of the longest text; defaults to what the model reads.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Let the model's folder run code of its own.

    Attributes:
        range: Unbounded: logits.

    Raises:
        RslitError: The model cannot be found or read, has no weights, has other labels than the formula names, or the
            template, the formula, `max_length` or the device is wrong.
    """

    range = (-math.inf, math.inf)

    def __init__(
        self,
        model: str,
        template: str,
        name: str,
        formula: str | None = None,
        unit: str = "logit",
        question_free: bool = False,
        first_sentence: bool = False,
        batch_size: int = 16,
        max_length: int | None = None,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._owner = f"ClassifierReward '{name}'"
        if not name:
            raise RslitError("ClassifierReward: the name is empty; give it one")
        if batch_size < 1:
            raise RslitError(f"{self._owner}: batch_size is {batch_size}; it must be 1 or more")
        self.name = name
        self.unit = unit
        self._first_sentence = first_sentence
        self._batch_size = batch_size
        self._source = Pretrained(model, self._owner, revision, device, dtype, trust_remote_code)
        config = self._source.config()
        self._weights = self._formula(formula, config)
        self._padding: int | None = getattr(config.get_text_config(), "pad_token_id", None)
        self._tokenizer = self._source.tokenizer()
        self._max_length = self._source.max_length(self._tokenizer, config, max_length)
        special = {each: getattr(self._tokenizer, f"{each}_token") for each in SPECIAL}
        control = self._tokenizer.all_special_tokens
        self._template = Template(template, special, control, self._owner, model, question_free)

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device.

        Args:
            samples: With the fields `response` and, unless the template is question-free, `question`: B texts each.

        Raises:
            RslitError: A question is empty, a response leaves no room for its question, or a value is NaN.
        """
        rows = self._rows(samples)
        # Rows of like length together waste least on padding.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        with self._source.running(self._batch_size):
            network = self._source.weights("classifier")
            values = torch.empty(len(rows), dtype=torch.float32, device=network.device)
            for start in range(0, len(order), self._batch_size):
                batch = order[start : start + self._batch_size]
                padding = self._pad_token([rows[row] for row in batch])
                # Decoder-only classifiers read the last token that is not this one.
                network.config.get_text_config().pad_token_id = padding
                ids, mask = pad_right([rows[row] for row in batch], padding, network.device)
                logits = network(input_ids=ids, attention_mask=mask).logits.float()
                values[batch] = sum_logits(logits, self._weights)
        missing = values.isnan()
        if missing.any():
            item = samples.items[int(missing.nonzero()[0, 0])]
            raise RslitError(f"{self._owner}: the model gave NaN for item {item!r}; set dtype: float32")
        return values

    def _rows(self, samples: Samples) -> list[list[int]]:
        """Token ids of each sample, cut to the model's length."""
        responses: Sequence[str] = samples["response"]
        questions: Sequence[str] = samples["question"] if self._template.asks else [""] * len(responses)
        filled = []
        for item, question, response in zip(samples.items, questions, responses, strict=True):
            if self._template.asks and not question.strip():
                raise RslitError(f"{self._owner}: the question of item {item!r} is empty; the template needs one")
            text = response.split(".")[0] + "." if self._first_sentence else response
            filled.append(self._template.fill(question, text))
        encoded = self._tokenizer(
            [each.text for each in filled],
            padding=False,
            truncation=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        return [
            # An empty response to a bare `{response}` leaves no token at all; the model still needs one to read.
            self._cut(item, ids, offsets, each.question) or [self._tokenizer.eos_token_id or 0]
            for item, ids, offsets, each in zip(
                samples.items, encoded["input_ids"], encoded["offset_mapping"], filled, strict=True
            )
        ]

    def _cut(self, item: Any, ids: list[int], offsets: list[tuple[int, int]], question: tuple[int, int]) -> list[int]:
        excess = len(ids) - self._max_length
        if excess <= 0:
            return ids
        first, last = question
        inside = [index for index, (start, end) in enumerate(offsets) if first <= start < end <= last]
        if excess >= len(inside):
            rest = f"{len(ids) - len(inside)} tokens without its question" if inside else f"{len(ids)} tokens"
            raise RslitError(
                f"{self._owner}: the text of item {item!r} is {rest}, but the model reads {self._max_length} and its "
                "response is never cut; generate fewer tokens, or raise max_length if it is set"
            )
        drop = set(inside[-excess:])
        return [token for index, token in enumerate(ids) if index not in drop]

    def _pad_token(self, rows: list[list[int]]) -> int:
        """The config's own pad token, else the tokenizer's, else the end token, else any that no row ends in.

        It is masked, but a classifier that reads the last other token would take a row's true end for padding.
        """
        if self._padding is not None:
            return self._padding
        ends = {row[-1] for row in rows}
        candidates = [self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, *range(len(rows) + 1)]
        padding: int = next(token for token in candidates if token is not None and token not in ends)
        return padding

    def _formula(self, formula: str | None, config: Any) -> dict[int, float]:
        has = f"{self._source.model} has {config.num_labels} label{'s' if config.num_labels > 1 else ''}"
        names = ", ".join(f"{label} {config.id2label[label]}" for label in sorted(config.id2label))
        if formula is None:
            if config.num_labels > 1:
                raise RslitError(f"{self._owner}: {has} ({names}); set formula, such as '1-0', to say which counts")
            return {0: 1.0}
        try:
            weights = parse_formula(formula)
        except ValueError as error:
            raise RslitError(f"{self._owner}: formula {formula!r}: {error}") from None
        if max(weights) >= config.num_labels:
            raise RslitError(
                f"{self._owner}: formula {formula!r} needs class {max(weights)}, but {has} ({names}); "
                "mend the formula or choose another model"
            )
        return weights


def sum_logits(logits: Tensor, weights: dict[int, float]) -> Tensor:
    """The formula's value, (B,) of logits (B, C)."""
    return torch.stack([weight * logits[:, label] for label, weight in weights.items()]).sum(dim=0)
