"""Faithfulness by a sentence encoder: how close a response is in meaning to its question or reference.

The encoders are those of sentence-transformers, such as all-MiniLM-L6-v2 (Reimers and Gurevych 2019,
arXiv:1908.10084), run through transformers alone: mean of the token embeddings under the attention mask, then unit
length.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from rslit.errors import RslitError
from rslit.rewards.padding import pad_right
from rslit.rewards.pretrained import Dtype, Pretrained
from rslit.samples import Samples

__all__ = ["SimilarityReward"]

# What all-MiniLM-L6-v2 and its kin were trained with; for a folder that does not say.
_USUAL_LENGTH = 256

# Embeddings kept: a prompt comes back for every λ of a sweep and every epoch. 384 floats each are 12 MB in all.
_KEPT = 8192


class SimilarityReward:
    """Cosine similarity of the embeddings of `response` and of another field, in [-1, 1].

    The encoder reads the first `max_length` tokens: of a long article the beginning, where news says what matters. A
    copy of that beginning gets 1, so pair this reward with one that asks for something else.

    Args:
        model: Hub name or local folder of a sentence encoder with mean pooling.
        against: Field to compare with: `question` (an article to be summarised), `reference` or `prompt`.
        name: Column name of its scores.
        batch_size: Responses in one forward pass.
        max_length: Tokens of a text; defaults to `max_seq_length` of the folder's `sentence_bert_config.json`, else
            256 or what the model reads.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights: float32, bfloat16 or float16.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Let the model's folder run code of its own.

    Raises:
        RslitError: The model cannot be found or read, has no weights, pools otherwise, or `max_length` or the device is
            wrong.
    """

    unit = "cosine similarity"
    range = (-1.0, 1.0)

    def __init__(
        self,
        model: str,
        against: Literal["question", "reference", "prompt"] = "question",
        name: str = "faithful",
        batch_size: int = 64,
        max_length: int | None = None,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._owner = f"SimilarityReward '{name}'"
        if batch_size < 1:
            raise RslitError(f"{self._owner}: batch_size is {batch_size}; it must be 1 or more")
        self.name = name
        self._against = against
        self._batch_size = batch_size
        self._source = Pretrained(model, self._owner, revision, device, dtype, trust_remote_code)
        config = self._source.config()
        self._tokenizer = self._source.tokenizer()
        self._check_pooling()
        own = self._entries("sentence_bert_config.json").get("max_seq_length") or _USUAL_LENGTH
        readable = self._source.max_length(self._tokenizer, config, max_length)
        self._max_length = readable if max_length else min(own, readable)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, samples: Samples) -> Tensor:
        """Scores B samples, (B,) float32 on the model's device; NaN where there is no reference.

        Args:
            samples: With the fields `response` and that of `against`: B texts each. A response may be empty: its
                embedding is that of the encoder's frame tokens.

        Raises:
            RslitError: A question or prompt is empty.
        """
        texts: Sequence[str] = samples[self._against]
        for item, text in zip(samples.items, texts, strict=True):
            if not text.strip() and self._against != "reference":
                raise RslitError(f"{self._owner}: the {self._against} of item {item!r} is empty")
        responses: Sequence[str] = samples["response"]
        with self._source.running(self._batch_size):
            chunks = [responses[i : i + self._batch_size] for i in range(0, len(responses), self._batch_size)]
            ours = torch.cat([self._embed(chunk) for chunk in chunks])
            theirs = torch.stack([self._remembered(text) for text in texts]).to(ours.device)
        # Unit vectors that are equal can be 1.0000001 apart in rounding.
        values = (ours * theirs).sum(dim=-1).clamp(-1.0, 1.0)
        absent = torch.tensor([not text.strip() for text in texts], device=values.device)
        return values.masked_fill(absent, math.nan)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, D) float32 of B texts."""
        network = self._source.weights("encoder")
        rows = self._tokenizer(
            [text.strip() for text in texts],
            truncation=True,
            max_length=self._max_length,
            padding=False,
            return_attention_mask=False,
        )["input_ids"]
        ids, mask = pad_right(rows, self._tokenizer.pad_token_id or 0, network.device)
        states = network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).to(states.dtype)
        return functional.normalize((states * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)

    def _remembered(self, text: str) -> Tensor:
        """The text's unit vector (D,) on the CPU.

        Embedded alone, not in a batch: the last bits then do not depend on which texts came with it or are remembered
        already, and a resumed run gets the rewards that it would have got.
        """
        if text not in self._kept:
            self._kept[text] = self._embed([text])[0].cpu()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(text)
        return self._kept[text]

    def _check_pooling(self) -> None:
        pooling = self._entries("1_Pooling/config.json")
        others = sorted(key for key, on in pooling.items() if key.startswith("pooling_mode") and on is True)
        if pooling and others != ["pooling_mode_mean_tokens"]:
            raise RslitError(
                f"{self._owner}: {self._source.model} pools by {', '.join(others) or 'something else'}, not by the "
                "mean of its tokens; choose an encoder that does, such as sentence-transformers/all-MiniLM-L6-v2"
            )

    def _entries(self, name: str) -> dict[str, int | bool]:
        """Entries of a JSON file of the model, none if it has no such file."""
        file = self._source.file(name)
        if file is None:
            return {}
        try:
            entries: dict[str, int | bool] = dict(json.loads(file.read_text(encoding="utf-8")))
        except (TypeError, ValueError):
            raise RslitError(f"{self._owner}: {file} is no JSON object; replace it") from None
        return entries
