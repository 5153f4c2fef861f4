"""CLIP for rewards: unit vectors of images and texts (Radford et al. 2021, arXiv:2103.00020).

Rewards that use the same CLIP share its weights, and one look at a batch of images serves them all: the aesthetic, the
nsfw and the CLIP score of a batch cost one pass of the image tower.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rslit.errors import RslitError
from rslit.rewards.image_field import pixels
from rslit.rewards.padding import pad_right
from rslit.rewards.pretrained import Dtype, Pretrained, require

__all__ = ["ClipModel"]

# Embeddings of prompts kept: a prompt comes back for every λ of a sweep. 768 floats each are 25 MB in all.
_KEPT = 8192

# The batch that each network saw last, by network and batch size. Networks are kept until the process ends.
_LAST: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}


class ClipModel:
    """A frozen CLIP of the hub or of a local folder, with its image processor and its tokenizer.

    Config, processor and tokenizer are read at once, weights at the first use. See `rslit.rewards.pretrained`.

    Args:
        model: Hub name or local folder of a `CLIPModel`, such as `openai/clip-vit-large-patch14`.
        owner: The reward, for messages.
        batch_size: Images or texts in one forward pass.
        device: "auto" is this process's GPU if there is one, else the CPU; or a device such as `cuda:1`.
        dtype: Of the weights.
        revision: Branch, tag or commit on the hub.
        reads_texts: Whether texts will be embedded: if not, no tokenizer is needed.

    Attributes:
        model: As given.
        size: Length D of the vectors.

    Raises:
        RslitError: The model cannot be found or read, has no weights, is no CLIP of images and texts, or lacks its
            processor or tokenizer; or the batch size or device is wrong.
    """

    def __init__(
        self,
        model: str,
        owner: str,
        batch_size: int = 32,
        device: str = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
        reads_texts: bool = True,
    ) -> None:
        require("PIL", "pillow", owner, "diffusion")
        if batch_size < 1:
            raise RslitError(f"{owner}: batch_size is {batch_size}; it must be 1 or more")
        self.model = model
        self._batch_size = batch_size
        self._source = Pretrained(model, owner, revision, device, dtype, extra="diffusion")
        config: Any = self._source.config()
        if config.model_type != "clip":
            raise RslitError(
                f"{owner}: {model} is of type {config.model_type}, not a CLIP of images and texts; choose one such as "
                "openai/clip-vit-large-patch14"
            )
        self.size: int = config.projection_dim
        self._processor = self._source.image_processor()
        self._tokenizer: Any = None
        if reads_texts:
            self._tokenizer = self._source.tokenizer()
            self._max_length = self._source.max_length(self._tokenizer, config.text_config, None)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def images(self, images: Tensor) -> Tensor:
        """Unit vectors of images.

        Args:
            images: uint8 (B, 3, H, W) on the CPU, B at least 1.

        Returns:
            (B, D) float32 on the model's device.

        Raises:
            RslitError: The weights cannot be read, or the GPU is out of memory.
        """
        network: Any = self._source.weights("encoder")
        key = (id(network), self._batch_size)
        if key in _LAST and torch.equal(_LAST[key][0], images):
            return _LAST[key][1].clone()
        parts = []
        with self._source.running(self._batch_size):
            for chunk in torch.split(images, self._batch_size):
                values = pixels(self._processor, chunk).to(network.device, network.dtype)
                # By its parts: what get_image_features returns has changed between versions of transformers.
                pooled = network.vision_model(pixel_values=values).pooler_output
                parts.append(functional.normalize(network.visual_projection(pooled).float(), dim=-1))
        result = torch.cat(parts)
        _LAST[key] = (images.clone(), result)
        return result.clone()

    def cosines(self, images: Tensor, texts: Tensor) -> Tensor:
        """Cosines of each image with each text, (B, N) float32.

        Args:
            images: (B, D), from `images`.
            texts: (N, D), from `texts` or `prompts`.
        """
        with self._source.running(self._batch_size):
            return (images @ texts.to(images.device).T).clamp(-1.0, 1.0)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts; what is longer than CLIP reads (77 tokens) is cut at its end.

        Args:
            texts: N texts, at least one.

        Returns:
            (N, D) float32 on the model's device.

        Raises:
            RslitError: The weights cannot be read, or the GPU is out of memory.
        """
        network: Any = self._source.weights("encoder")
        rows = self._tokenizer(
            list(texts), truncation=True, max_length=self._max_length, padding=False, return_attention_mask=False
        )["input_ids"]
        parts = []
        with self._source.running(self._batch_size):
            for start in range(0, len(rows), self._batch_size):
                chunk = rows[start : start + self._batch_size]
                ids, mask = pad_right(chunk, self._tokenizer.pad_token_id or 0, network.device)
                pooled = network.text_model(input_ids=ids, attention_mask=mask).pooler_output
                parts.append(functional.normalize(network.text_projection(pooled).float(), dim=-1))
        return torch.cat(parts)

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """As `texts`, each text embedded alone and remembered.

        Alone, since the last bits then do not depend on which texts came with it or are remembered already.
        """
        for text in texts:
            if text not in self._kept:
                self._kept[text] = self.texts([text])[0].cpu()
            self._kept.move_to_end(text)
        rows = torch.stack([self._kept[text] for text in texts])
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return rows.to(self._source.weights("encoder").device)
