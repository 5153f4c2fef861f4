"""What every class of vision-language models has in common: an image is looked at once, a decoder answers.

The families differ in how the decoder gets to see the image (cross-attention, or image tokens before the text) and in
what stands before an answer. A `Decoder` hides both: to `generate` and `score_answers` of `rslit.language` it is a
causal language model, so that noise, lengths, masks and log-probabilities are theirs.

Notation: N images with their texts, G answers to each, P tokens before an answer, S image positions, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rslit.language.padding import Prompts, left_pad
from rslit.language.shared_prompts import takes

__all__ = ["Decoder", "Family", "left_padded", "prompts_of", "repeated", "right_padded", "seen", "token_ids"]


class Decoder(nn.Module):
    """A decoder together with what it looks at.

    Args:
        module: What generates: a model of transformers or its text part.
        prompts: What stands before the answers, N x G rows.
        inputs: What each call takes besides tokens, N x G rows.
        around: Entered around each call.
    """

    def __init__(
        self,
        module: nn.Module,
        prompts: Prompts,
        inputs: Mapping[str, Tensor],
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__()
        self.module: Any = module
        self.prompts = prompts
        self.inputs = dict(inputs)
        self.around = around

    @property
    def config(self) -> Any:
        """The module's configuration."""
        return self.module.config

    @property
    def generation_config(self) -> Any:
        """The module's settings of ``generate``, which can be replaced."""
        return self.module.generation_config

    @generation_config.setter
    def generation_config(self, config: Any) -> None:
        self.module.generation_config = config

    def get_output_embeddings(self) -> Any:
        """The output layer, under the name that transformers has for it."""
        return self.module.get_output_embeddings()

    # Without `past_key_values`: rows with the same prompt may look at different images, so they share no cache.
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, logits_to_keep: int, use_cache: bool
    ) -> Any:
        """The module's output for the rows of `prompts`, followed by answers or not."""
        given = {"position_ids": position_ids, "logits_to_keep": logits_to_keep, "use_cache": use_cache}
        known = {name: value for name, value in given.items() if takes(self.module, name)}
        with self.around():
            return self.module(input_ids=input_ids, attention_mask=attention_mask, **known, **self.inputs)

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Tensor:
        """The module's ``generate``: prompts and answers."""
        with self.around():
            out: Tensor = self.module.generate(
                input_ids=input_ids, attention_mask=attention_mask, **self.inputs, **settings
            )
        return out


@dataclass(frozen=True)
class Family:
    """How one class of transformers is handled.

    Attributes:
        tower: A model's image encoder.
        look: What the encoder makes of pixels (N, 3, H, W), first dimension N.
        ask: Turns N texts, given a model, its tokenizer and a pad token, into tensors of N rows.
        decoder: The decoder of a model for features, the tensors of `ask` and G.
        lora: Regular expression of the layers that get adapters unless others are named: attention in the text part.
        unused: Patterns of parameters that no answer depends on; they are never trained.
        eos: End tokens of a model, where neither tokenizer nor generation config names them.
        never: Tokens that no answer may hold, since they would be taken for something else.
        opening: Tokens that a model was taught to begin its answers with, after what `decoder` puts before them.
        texts: Whether it cannot do without texts.
    """

    tower: Callable[[Any], nn.Module]
    look: Callable[[Any, Tensor], Tensor]
    ask: Callable[[Any, Any, Sequence[str], int], dict[str, Tensor]]
    decoder: Callable[[Any, Tensor, Mapping[str, Tensor], int], Decoder]
    lora: str
    unused: tuple[str, ...] = ()
    eos: Callable[[Any], tuple[int, ...]] | None = None
    never: Callable[[Any], tuple[int, ...]] | None = None
    opening: Callable[[Any], tuple[int, ...]] | None = None
    texts: bool = False


@contextmanager
def seen(tower: nn.Module) -> Iterator[None]:
    """Lets features through an image encoder as they are, for the length of a ``with`` block.

    For models that take nothing but pixels: given features as ``pixel_values`` (N, S, 1, D), which have four
    dimensions as pixels have, they treat them as their own encoder's output.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    def forward(pixel_values: Tensor, **kwargs: Any) -> Any:
        return BaseModelOutputWithPooling(last_hidden_state=pixel_values.squeeze(2))

    tower.forward = forward
    try:
        yield
    finally:
        del tower.forward


def left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, Tensor]:
    """Token ids as a batch for a decoder."""
    ids, mask = left_pad(rows, pad_id)
    return {"input_ids": ids, "attention_mask": mask.long()}


def right_padded(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, Tensor]:
    """Token ids as a batch for a text encoder, whose positions begin with the first token."""
    ids, mask = left_pad([row[::-1] for row in rows], pad_id)
    return {"input_ids": ids.flip(1), "attention_mask": mask.flip(1).long()}


def prompts_of(encoded: Mapping[str, Tensor], group: int) -> Prompts:
    """The prompts of a decoder, each of them G times."""
    prompts = Prompts(encoded["input_ids"], encoded["attention_mask"].bool()).trimmed()
    return Prompts(*(repeated(column, group) for column in prompts))


def repeated(x: Tensor, group: int) -> Tensor:
    """Each row G times, side by side."""
    return x if group == 1 else x.repeat_interleave(group, 0)


def token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts as they stand: special tokens only where the text has them."""
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
