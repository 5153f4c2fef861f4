"""Vision-language models as policies: images and texts in, sampled answers and their log-probabilities out.

Notation: N images (with their texts), G answers to each in rows n * G ... n * G + G - 1, R answer tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rslit.errors import RslitError
from rslit.language.adapter import adapter_config, continued_adapter, fresh_adapter
from rslit.language.generation import Answers, evaluating, generate
from rslit.language.load import find_eos_ids, find_pad_id, load_errors, load_tokenizer, switch_dropout_off
from rslit.language.options import PolicyOptions
from rslit.language.scoring import Scored, score_answers
from rslit.soup import base_fingerprint
from rslit.vision.families import FAMILIES, Decoder, Family
from rslit.vision.families.base import token_ids
from rslit.vision.load import freeze, load_image_processor, load_model
from rslit.vision.options import VisionOptions

if TYPE_CHECKING:
    from PIL import Image

    from rslit.vision.ensembles import Members

__all__ = ["VisionPolicy", "build_vision_policy"]

_PIXELS, _FEATURES = "pixel_values", "image_features"


@dataclass(frozen=True)
class VisionPolicy:
    """A policy and what belongs to it.

    Whatever takes a `model` uses the policy's own without one; another must be of the same class (a reference).

    Attributes:
        model: A ``PeftModel`` (LoRA) or the bare model.
        tokenizer: Its tokenizer.
        image_processor: Its image processor.
        family: How its class is handled.
        pad_id: Token that fills batches.
        eos_ids: Tokens that end an answer; may be empty.
        never: Tokens that are never sampled and have no probability: the pad token, unless it ends answers, and those
            that stand for the image.
        base: ``name``, ``class`` and ``fingerprint`` of the base, for the ingredient; ``revision`` and ``processor`` as
            given.
        adapter: PEFT's adapter configuration; None without adapters.
    """

    model: nn.Module
    tokenizer: Any
    image_processor: Any
    family: Family
    pad_id: int
    eos_ids: tuple[int, ...]
    never: tuple[int, ...]
    base: dict[str, str]
    adapter: dict[str, Any] | None

    @property
    def frozen_encoder(self) -> bool:
        """Whether nothing of the image encoder is trained."""
        return not any(p.requires_grad for p in self.family.tower(_bare(self.model)).parameters())

    def encode(
        self, images: Sequence[Image.Image], texts: Sequence[str] | None = None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Makes a batch.

        Args:
            images: RGB images.
            texts: A question, an expression or the beginning of a caption for each; None: nothing.
            device: Where the batch goes.

        Returns:
            Tensors of N rows: ``pixel_values`` (N, 3, H, W), ``input_ids`` and ``attention_mask`` (N, T).

        Raises:
            RslitError: The model needs texts, or there are not as many of them as images.
        """
        return {**self.ask(texts, len(images), device), _PIXELS: self.pixels(images, device)}

    def pixels(self, images: Sequence[Image.Image], device: torch.device | str = "cpu") -> Tensor:
        """The part of a batch that is of the images."""
        pixels: Tensor = self.image_processor(images=list(images), return_tensors="pt")[_PIXELS]
        return pixels.to(device)

    def ask(self, texts: Sequence[str] | None, images: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The part of a batch that is of the texts, for so many images; see `encode`."""
        if texts is None and self.family.texts:
            raise RslitError(f"a {type(_bare(self.model)).__name__} answers questions; give one with each image")
        texts = [""] * images if texts is None else texts
        if len(texts) != images:
            raise RslitError(f"{images} images and {len(texts)} texts; give one text for each image")
        asked = self.family.ask(_bare(self.model), self.tokenizer, texts, self.pad_id)
        return {name: value.to(device) for name, value in asked.items()}

    def look(self, pixels: Tensor) -> Tensor:
        """What the image encoder makes of pixels, first dimension N; without gradients where it is frozen."""
        return self._look(_bare(self.model), {_PIXELS: pixels})

    def features(self, encoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with ``image_features``, the frozen image encoder's output, in place of ``pixel_values``.

        Everything below gives the same numbers for it, so that a caller can keep the features of each image.

        Raises:
            RslitError: The image encoder is trained, so they would change.
        """
        if not self.frozen_encoder:
            raise RslitError("the image encoder is trained, so its output cannot be kept; freeze it (policy.trained)")
        kept = {name: value for name, value in encoded.items() if name != _PIXELS}
        return {**kept, _FEATURES: self._look(_bare(self.model), encoded)}

    def sample(
        self,
        encoded: Mapping[str, Tensor],
        lengths: Tensor,
        noise: torch.Generator | None = None,
        copies: int = 1,
        group: int = 1,
        num_beams: int = 1,
        suppressed: Sequence[int] = (),
        stop_at_eos: bool = True,
        temperature: float = 1.0,
        model: nn.Module | None = None,
        ensemble: Members | None = None,
    ) -> Answers:
        """Generates answers; see :func:`rslit.language.generate`.

        Args:
            encoded: A batch of N rows.
            lengths: int64 (N x G,), at most so many tokens per answer.
            noise: Generator of the sampling noise, on the model's device; None decodes greedily.
            copies: The N rows are so many copies of the same images, one after the other, that share their noise.
            group: G. The image encoder, and a text encoder, run once for all of them.
            num_beams: Beams of a search, without noise.
            suppressed: Tokens that are not generated either.
            stop_at_eos: Whether an end token ends an answer.
            temperature: Of the sampling.
            model: See above.
            ensemble: Experts whose predictions are interpolated at every step, in place of the model's own.
        """
        model = self.model if model is None else model
        with torch.no_grad(), evaluating(model):
            decoder = self._decoder(model, encoded, group)
            speaker: nn.Module = decoder
            if ensemble is not None:
                from rslit.vision.ensembles import Ensemble

                speaker = Ensemble(model, ensemble, partial(self._decoder, model, encoded, group * num_beams))
            return generate(
                speaker,
                decoder.prompts,
                lengths,
                pad_id=self.pad_id,
                eos_ids=self.eos_ids if stop_at_eos else (),
                suppressed=self._suppressed(suppressed),
                temperature=temperature,
                noise=noise,
                copies=copies,
                num_beams=num_beams,
            )

    def score(
        self,
        encoded: Mapping[str, Tensor],
        tokens: Tensor,
        mask: Tensor,
        group: int = 1,
        temperature: float = 1.0,
        suppressed: Sequence[int] = (),
        entropy: bool = False,
        model: nn.Module | None = None,
    ) -> Scored:
        """Scores answers, teacher-forced; see :func:`rslit.language.score_answers`.

        Args:
            encoded: A batch of N rows.
            tokens: int64 (N x G, R), padded on the right.
            mask: bool (N x G, R), which of them count.
            group: G.
            temperature: As when sampling.
            suppressed: As when sampling.
            entropy: Whether to compute the entropy too.
            model: See above.
        """
        decoder = self._decoder(self.model if model is None else model, encoded, group)
        return score_answers(
            decoder,
            decoder.prompts,
            tokens,
            mask,
            temperature=temperature,
            suppressed=self._suppressed(suppressed),
            entropy=entropy,
        )

    def text(self, tokens: Tensor, mask: Tensor, skip_special: bool = True) -> list[str]:
        """Answers as text, without what does not count."""
        rows = [row[own].tolist() for row, own in zip(tokens.cpu(), mask.cpu(), strict=True)]
        return [self.tokenizer.decode(row, skip_special_tokens=skip_special).strip() for row in rows]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Answers as the policy would write them, to be learnt: an end token included, where it has one."""
        opening = self.family.opening(_bare(self.model)) if self.family.opening is not None else ()
        ended = self.eos_ids[:1]
        return [[*opening, *ids, *ended] for ids in token_ids(self.tokenizer, texts)]

    def save(self, folder: str | Path) -> None:
        """Writes the model (its adapter, if it has one), the tokenizer and the image processor as the hub has them."""
        saver: Any = self.model
        saver.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def _suppressed(self, more: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys([*self.never, *more]))

    def _decoder(self, model: Any, encoded: Mapping[str, Tensor], group: int) -> Decoder:
        bare = _bare(model)
        return self.family.decoder(bare, self._look(bare, encoded), encoded, group)

    def _look(self, bare: Any, encoded: Mapping[str, Tensor]) -> Tensor:
        if _FEATURES in encoded.keys():  # noqa: SIM118  # a TensorDict, too
            return encoded[_FEATURES]
        weights = list(self.family.tower(bare).parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(p.requires_grad for p in weights)):
            return self.family.look(bare, encoded[_PIXELS].to(weights[0].dtype))


def build_vision_policy(options: VisionOptions) -> VisionPolicy:
    """Loads a model with its tokenizer and image processor and puts the adapter on.

    Raises:
        RslitError: The class is not supported, or something is missing, damaged or does not belong together.
    """
    if sum(x is not None for x in (options.lora, options.adapter, options.trained)) > 1:
        raise RslitError("policy: give one of lora (a fresh adapter), adapter (one to continue) and trained, not two")
    parts = options.processor or options.base
    language = PolicyOptions(options.base, adapter=options.adapter, revision=options.revision)
    with load_errors(options.base):
        tokenizer = load_tokenizer(replace(language, base=parts))
        image_processor = load_image_processor(parts, options.revision)
        model, kind = load_model(options)
    family = FAMILIES[kind]
    eos_ids = family.eos(model) if family.eos is not None else find_eos_ids(language, tokenizer, model)
    rows = model.config.get_text_config(decoder=True).vocab_size
    if len(tokenizer) > rows:
        raise RslitError(
            f"policy.base: the tokenizer of '{parts}' has {len(tokenizer)} tokens, '{options.base}' only {rows}; give "
            "the tokenizer that belongs to the model"
        )
    pad_id = find_pad_id(language, tokenizer, eos_ids, rows)
    never = (() if pad_id in eos_ids else (pad_id,)) + (family.never(model) if family.never is not None else ())
    base = {"name": options.base, "class": kind, "fingerprint": base_fingerprint(model)}
    for key, value in (("revision", options.revision), ("processor", options.processor)):
        if value is not None:
            base[key] = value
    if options.lora is not None:
        targets = options.lora.target_modules or family.lora
        model = fresh_adapter(model, replace(options.lora, target_modules=targets), options.base)
    elif options.adapter is not None:
        model = continued_adapter(model, language)
    else:
        freeze(model, options.trained, family.unused)
    switch_dropout_off(model)
    adapter = adapter_config(model) if hasattr(model, "peft_config") else None
    return VisionPolicy(model, tokenizer, image_processor, family, pad_id, eos_ids, never, base, adapter)


def _bare(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
